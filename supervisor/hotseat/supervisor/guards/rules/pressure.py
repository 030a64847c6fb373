"""What is given up when memory gets short, and in which order. Pure; time is an argument.

First contexts that are on disk too, then the youngest request, then new work; at last the seat of
an idle model (`dispatch/idle_seat.py`). A level rises at
once and falls only after it was lower for a while, so that shedding does not flap.
"""

from enum import IntEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hotseat.supervisor.settings.values import PressureSettings


class Level(IntEnum):
    """The numbers of macOS."""

    NORMAL = 1
    WARNING = 2
    CRITICAL = 4


class Reading(Struct, frozen=True, kw_only=True):
    """What was measured. `os_level` is None where the system has none.

    `is_level_late`: it is made of stalls, so that what is available has to be looked at as well.
    """

    os_level: int | None = None
    is_level_late: bool = False
    available_bytes: int = 0
    reserve_bytes: int = 0
    footprint_bytes: int | None = None
    limit_bytes: int | None = None
    """What the worker was planned with, all in all."""


class Sheddable(Struct, frozen=True, kw_only=True):
    """What could be given up."""

    sessions: int = 0
    """Idle ones whose KV is in memory."""
    running: int = 0


class ShrinkLive(Struct, frozen=True):
    """Keep only so many idle contexts in memory, the newest ones."""

    keep: int


class SuspendYoungest(Struct, frozen=True):
    """The request that came last leaves the worker; it goes on when there is room."""


Shed = ShrinkLive | SuspendYoungest


class Pressure(Struct, frozen=True, kw_only=True):
    """The level that is acted upon."""

    level: Level = Level.NORMAL
    calm_since: float | None = None
    step_at: float = 0.0
    critical_since: float | None = None
    """While it is critical."""

    def is_short_for(self, running: int) -> bool:
        """True when no further request may start beside `running` ones."""
        if self.level is Level.WARNING:
            return running >= _RUNNING_KEPT[self.level]
        return self.level is Level.CRITICAL


_RUNNING_KEPT: Final = {Level.WARNING: 1, Level.CRITICAL: 0}
_OVER: Final = ((1.15, Level.CRITICAL), (1.05, Level.WARNING))
"""Shares of its limit above which a worker's footprint counts as pressure of its own making."""
_LEFT: Final = ((0.25, Level.CRITICAL), (0.5, Level.WARNING))
"""Shares of the reserve below which available memory counts, where the system has no levels."""


def level_of(reading: Reading) -> Level:
    """The level this moment speaks of."""
    level = Level.NORMAL
    if reading.os_level is not None:
        level = Level.CRITICAL if reading.os_level >= Level.CRITICAL else level
        level = Level.WARNING if reading.os_level in {2, 3} else level
    if reading.os_level is None or reading.is_level_late:
        for share, called in _LEFT:
            if reading.available_bytes < share * reading.reserve_bytes:
                level = max(level, called)
    if reading.footprint_bytes is not None and reading.limit_bytes:
        for share, called in _OVER:
            if reading.footprint_bytes > share * reading.limit_bytes:
                level = max(level, called)
    return level


def next_pressure(
    state: Pressure, reading: Reading, held: Sheddable, now: float, settings: PressureSettings
) -> tuple[Pressure, tuple[Shed, ...]]:
    """The state after a reading, and what to give up now."""
    after, steps = _next_level(state, reading, held, now, settings)
    since = None
    if after.level is Level.CRITICAL:
        since = now if state.critical_since is None else state.critical_since
    return replace(after, critical_since=since), steps


def _next_level(
    state: Pressure, reading: Reading, held: Sheddable, now: float, settings: PressureSettings
) -> tuple[Pressure, tuple[Shed, ...]]:
    measured = level_of(reading)
    if measured >= state.level:
        state = replace(state, calm_since=None)
    elif state.calm_since is None:
        state = replace(state, calm_since=now)
    elif now - state.calm_since >= settings.calm_s:
        return Pressure(level=measured, step_at=now + settings.step_s), ()
    is_rise = measured > state.level
    if is_rise:
        state = replace(state, level=measured, step_at=now)
    # While it calms down nothing more is given up: what was given up shows its effect.
    if state.level is Level.NORMAL or state.calm_since is not None or now < state.step_at:
        return state, ()
    state = replace(state, step_at=now + settings.step_s)
    return state, shed(state.level, held, is_first=is_rise)


def shed(level: Level, held: Sheddable, *, is_first: bool) -> tuple[Shed, ...]:
    """The next thing to give up: never a worker, never what was promised."""
    if held.sessions:
        is_gentle = level is Level.WARNING and is_first
        return (ShrinkLive(held.sessions // 2 if is_gentle else 0),)
    if held.running > _RUNNING_KEPT[level]:
        return (SuspendYoungest(),)
    return ()
