"""What output weighs against credit. Pure.

Both ends count with the same numbers, so that a window neither leaks nor grows: the daemon
charges what it sends, the client grants again what it consumed.
"""

from collections.abc import Iterable
from typing import Final

from hotseat.protocol.replies import Chunk, ChunkPart, Event, Gap

TOKEN_COST: Final = 6
"""Bytes per token id: MessagePack needs at most five, plus a little."""
LOGPROB_COST: Final = 40
"""Bytes per listed log probability, the emitted token's and each of `top`."""
EVENT_COST: Final = 200
"""Bytes per event: they are small and alike."""


def chunk_cost(chunk: Chunk) -> int:
    """UTF-8 bytes of all text, plus the fixed costs; independent of how output was merged."""
    listed = sum(1 + len(entry.top) for entry in chunk.logprobs)
    return parts_cost(chunk.parts) + TOKEN_COST * len(chunk.tokens) + LOGPROB_COST * listed


def parts_cost(parts: Iterable[ChunkPart]) -> int:
    """UTF-8 bytes of text and arguments."""
    return sum(
        len(part.text.encode()) + len((part.arguments_delta or "").encode()) for part in parts
    )


def event_cost(item: Event | Gap) -> int:
    """A gap is free: it says what was not sent."""
    return EVENT_COST if isinstance(item, Event) else 0
