"""When the link thread beats: often while anything may change, now and then at rest.

Must not know sockets or engines. The supervisor's watch for stuck workers counts on `REST_BEAT_S`.
"""

import threading
from typing import Final

from hotseat.protocol.limits import BEAT_S, REST_BEAT_S
from hotseat.protocol.link_reports import Beat

SETTLE_S: Final = 2.0
"""After the last frame either way: what an order leads to may show a moment later."""
_AT_REST: Final = frozenset({"empty", "ready", "standby"})
"""Phases in which nothing happens unless it was asked for."""


class BeatPace:
    """Knows the last beat and the last frame; from any thread. All times are monotonic seconds."""

    def __init__(self, beat_s: float = BEAT_S, rest_s: float = REST_BEAT_S) -> None:
        self._beat_s = beat_s
        self._rest_s = max(beat_s, rest_s)
        self._last: Beat | None = None
        self._stirred_at = float("-inf")
        self._changing = threading.Lock()
        self.due_at = float("-inf")
        """When the next beat is to leave; at once to begin with."""

    def stir(self, now: float) -> None:
        """A frame came or went: the next beat is not far."""
        with self._changing:
            self._stirred_at = now
            self.due_at = min(self.due_at, now + self._beat_s)

    def note(self, beat: Beat, now: float) -> None:
        """This beat leaves now."""
        is_new, self._last = beat != self._last, beat
        works = beat.busy or beat.backlog_bytes > 0 or beat.phase not in _AT_REST
        with self._changing:
            stirs = works or is_new or now - self._stirred_at < SETTLE_S
            self.due_at = now + (self._beat_s if stirs else self._rest_s)
