"""Tells time in which this process ran from time in which it or the machine did not.

Must not know what follows from it. `time.monotonic`, which every deadline uses, does not count
sleep of the machine, neither on macOS nor on Linux: what is told apart here are gaps in it, which
a stopped process has, and the sleep that another clock counts.
"""

import time
from typing import Final

SLEPT_S: Final = 2.0
"""Looks are closer together than that while the process runs: the clocks of its loop see to it."""


class AwakeClock:
    """Finds gaps between looks at the clock. All times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._seen = now

    def take_lost_s(self, now: float) -> float:
        """Seconds since the last look if they were too many to have been awake, else 0."""
        gap_s, self._seen = now - self._seen, now
        return gap_s if gap_s > SLEPT_S else 0.0


class SleepClock:
    """Finds sleep of the machine: what `whole_now` counts and `now` does not."""

    def __init__(self, now: float, whole_now: float) -> None:
        self._ahead_s = whole_now - now

    def take_slept_s(self, now: float, whole_now: float) -> float:
        """Seconds the machine slept since the last look, 0 for less than `SLEPT_S`."""
        before, self._ahead_s = self._ahead_s, whole_now - now
        slept_s = self._ahead_s - before
        return slept_s if slept_s > SLEPT_S else 0.0


def whole_time() -> float:
    """Seconds that pass during sleep too: on macOS that is what CLOCK_MONOTONIC counts."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
