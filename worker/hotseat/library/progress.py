"""How long work tells that it advances. Must not know who listens."""

from collections.abc import Callable

OnProgress = Callable[[str, float], None]
"""Called with (phase, percent of that phase)."""


class ByteProgress:
    """Turns byte counts into at most about a hundred calls per phase."""

    def __init__(self, on_progress: OnProgress, phase: str, total_bytes: int) -> None:
        self._on_progress = on_progress
        self._phase = phase
        self._total = max(1, total_bytes)
        self._done = 0
        self._told = -1.0
        self.add(0)

    def add(self, size_bytes: int) -> None:
        """Count bytes that are done."""
        self._done += size_bytes
        percent = min(100.0, 100.0 * self._done / self._total)
        if percent - self._told >= 1.0 or (percent >= 100.0 > self._told):  # noqa: PLR2004 - percent
            self._told = percent
            self._on_progress(self._phase, round(percent, 1))
