"""What the seat's transitions mean for requests and KV. Who is told of them is `seat_news`."""

import time
from collections.abc import Callable

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.link_reports import (
    BlockWritten,
    FromWorker,
    Lookup,
    Quarantined,
    TailWritten,
    WriteFailed,
)
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.worker_reports import WorkerReports
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.seat.rules.states import Fault
from hotseat.supervisor.seat.worker_process import WorkerExit


class SeatConsequences:
    """Implements `SeatHost`."""

    def __init__(
        self,
        works: Works,
        runs: WorkRuns,
        reports: WorkerReports,
        keeper: KvKeeper,
        exit_daemon: Callable[[], None],
    ) -> None:
        self._works = works
        self._runs = runs
        self._reports = reports
        self._keeper = keeper
        self._exit_daemon = exit_daemon

    @property
    def up_next(self) -> str | None:
        """The model that probably gets the seat next; None when nobody asks for another one."""
        return self._works.forecaster.up_next

    @property
    def awaits_first_token(self) -> bool:
        """True while a prompt is restored or computed."""
        return self._works.has_prompt_running

    def admission_changed(self) -> None:
        """A drain begins, and may be over already; or requests may start again."""
        self._works.changed.set()

    def suspend_running(self) -> None:
        """They go on when their model is back."""
        self._runs.suspend_running()

    def cancel_running(self) -> None:
        """Partial turns are kept."""
        self._runs.cancel_running()

    def running_lost(self, fault: Fault) -> None:
        """The worker is gone with what it ran, and nothing is read any more."""
        self._keeper.release_all()
        self._runs.running_lost(fault)

    async def contexts_committed(self) -> HotseatError | None:
        """All that the worker reported is in the catalogue."""
        return await self._keeper.flush()

    def worker_said(self, message: FromWorker, record: ModelRecord) -> bool:
        """KV to its keeper, the rest to the request it is about."""
        match message:
            case BlockWritten():
                self._keeper.block_written(message, record)
            case TailWritten():
                self._keeper.tail_written(message, record)
            case WriteFailed():
                self._keeper.write_failed(message)
            case Quarantined():
                self._keeper.quarantined(message, record)
            case Lookup(request=request):
                if self._reports.is_running(request):
                    session = self._reports.session_of(request)
                    self._keeper.lookup(message, record, session)
            case _:
                return self._reports.hear(message)
        return False

    def worker_exited(self, ended: WorkerExit) -> None:
        """What a worker that crashed had begun to write is of no use."""
        if ended.returncode:
            self._keeper.worker_died(time.time())

    def exit(self) -> None:
        """The seat is empty."""
        self._exit_daemon()
