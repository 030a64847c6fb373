"""How much KV was written on which day. Pure; a day is one of UTC, counted from 1970."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

_DAY_S: Final = 24 * 3600.0
DAYS: Final = 7
"""Days that are known, today among them."""


class DaysWritten(Struct, frozen=True):
    """Bytes by day; days without any are missing."""

    days: Mapping[int, int] = {}

    def add(self, size_bytes: int, now: float) -> "DaysWritten":
        """More of today. `now` is Unix time."""
        today = day_of(now)
        days = {day: size for day, size in self.days.items() if today - DAYS < day <= today}
        days[today] = days.get(today, 0) + size_bytes
        return DaysWritten(days)

    def today(self, now: float) -> int:
        """Bytes of today."""
        return self.days.get(day_of(now), 0)

    def a_day(self, now: float) -> int:
        """Bytes a day: of the days known, from the first that anything was written on."""
        today = day_of(now)
        known = [day for day in self.days if today - DAYS < day <= today]
        if not known:
            return 0
        return sum(self.days[day] for day in known) // (today - min(known) + 1)


def day_of(now: float) -> int:
    """The number of a day."""
    return int(now // _DAY_S)
