"""Measures memory several times a second and gives up what `core.pressure` says.

Decides nothing itself. Memory of the machine is measured here; the worker's footprint, which is
dear, is taken from the daemon's ticker.
"""

import time
from typing import Final

import structlog

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB
from hotseat.protocol.link import Shrink
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.guards.rules.pressure import (
    Level,
    Pressure,
    Reading,
    Sheddable,
    ShrinkLive,
    next_pressure,
)
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.seat.runner import SeatRunner
from hotseat.supervisor.settings.values import PressureSettings

FRESH_S: Final = 0.3
"""The age of a reading that new work is judged by; at rest readings are further apart."""
log = structlog.get_logger()


class PressureWatch:
    """Owns the level that is acted upon."""

    def __init__(
        self,
        *,
        planner: Planner,
        runner: SeatRunner,
        works: Works,
        runs: WorkRuns,
        dispatcher: Dispatcher,
        telemetry: Figures,
        events: EventLog,
        settings: PressureSettings,
    ) -> None:
        self._planner = planner
        self._runner = runner
        self._works = works
        self._runs = runs
        self._dispatcher = dispatcher
        self._telemetry = telemetry
        self._events = events
        self.settings = settings
        self.state = Pressure()
        self._read_at = float("-inf")
        dispatcher.is_short_for = self._is_short_for
        planner.refuse_new = self.refuse_new

    def tick(self, now: float) -> None:
        """One reading and what follows."""
        reading, self._read_at = self._read(), now
        before = self.state.level
        self.state, given_up = next_pressure(self.state, reading, self._held(), now, self.settings)
        if self.state.level is not before:
            self._tell(reading)
            self._dispatcher.kick()
        for step in given_up:
            if isinstance(step, ShrinkLive):
                self._runner.send(Shrink(keep=step.keep))
                self._events.publish("memory.shed", step="contexts", kept=step.keep)
            else:
                self._suspend_youngest()

    @property
    def is_short(self) -> bool:
        """True while anything has to be given up."""
        return self.state.level is not Level.NORMAL

    def _is_short_for(self, running: int) -> bool:
        return self.state.is_short_for(running)

    def refuse_new(self) -> None:
        """Raises `HotseatError` (memory_pressure) while nothing new may begin."""
        now = time.monotonic()
        if now - self._read_at > FRESH_S:
            self.tick(now)
        if self.state.level is Level.CRITICAL:
            available = self._planner.probe.machine().available_bytes
            raise HotseatError(
                "memory_pressure",
                f"memory is critically short ({available / GIB:.1f} GiB available); nothing new "
                "begins; close other programs, or `hotseat release`",
                retry_after_s=self.settings.calm_s,
                available_bytes=available,
            )

    def _read(self) -> Reading:
        machine = self._planner.probe.machine()
        level = self._telemetry.pressure = self._planner.probe.pressure()
        return Reading(
            os_level=level,
            available_bytes=machine.available_bytes,
            reserve_bytes=self._planner.settings.memory.reserve_for(machine.total_bytes),
            footprint_bytes=self._telemetry.worker_footprint_bytes,
            limit_bytes=self._runner.limit_bytes if self._runner.admits else None,
        )

    def _held(self) -> Sheddable:
        beat = self._runner.beat
        if beat is None or self._runner.serving_epoch is None:
            return Sheddable()
        return Sheddable(sessions=len(beat.live_sessions), running=self._works.running)

    def _suspend_youngest(self) -> None:
        running = [w for w in self._works.in_state(WorkState.RUNNING) if w.finished is None]
        if not running:
            return
        work = running[-1]
        self._runs.suspend(work)
        self._events.publish("memory.shed", step="request", request=work.request_id)

    def _tell(self, reading: Reading) -> None:
        level = self.state.level
        self._telemetry.shedding = "" if level is Level.NORMAL else level.name.lower()
        self._events.publish(
            "memory.pressure_changed",
            level=level.name.lower(),
            os_level=reading.os_level,
            available_bytes=reading.available_bytes,
            footprint_bytes=reading.footprint_bytes,
            limit_bytes=reading.limit_bytes,
        )
