"""Tokens of one completion to text, with stop strings matched on text. Must not know arrays."""

from collections.abc import Sequence
from typing import Any


class TextOut:
    """Text of one completion as it becomes readable; never emits a part of a stop string.

    `detokenizer` is a fresh streaming detokenizer of mlx_lm.
    """

    def __init__(
        self, detokenizer: Any, stops: Sequence[str] = (), *, keep_first_space: bool = False
    ) -> None:
        self._detokenizer = detokenizer
        if keep_first_space and hasattr(detokenizer, "trim_space"):
            # Raw text goes on in the middle of a sentence: its first space belongs to the text.
            detokenizer.trim_space = False
        self._known = getattr(detokenizer, "tokenmap", None)
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self._emitted: list[str] = []
        self.is_stopped = False

    @property
    def text(self) -> str:
        """Everything emitted so far."""
        return "".join(self._emitted)

    def push(self, token: int) -> str:
        """The text that `token` makes readable, maybe none."""
        if self._known is not None and (token >= len(self._known) or not self._known[token]):
            # Vocabularies are padded: such an id has no text, and mlx-lm would make one up.
            return ""
        self._detokenizer.add_token(token)
        return self._release(self._detokenizer.last_segment)

    def finish(self) -> str:
        """The rest: incomplete characters, and text held back for a stop string that never came."""
        if self.is_stopped:
            return ""
        self._detokenizer.finalize()
        text = self._release(self._detokenizer.last_segment)
        if not self.is_stopped and self._held:
            text += self._held
            self._emitted.append(self._held)
            self._held = ""
        return text

    def _release(self, segment: str) -> str:
        if not segment:
            return ""
        if not self._stops:
            self._emitted.append(segment)
            return segment
        self._held += segment
        # The one that completes first counts: that does not depend on how the text came in.
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.is_stopped = True
            cut = min(found)[1]
        else:
            cut = len(self._held) - self._pending_length()
        text, self._held = self._held[:cut], self._held[cut:]
        if text:
            self._emitted.append(text)
        return text

    def _pending_length(self) -> int:
        """Length of the longest end of the held text with which a stop string begins."""
        longest = min(len(self._held), max(len(stop) for stop in self._stops) - 1)
        for length in range(longest, 0, -1):
            end = self._held[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
