"""Output of the daemon as every dialect tells it: white space alone beside a call is no content.

Pure. A stream and a whole answer say the same.
"""

from collections.abc import Iterable

from hotseat.protocol.messages import ToolCall
from hotseat.protocol.replies import ChunkPart, Done


class SpokenParts:
    """Parts on their way to a client; text that may turn out to be nothing is held back."""

    def __init__(self) -> None:
        self._held = ""
        self._has_text = False
        self._has_calls = False

    def take(self, parts: Iterable[ChunkPart]) -> list[ChunkPart]:
        """What can be told of these parts, in their order."""
        told: list[ChunkPart] = []
        for part in parts:
            if part.type != "text":
                self._has_calls |= part.type == "tool_call"
                told.append(part)
                continue
            self._held += part.text
            if self._has_text or self._held.strip():
                self._has_text = True
                told.append(ChunkPart(type="text", text=self._held))
                self._held = ""
        return told

    def finish(self) -> list[ChunkPart]:
        """Text that was held back, if it is all there is."""
        if not self._held or self._has_calls:
            return []
        return [ChunkPart(type="text", text=self._held)]


def spoken_text(done: Done) -> str:
    """Text of a whole answer."""
    return "" if done.tool_calls and not done.text.strip() else done.text


def spoken_calls(done: Done) -> tuple[ToolCall, ...]:
    """Calls of a whole answer."""
    return done.tool_calls
