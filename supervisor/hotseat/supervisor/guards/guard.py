"""The daemon's guards, run by one clock of their own: stuck workers, memory, sleep, unclean boots.

Apart from `daemon/upkeep.py`, whose ticks wait for disk and threads: a guard has to look on time.
"""

import asyncio
import time
from typing import Final

import structlog
from msgspec import Struct

from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.guards.memory_level import MemoryLevel
from hotseat.supervisor.guards.memory_pressure import PressureWatch
from hotseat.supervisor.guards.sleep_prevention import PowerWatch
from hotseat.supervisor.guards.stuck_worker import StallWatch
from hotseat.supervisor.guards.unclean_boots import BootMarks
from hotseat.supervisor.guards.wake import WakeWatch
from hotseat.supervisor.loop.rhythm import Rhythm
from hotseat.supervisor.loop.tasks import outcome
from hotseat.supervisor.machine.leftover_processes import end_leftovers, home_mark
from hotseat.supervisor.machine.time_awake import whole_time
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.seat.rules.states import Phase
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.home import Home

LOOK_S: Final = 0.2
log = structlog.get_logger()


class Watches(Struct, frozen=True, kw_only=True):
    """Who looks."""

    stalls: StallWatch
    memory: MemoryLevel
    pressure: PressureWatch
    power: PowerWatch
    wakes: WakeWatch
    boots: BootMarks


class Guard:
    """Owns the watches' clock."""

    def __init__(
        self,
        watches: Watches,
        seat: Seat,
        figures: Figures,
        own: OwnMemory,
        home: Home,
        rhythm: Rhythm,
    ) -> None:
        self._watches = watches
        self._seat = seat
        self._figures = figures
        self._own = own
        self._home = home
        self._rhythm = rhythm

    async def recall(self) -> None:
        """Ends what workers of an earlier daemon left, and looks how the machine went down."""
        ended = await asyncio.to_thread(end_leftovers, home_mark(self._home.root))
        if ended:
            log.warning("worker.kin_ended", pids=ended)
        await self._watches.boots.recall()
        self._take_boots()

    async def run(self) -> None:
        """Looks until it is cancelled; one look that fails does not end the looking."""
        while True:
            await self._rhythm.pause(LOOK_S)
            error = await outcome(self._look(time.monotonic()), "guard.defect")
            if error is not None:
                log.warning("guard.failed", code=error.code, reason=error.message)

    async def _look(self, now: float) -> None:
        watches = self._watches
        watches.stalls.tick(now)
        watches.pressure.tick(now)
        if watches.memory.is_short:
            self._rhythm.stir()
        watches.power.tick(now)
        watches.wakes.tick(now, whole_time())
        await self._note_boot()

    async def close(self) -> None:
        """The daemon ends in order: what was seated was not what took the machine down."""
        await asyncio.to_thread(self._watches.power.close)
        await self._watches.boots.note(None)

    async def _note_boot(self) -> None:
        state = self._seat.state
        model = state.plan.target if state.plan is not None and state.plan.target else state.model
        if state.phase in {Phase.EMPTY, Phase.FAILED}:
            model = None
        await self._watches.boots.note(model)
        self._take_boots()

    def _take_boots(self) -> None:
        """For those who ask it of them."""
        self._figures.barred = self._watches.boots.barred
        self._own.panic_report = self._watches.boots.panic_report
