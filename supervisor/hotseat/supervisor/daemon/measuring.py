"""Measures what is too dear for every question: footprints of our processes, counts on disk."""

import time

from msgspec.structs import replace

from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.daemon.kept_figures import KeptFigures
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.rules.overhead import Quiet
from hotseat.supervisor.requests.worker_reports import WorkerReports
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.seat.rules.wear import worn_reason
from hotseat.supervisor.seat.runner import SeatRunner


class Measuring:
    """Notes what it measures in `figures`, the planner's own memory and the worker's wear."""

    def __init__(
        self,
        *,
        runner: SeatRunner,
        planner: Planner,
        works: Works,
        reports: WorkerReports,
        keeper: KvKeeper,
        catalogue: Catalogue,
        figures: Figures,
        kept: KeptFigures,
    ) -> None:
        self._seat = runner.seat
        self._planner = planner
        self._works = works
        self._reports = reports
        self._keeper = keeper
        self._catalogue = catalogue
        self._figures = figures
        self._kept = kept
        self._counted: tuple[int, int, int] | None = None
        self._quiet = Quiet()

    async def measure(self) -> None:
        """Takes about a millisecond, in which the loop does other things too."""
        own, pid = self._planner.own, self._seat.worker_pid
        own.worker_pid = pid or own.worker_pid
        self._planner.measure_again()
        if pid is not None:
            await self._note_worker(own.worker_bytes)
        if (beat := self._seat.beat) is not None:
            self._planner.note_reading(beat.streamed_bytes, beat.streamed_s)
        changed = self._keeper.bytes_written, self._keeper.files_unlinked, self._works.ended_count
        if changed != self._counted:
            self._counted = changed
            totals = await self._catalogue.totals()
            self._figures.kv_disk_bytes = sum(total.size_bytes for total in totals)
            self._figures.sessions_total = len(await self._catalogue.session_summaries())

    @property
    def worn_reason(self) -> str:
        """Why the seated worker should be a fresh one; empty when it need not."""
        wear = self._reports.wear
        return worn_reason(wear) if wear.epoch == self._seat.state.epoch else ""

    async def _note_worker(self, footprint: int | None) -> None:
        """What it holds beside weights and contexts: for plans, and as a sign of wear."""
        seat, beat = self._seat, self._seat.beat
        if footprint is None or beat is None or not seat.admits:
            return
        if self._works.running:
            return
        self._reports.note_footprint(footprint - beat.live_kv_bytes - beat.cache_bytes)
        now = time.monotonic()
        self._quiet = self._quiet.seen((seat.state.epoch, self._works.ended_count), now)
        if seat.record is not None and self._quiet.is_due(now):
            self._quiet = replace(self._quiet, is_sampled=True)
            overhead = footprint - beat.active_bytes - beat.cache_bytes
            await self._kept.note_overhead(seat.record, overhead)
