"""Output of one request on its way to one reader: credit, merging, offsets. Pure.

Unsent output is merged into fewer, larger chunks; it is never dropped.
"""

from collections import deque

from msgspec import Struct

from hotseat.protocol.limits import SLOW_CONSUMER_BYTES
from hotseat.protocol.replies import Chunk, ChunkPart, TokenLogprob

MAX_CHUNK_TOKENS = 4096
"""A chunk stays far below the frame limit however much was merged."""
TOKEN_COST = 6
"""Bytes a token id is counted with: MessagePack needs at most five, plus a little."""
LOGPROB_COST = 40


class Emission(Struct, frozen=True, kw_only=True):
    """What one step of the engine put out. `offset` counts completion tokens before it."""

    offset: int
    tokens: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def cost_bytes(self) -> int:
        """What it weighs against credit."""
        listed = sum(1 + len(entry.top) for entry in self.logprobs)
        return len(self.text.encode()) + TOKEN_COST * len(self.tokens) + LOGPROB_COST * listed


class OutStream:
    """Merges emissions while there is no credit. One object per reader of a request."""

    def __init__(self, credit_bytes: int, offset: int = 0) -> None:
        """`offset`: the reader has the completion tokens before it."""
        self.credit_bytes = credit_bytes
        self.offset = offset
        self._pushed = offset
        self._seq = 0
        self._unsent: deque[Emission] = deque()
        self._unsent_bytes = 0
        self.starved_since: float | None = None

    @property
    def is_empty(self) -> bool:
        """True when everything pushed was taken."""
        return not self._unsent

    def push(self, emission: Emission) -> None:
        """Adds output; what the reader has already is left out."""
        end = emission.offset + len(emission.tokens)
        if end <= self._pushed and emission.tokens:
            return
        self._pushed = max(self._pushed, end)
        if emission.tokens and not self._unsent:
            # Starts inside an emission: the reader gets it whole and drops what it has.
            self.offset = min(self.offset, emission.offset)
        self._unsent.append(emission)
        self._unsent_bytes += emission.cost_bytes

    def grant(self, credit_bytes: int) -> None:
        """The reader takes this many bytes more."""
        self.credit_bytes += credit_bytes
        self.starved_since = None

    def is_slow(self, now: float, patience_s: float) -> bool:
        """True when 1 MiB has been waiting for credit for longer than `patience_s`."""
        if self._unsent_bytes < SLOW_CONSUMER_BYTES:
            return False
        return self.starved_since is not None and now - self.starved_since > patience_s

    def take(self, now: float) -> Chunk | None:
        """The next chunk if there is output and credit; may overdraw once by a chunk."""
        if not self._unsent:
            return None
        if self.credit_bytes <= 0:
            if self.starved_since is None:
                self.starved_since = now
            return None
        taken: list[Emission] = []
        tokens = 0
        while self._unsent and tokens < MAX_CHUNK_TOKENS and self.credit_bytes > 0:
            emission = self._unsent.popleft()
            taken.append(emission)
            tokens += len(emission.tokens)
            self.credit_bytes -= emission.cost_bytes
            self._unsent_bytes -= emission.cost_bytes
        return self._merge(taken)

    def _merge(self, taken: list[Emission]) -> Chunk:
        ids = tuple(token for emission in taken for token in emission.tokens)
        text = "".join(emission.text for emission in taken)
        chunk = Chunk(
            seq=self._seq,
            offset_tokens=self.offset,
            tokens=ids,
            parts=(ChunkPart(type="text", text=text),) if text else (),
            logprobs=tuple(entry for emission in taken for entry in emission.logprobs),
        )
        self._seq += 1
        self.offset += len(ids)
        return chunk
