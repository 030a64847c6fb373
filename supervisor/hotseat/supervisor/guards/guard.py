"""The daemon's guards, run by one clock of their own: stuck workers, memory, sleep, unclean boots.

Apart from `upkeep`, whose ticks wait for disk and threads: a guard has to look on time.
"""

import asyncio
import time
from typing import Final

import structlog
from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.guards.memory_pressure import PressureWatch
from hotseat.supervisor.guards.sleep_prevention import PowerWatch
from hotseat.supervisor.guards.stuck_worker import StallWatch
from hotseat.supervisor.guards.unclean_boots import BootMarks, boot_id
from hotseat.supervisor.guards.wake import WakeWatch
from hotseat.supervisor.loop.rhythm import Rhythm
from hotseat.supervisor.machine.leftover_processes import end_leftovers, home_mark
from hotseat.supervisor.machine.sleep_assertion import system_power
from hotseat.supervisor.machine.time_awake import whole_time
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.seat.rules.states import Phase
from hotseat.supervisor.seat.runner import SeatRunner
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import Settings

LOOK_S: Final = 0.2
log = structlog.get_logger()


class Guarded(Struct, frozen=True, kw_only=True):
    """What is watched."""

    home: Home
    catalogue: Catalogue
    planner: Planner
    runner: SeatRunner
    works: Works
    runs: WorkRuns
    dispatcher: Dispatcher
    telemetry: Figures
    events: EventLog
    settings: Settings
    rhythm: Rhythm


class Guard:
    """Owns the watchers and their clock."""

    def __init__(self, parts: Guarded) -> None:
        self._parts = parts
        settings, runner, works = parts.settings, parts.runner, parts.works
        self._stalls = StallWatch(runner, works, parts.events, settings.stalls)
        self._pressure = PressureWatch(
            planner=parts.planner,
            runner=runner,
            works=works,
            runs=parts.runs,
            dispatcher=parts.dispatcher,
            telemetry=parts.telemetry,
            events=parts.events,
            settings=settings.pressure,
        )
        self._power = PowerWatch(
            runner=runner,
            works=works,
            events=parts.events,
            settings=settings.power,
            assertion=system_power(),
        )
        self._wakes = WakeWatch(
            runner=runner,
            planner=parts.planner,
            dispatcher=parts.dispatcher,
            events=parts.events,
            now=time.monotonic(),
            whole_now=whole_time(),
        )
        parts.telemetry.keeps_awake = lambda: self._power.keeps_awake
        self._boots = BootMarks(parts.catalogue, boot_id())
        parts.dispatcher.refuse_barred = self._boots.refuse

    async def recall(self) -> None:
        """Ends what workers of an earlier daemon left, and looks how the machine went down."""
        ended = await asyncio.to_thread(end_leftovers, home_mark(self._parts.home.root))
        if ended:
            log.warning("worker.kin_ended", pids=ended)
        await self._boots.recall()
        self._parts.telemetry.barred = self._boots.barred

    def use(self, settings: Settings) -> None:
        """Takes new settings."""
        self._stalls.settings = settings.stalls
        self._pressure.settings = settings.pressure
        self._power.settings = settings.power

    def refuse_new(self) -> None:
        """Raises `HotseatError` while memory is so short that nothing new may begin."""
        self._pressure.refuse_new()

    async def run(self) -> None:
        """Looks until it is cancelled; one look that fails does not end the looking."""
        while True:
            await self._parts.rhythm.pause(LOOK_S)
            try:
                now = time.monotonic()
                self._stalls.tick(now)
                self._pressure.tick(now)
                if self._pressure.is_short:
                    self._parts.rhythm.stir()
                self._power.tick(now)
                self._wakes.tick(now, whole_time())
                await self._note_boot()
            except HotseatError as error:
                log.warning("guard.failed", code=error.code, reason=error.message)
            except Exception:  # task root
                log.exception("guard.defect")

    async def close(self) -> None:
        """The daemon ends in order: what was seated was not what took the machine down."""
        await asyncio.to_thread(self._power.close)
        await self._boots.note(None)

    async def _note_boot(self) -> None:
        state = self._parts.runner.state
        model = state.plan.target if state.plan is not None and state.plan.target else state.model
        if state.phase in {Phase.EMPTY, Phase.FAILED}:
            model = None
        await self._boots.note(model)
        self._parts.telemetry.barred = self._boots.barred
