"""What the daemon does by the clock: vanished clients, quiet streams, idle contexts, numbers."""

import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.daemon.kept_figures import KeptFigures
from hotseat.supervisor.daemon.measuring import Measuring
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.loop.rhythm import Rhythm
from hotseat.supervisor.loop.tasks import outcome
from hotseat.supervisor.machine.locks import SeatLock
from hotseat.supervisor.machine.time_awake import AwakeClock
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.ports.client_port import ClientPort
from hotseat.supervisor.requests.accepting import Acceptor

TICK_S: Final = 0.25
MEASURE_S: Final = 1.0
REST_MEASURE_S: Final = 5.0
PRUNE_S: Final = 60.0
log = structlog.get_logger()


class Housekeeping:
    """What is looked after once a minute."""

    def __init__(self, catalogue: Catalogue, lock: SeatLock, planner: Planner) -> None:
        self._catalogue = catalogue
        self._lock = lock
        self._planner = planner
        self._at = time.monotonic()

    async def tick(self, now: float) -> None:
        """Forgets old replies; keeps the seat's lock from being tidied away."""
        if now - self._at < PRUNE_S:
            return
        self._at = now
        limits = self._planner.settings.limits
        await self._catalogue.prune_replies(
            time.time(), limits.reply_keep_s, limits.reply_keep_bytes
        )
        if self._lock.is_held and not self._lock.refresh():
            log.error("seat.lock_replaced")


class Upkeep:
    """Runs by a clock. `ticks` are the parts that only have to be told what time it is."""

    def __init__(
        self,
        *,
        rhythm: Rhythm,
        port: ClientPort,
        ticks: Sequence[Callable[[float], None]],
        acceptor: Acceptor,
        measuring: Measuring,
        kept: KeptFigures,
        dispatcher: Dispatcher,
        housekeeping: Housekeeping,
    ) -> None:
        self._rhythm = rhythm
        self._port = port
        self._ticks = ticks
        self._acceptor = acceptor
        self._measuring = measuring
        self._kept = kept
        self._dispatcher = dispatcher
        self._housekeeping = housekeeping
        self._measured_at = time.monotonic()
        self._awake = AwakeClock(time.monotonic())

    async def run(self) -> None:
        """Ticks until it is cancelled; one bad tick does not end the ticking."""
        while True:
            await self._rhythm.pause(TICK_S)
            error = await outcome(self._tick(time.monotonic()), "upkeep.defect")
            if error is not None:
                log.warning("upkeep.failed", code=error.code, reason=error.message)

    async def _tick(self, now: float) -> None:
        lost_s = self._awake.take_lost_s(now)
        if lost_s:
            self._port.forgive(lost_s)
        self._port.drop_silent(now)
        for tick in self._ticks:
            tick(now)
        await self._acceptor.expire(now)
        measure_s = REST_MEASURE_S if self._rhythm.is_resting() else MEASURE_S
        if now - self._measured_at >= measure_s:
            self._measured_at = now
            await self._measuring.measure()
            if reason := self._measuring.worn_reason:
                self._dispatcher.recycle(reason)
            await self._kept.keep(now)
        await self._housekeeping.tick(now)
