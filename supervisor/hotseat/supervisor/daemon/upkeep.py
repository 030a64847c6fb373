"""What the daemon does by the clock: vanished clients, quiet streams, idle contexts, numbers."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, RequestKey
from hotseat.protocol.replies import Cause
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.dispatch.asked_swaps import AskedSwaps
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.loop.rhythm import Rhythm
from hotseat.supervisor.machine.time_awake import AwakeClock
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.ports.client_port import ClientPort
from hotseat.supervisor.requests.accepting import Acceptor
from hotseat.supervisor.requests.ends import WorkEnds
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.works import Work, Works
from hotseat.supervisor.seat.rules.wear import worn_reason
from hotseat.supervisor.seat.runner import SeatRunner
from hotseat.supervisor.settings.values import Settings

TICK_S: Final = 0.25
MEASURE_S: Final = 1.0
REST_MEASURE_S: Final = 5.0
PRUNE_S: Final = 60.0
HOLD_S: Final = 60.0
"""How long a session's request without a reader goes on before it is cancelled."""
RETURN_S: Final = 0.5
"""The same for work that is to be cancelled: who lost only the connection is back by then."""
log = structlog.get_logger()


class Upkeep:
    """The daemon's ticker, and what happens to requests nobody reads."""

    def __init__(
        self,
        *,
        works: Works,
        runs: WorkRuns,
        ends: WorkEnds,
        outbox: Outbox,
        desk: Acceptor,
        runner: SeatRunner,
        planner: Planner,
        keeper: KvKeeper,
        catalogue: Catalogue,
        telemetry: Figures,
        settings: Settings,
        dispatcher: Dispatcher,
        swaps: AskedSwaps,
        port: Callable[[], ClientPort],
        rhythm: Rhythm,
    ) -> None:
        self._works = works
        self._runs = runs
        self._ends = ends
        self._outbox = outbox
        self._desk = desk
        self._runner = runner
        self._planner = planner
        self._keeper = keeper
        self._catalogue = catalogue
        self._telemetry = telemetry
        self.settings = settings
        self._port = port
        self._rhythm = rhythm
        self._dispatcher = dispatcher
        self._swaps = swaps
        self._idle_since = time.monotonic()
        self.keep_costs: Callable[[float], Awaitable[None]] = _keep_nothing
        self._unread: dict[RequestKey, float] = {}
        self._measured_at = self._pruned_at = time.monotonic()
        self._counted: tuple[int, int, float] | None = None
        self._awake = AwakeClock(time.monotonic())
        telemetry.idle_left_s = lambda: self._idle_left_s(time.monotonic())

    def abandoned(self, work: Work) -> None:
        """The last reader of a work is gone: `on_vanish` says what that means."""
        default = "cancel" if work.request.session is None else "hold"
        policy = work.request.on_vanish or default
        log.info("request.abandoned", request=work.request_id, policy=policy)
        if policy != "finish":
            kept_s = RETURN_S if policy == "cancel" else HOLD_S
            self._unread[work.key] = time.monotonic() + kept_s

    def _end_held(self, now: float) -> None:
        for key, until in tuple(self._unread.items()):
            work = self._works.get(key)
            if work is None or work.readers or work.end is not None:
                del self._unread[key]
            elif now >= until:
                del self._unread[key]
                self._runs.cancel(work)

    async def run(self) -> None:
        """Ticks until it is cancelled; one bad tick does not end the ticking."""
        while True:
            await self._rhythm.pause(TICK_S)
            try:
                await self._tick(time.monotonic())
            except HotseatError as error:
                log.warning("upkeep.failed", code=error.code, reason=error.message)
            except Exception:  # task root
                log.exception("upkeep.defect")

    async def _tick(self, now: float) -> None:
        lost_s = self._awake.take_lost_s(now)
        if lost_s:
            self._port().forgive(lost_s)
        self._port().drop_silent(now)
        self._outbox.tick(now)
        self._swaps.tick(now)
        if self._works.running:
            self._idle_since = now
        self._end_held(now)
        self._checkpoint_idle(now)
        self._release_idle(now)
        await self._desk.expire(now)
        measure_s = REST_MEASURE_S if self._rhythm.is_resting() else MEASURE_S
        if now - self._measured_at >= measure_s:
            self._measured_at = now
            await self.measure()
            self._recycle_worn()
            await self.keep_costs(now)
        if now - self._pruned_at >= PRUNE_S:
            self._pruned_at = now
            limits = self.settings.limits
            await self._catalogue.prune_replies(
                time.time(), limits.reply_keep_s, limits.reply_keep_bytes
            )
            if self._runner.lock.is_held and not self._runner.lock.refresh():
                log.error("seat.lock_replaced")

    def _checkpoint_idle(self, now: float) -> None:
        """Tails of quiet sessions go to disk after a while, without a swap."""
        model = self._runner.state.model
        if self._runner.admits and model is not None:
            quiet_s = self.settings.kv.idle_checkpoint_s
            self._ends.quiet.checkpoint(self._works, model, now, quiet_s, self._runner.send)

    def _release_idle(self, now: float) -> None:
        """Memory that nobody used for long goes back to the machine."""
        if not self._runner.admits or self._works.running or self._dispatcher.releases.is_asked:
            return
        left_s = self._idle_left_s(now)
        if left_s is not None and left_s <= 0.0:
            self._idle_since = now  # one that fails is tried again, but not at every tick
            cause = Cause(client="hotseat", request_id="keep_alive", model_asked="")
            self._dispatcher.releases.ask(cause, None)
            self._dispatcher.kick()

    def _idle_left_s(self, now: float) -> float | None:
        """Until the seated model is given up for being idle; None for one that is not."""
        state = self._runner.state
        chosen = self.settings.model(ModelName(state.model or ""))
        if not self._runner.admits or self._works.running or chosen.pin:
            return None
        idle_since = max(self._idle_since, state.seated_at)
        return idle_since + (chosen.keep_alive_s or self.settings.seat.keep_alive_s) - now

    async def _learn_overhead(self, footprint: int | None) -> None:
        """What a worker holds beside weights and KV, remembered for the next plan."""
        runner = self._runner
        if footprint is None or runner.beat is None or runner.record is None or not runner.admits:
            return
        overhead = footprint - runner.beat.active_bytes
        if self._planner.note_overhead(runner.record, overhead):
            key = f"overhead:{runner.record.tag}"
            await self._catalogue.meta_set(key, str(self._planner.overheads[runner.record.tag]))

    def _note_wear(self, footprint: int | None) -> None:
        beat = self._runner.beat
        if footprint is None or beat is None or self._works.running or not self._runner.admits:
            return
        quiet = footprint - beat.live_kv_bytes - beat.cache_bytes
        self._runs.wear = self._runs.wear.with_footprint(self._runner.state.epoch, quiet)

    async def recall_overheads(self) -> None:
        """What earlier runs of the daemon measured."""
        for record in self._planner.registry.records():
            known = await self._catalogue.meta_get(f"overhead:{record.tag}")
            if known is not None and known.isdigit():
                self._planner.overheads[record.tag] = int(known)

    def _recycle_worn(self) -> None:
        """A swap of the model to itself when nobody would notice."""
        reason = worn_reason(self._runs.wear)
        if reason and self._runs.wear.epoch == self._runner.state.epoch:
            self._dispatcher.recycle(reason)

    async def measure(self) -> None:
        """Refreshes the numbers that are too dear for every question."""
        pid = self._runner.worker_pid
        if pid is not None:
            footprint = self._planner.probe.quick_footprint(pid)
            self._telemetry.worker_footprint_bytes = footprint
            await self._learn_overhead(footprint)
            self._note_wear(footprint)
        standby = self._runner.standby.pid
        if standby is not None:
            self._planner.standby_bytes = self._planner.probe.quick_footprint(standby) or 0
        else:
            self._planner.standby_bytes = 0
        changed = (
            self._keeper.bytes_written,
            self._keeper.files_unlinked,
            self._ends.last_end_at,
        )
        if changed == self._counted:
            return
        self._counted = changed
        self._telemetry.kv_disk_bytes = sum(
            total.size_bytes for total in await self._catalogue.totals()
        )
        self._telemetry.sessions_total = len(await self._catalogue.session_summaries())


async def _keep_nothing(_now: float) -> None:
    """Stands in until the daemon says who learns costs."""
