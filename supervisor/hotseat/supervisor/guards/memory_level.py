"""How short memory is: readings, and the level they make. Gives nothing up itself.

The rule is `rules/pressure.py`. Memory of the machine is read here; the worker's footprint, which
is dear, is measured by the daemon's upkeep.
"""

import time
from typing import Final

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.guards.rules.pressure import (
    Level,
    Pressure,
    Reading,
    Shed,
    Sheddable,
    next_pressure,
)
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.values import Settings

FRESH_S: Final = 0.3
"""The age of a reading that new work is judged by; at rest readings are further apart."""


class MemoryLevel:
    """Owns the level that is acted upon."""

    def __init__(
        self, planner: Planner, seat: Seat, works: Works, figures: Figures, settings: Settings
    ) -> None:
        self._planner = planner
        self._seat = seat
        self._works = works
        self._figures = figures
        self._settings = settings.pressure
        self.reading = Reading()
        """The newest."""
        self.state = Pressure()
        self._read_at = float("-inf")
        self._due: tuple[Shed, ...] = ()

    def use(self, settings: Settings) -> None:
        """Takes new settings."""
        self._settings = settings.pressure

    @property
    def is_short(self) -> bool:
        """True while anything has to be given up."""
        return self.state.level is not Level.NORMAL

    @property
    def critical_since(self) -> float | None:
        """Since when nothing new may begin; None while it may."""
        return self.state.critical_since

    def is_short_for(self, running: int) -> bool:
        """True when memory allows no further request beside so many."""
        return self.state.is_short_for(running)

    def look(self, now: float) -> None:
        """One reading, and what has to be given up because of it."""
        self.reading, self._read_at = self._read(), now
        self.state, steps = next_pressure(
            self.state, self.reading, self._sheddable(), now, self._settings
        )
        if steps:
            self._due = steps  # what was due before has not happened: one step is enough

    def take_due(self) -> tuple[Shed, ...]:
        """What has to be given up now, told once; nothing when there is enough again."""
        due, self._due = self._due, ()
        return due if self.is_short else ()

    def refuse_new(self) -> None:
        """Raises `HotseatError` (memory_pressure) while nothing new may begin."""
        now = time.monotonic()
        if now - self._read_at > FRESH_S:
            self.look(now)
        if self.state.level is Level.CRITICAL:
            available = self._planner.probe.machine().available_bytes
            raise HotseatError(
                "memory_pressure",
                f"memory is critically short ({available / GIB:.1f} GiB available); nothing new "
                "begins; close other programs, or `hotseat release`",
                retry_after_s=self._settings.calm_s,
                available_bytes=available,
            )

    def _read(self) -> Reading:
        machine = self._planner.probe.machine()
        level = self._figures.pressure = self._planner.probe.pressure()
        return Reading(
            os_level=level,
            is_level_late=machine.bound is not None,
            available_bytes=machine.available_bytes + machine.swappable_bytes,
            reserve_bytes=self._planner.settings.memory.reserve_for(machine),
            footprint_bytes=self._planner.own.worker_bytes,
            limit_bytes=self._seat.limit_bytes if self._seat.admits else None,
        )

    def _sheddable(self) -> Sheddable:
        beat = self._seat.beat
        if beat is None or self._seat.serving_epoch is None:
            return Sheddable()
        return Sheddable(sessions=len(beat.live_sessions), running=self._works.running)
