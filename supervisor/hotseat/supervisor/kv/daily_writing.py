"""What is written to the SSD in a day, and whether that is enough for today.

Above the limit of the settings nothing is written only because it is quiet: sessions go to disk
at their swap, and so do the blocks of running requests where that is possible (`Defer`).
"""

import time

import msgspec

from hotseat.supervisor.kv.rules.days_written import DaysWritten, day_of


class DailyWriting:
    """Counts; says once a day that it was too much."""

    def __init__(self) -> None:
        self._limit_bytes: int | None = None
        self._written = DaysWritten()
        self._told_day = -1

    def limit(self, most_bytes: int | None) -> None:
        """So much is enough for a day."""
        self._limit_bytes = most_bytes

    def recall(self, text: str | None) -> None:
        """What earlier runs counted, as `text` told; what cannot be read counts as nothing."""
        try:
            self._written = msgspec.json.decode(text or "{}", type=DaysWritten)
        except msgspec.MsgspecError:
            self._written = DaysWritten()

    @property
    def text(self) -> str:
        """To be kept for the next run."""
        return msgspec.json.encode(self._written).decode()

    def add(self, size_bytes: int) -> None:
        """That much was written just now."""
        self._written = self._written.add(size_bytes, time.time())

    @property
    def today_bytes(self) -> int:
        """Bytes of today, UTC."""
        return self._written.today(time.time())

    @property
    def day_bytes(self) -> int:
        """Bytes a day over the last week."""
        return self._written.a_day(time.time())

    @property
    def is_much(self) -> bool:
        """Whether today is over its limit."""
        return self._limit_bytes is not None and self.today_bytes > self._limit_bytes

    def news(self) -> bool:
        """True once on a day that is over its limit."""
        today = day_of(time.time())
        if not self.is_much or self._told_day == today:
            return False
        self._told_day = today
        return True
