"""Tokens of one completion to parts: plain text, reasoning, tool calls. Must not know arrays.

The same ids give the same parts, so a resumed request only feeds them again.
"""

from typing import Protocol

from hotseat.protocol.parts import join_parts, text_part
from hotseat.protocol.replies import ChunkPart
from hotseat.worker.text.text_out import TextOut


class Splitter(Protocol):
    """Tells reasoning and calls from text: `Speech` by marks, `Channels` by Harmony's messages."""

    @property
    def calls(self) -> int:
        """Tool calls found so far."""
        ...

    @property
    def is_reasoning(self) -> bool:
        """True while what comes next is reasoning."""
        ...

    def push(self, text: str) -> tuple[ChunkPart, ...]:
        """Parts that `text` completes."""
        ...

    def close(self) -> tuple[ChunkPart, ...]:
        """What was held back, and an unfinished call."""
        ...


class PartsOut:
    """Parts of one completion as they become readable. Without `speech` all is text.

    With `one_call` nothing comes behind the first call.
    """

    def __init__(
        self, text: TextOut, speech: Splitter | None = None, *, one_call: bool = False
    ) -> None:
        self._out = text
        self._speech = speech
        self._text: list[str] = []
        self._one_call = one_call
        self.has_called = False
        """True once the only call came that may."""
        self.reasoning_tokens = 0
        """Tokens that were drawn while the model thought aloud, its marks included."""

    @property
    def text(self) -> str:
        """Everything emitted so far that is text."""
        return "".join(self._text)

    @property
    def is_stopped(self) -> bool:
        """True once a stop string came; it counts wherever it stands."""
        return self._out.is_stopped

    @property
    def stopped_by(self) -> str | None:
        """The stop string that came."""
        return self._out.stopped_by

    @property
    def calls(self) -> int:
        """Tool calls emitted so far."""
        return self._speech.calls if self._speech is not None else 0

    def push(self, token: int) -> tuple[ChunkPart, ...]:
        """What `token` makes readable, maybe nothing."""
        speech = self._speech
        if speech is None:
            return self._split(self._out.push(token))
        was_reasoning = speech.is_reasoning
        parts = self._split(self._out.push(token))
        self.reasoning_tokens += was_reasoning or speech.is_reasoning
        return parts

    def finish(self) -> tuple[ChunkPart, ...]:
        """The rest: text that was held back, and a call that was not closed."""
        if self.has_called:
            return ()
        parts = self._split(self._out.finish())
        if self._speech is not None and not self.has_called:
            parts = join_parts((*parts, *self._note(self._speech.close())))
        return parts

    def _split(self, text: str) -> tuple[ChunkPart, ...]:
        if not text:
            return ()
        parts = text_part(text) if self._speech is None else self._speech.push(text)
        return self._note(parts)

    def _note(self, parts: tuple[ChunkPart, ...]) -> tuple[ChunkPart, ...]:
        if self._one_call:
            parts = self._up_to_call(parts)
        self._text.extend(part.text for part in parts if part.type == "text")
        return parts

    def _up_to_call(self, parts: tuple[ChunkPart, ...]) -> tuple[ChunkPart, ...]:
        first = next((at for at, part in enumerate(parts) if part.type == "tool_call"), None)
        if first is None:
            return parts
        self.has_called = True
        return parts[: first + 1]
