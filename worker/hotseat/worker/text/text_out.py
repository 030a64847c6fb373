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
        self.stopped_by: str | None = None
        """The stop string that came."""

    @property
    def is_stopped(self) -> bool:
        """True once a stop string came."""
        return self.stopped_by is not None

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
        found = first_of(self._held, self._stops)
        if found:
            cut, self.stopped_by = found
        else:
            cut = len(self._held) - pending_length(self._held, self._stops)
        text, self._held = self._held[:cut], self._held[cut:]
        if text:
            self._emitted.append(text)
        return text


def pending_length(text: str, words: Sequence[str]) -> int:
    """Length of the longest end of a text with which one of the words begins, short of a whole."""
    longest = 0
    for word in words:
        tail = text[max(0, len(text) - len(word) + 1) :]
        at = tail.find(word[0])
        while at >= 0 and not word.startswith(tail[at:]):
            at = tail.find(word[0], at + 1)
        if at >= 0:
            longest = max(longest, len(tail) - at)
    return longest


def first_of(text: str, words: Sequence[str], start: int = 0) -> tuple[int, str] | None:
    """Where the word that completes first stands, and which it is; the longest one of several.

    Which completes first does not depend on how the text came in.
    """
    found = [(at + len(word), at, word) for word in words if (at := text.find(word, start)) >= 0]
    if not found:
        return None
    _, at, word = min(found)
    return at, word
