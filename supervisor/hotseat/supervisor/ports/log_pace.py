"""How often a line of one kind may be logged, however often there is reason to. Pure."""

from typing import Final

BURST: Final = 20
"""Lines of a kind within one window."""
WINDOW_S: Final = 10.0


class LogPace:
    """Lets a few lines of each kind pass in a window and counts the rest. Kinds are few."""

    def __init__(self, burst: int = BURST, window_s: float = WINDOW_S) -> None:
        self._burst = burst
        self._window_s = window_s
        self._began: dict[str, float] = {}
        self._seen: dict[str, int] = {}

    def admit(self, kind: str, now: float) -> int | None:
        """None: say nothing. Else how many lines were left out since the last that was said."""
        began = self._began.get(kind)
        if began is None or now - began >= self._window_s:
            left_out = max(0, self._seen.get(kind, 0) - self._burst)
            self._began[kind], self._seen[kind] = now, 1
            return left_out
        self._seen[kind] += 1
        return 0 if self._seen[kind] <= self._burst else None
