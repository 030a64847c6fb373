"""Tells time in which this process ran from time in which it was stopped. Must not know why."""

from typing import Final

SLEPT_S: Final = 2.0
"""Looks are closer together than that while the process runs: its ticker sees to it."""


class AwakeClock:
    """Finds gaps between looks at the clock. All times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._seen = now

    def take_lost_s(self, now: float) -> float:
        """Seconds since the last look if they were too many to have been awake, else 0."""
        gap_s, self._seen = now - self._seen, now
        return gap_s if gap_s > SLEPT_S else 0.0
