"""Output of one request on its way to one reader: credit, merging, offsets. Pure.

Unsent output is merged into fewer, larger chunks; it is never dropped.
"""

from collections import deque
from typing import Final
from weakref import WeakValueDictionary

from msgspec import Struct
from msgspec.structs import replace

from hotseat.protocol.credit import LOGPROB_COST, TOKEN_COST, parts_cost
from hotseat.protocol.limits import SLOW_CONSUMER_BYTES
from hotseat.protocol.parts import join_parts, text_part
from hotseat.protocol.replies import Chunk, ChunkPart, TokenLogprob
from hotseat.protocol.tokens import pack_tokens, unpack_tokens

MAX_CHUNK_ITEMS: Final = 8192
"""A chunk stays far below the limits of a message (bytes, items) however much was merged."""
LOGPROB_ITEMS: Final = 11
TOP_ITEMS: Final = 4
PART_ITEMS: Final = 7
BUNDLE_STEPS: Final = 64
BUNDLE_TOKENS: Final = 256
"""Waiting steps are packed together at so many of them, and at each multiple of so many completion
tokens: a step may be a whole frame, and all readers of a request pack the same steps together."""


class Emission(Struct, frozen=True, kw_only=True):
    """What one step of the engine put out.

    `offset` counts completion tokens before it, `text_offset` characters.
    """

    offset: int
    text_offset: int
    tokens: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    parts: tuple[ChunkPart, ...] = ()
    """The same output in parts, where it is more than text."""
    text_lengths: tuple[int, ...] = ()
    """Characters of the text by token; empty: they belong to the last one."""

    @property
    def all_parts(self) -> tuple[ChunkPart, ...]:
        """The output in parts."""
        return self.parts or text_part(self.text)

    @property
    def cost_bytes(self) -> int:
        """What it weighs against credit: merged emissions cost what their chunk does."""
        listed = sum(1 + len(entry.top) for entry in self.logprobs)
        said = parts_cost(self.parts) if self.parts else len(self.text.encode())
        return said + TOKEN_COST * len(self.tokens) + LOGPROB_COST * listed

    @property
    def items(self) -> int:
        """MessagePack items it puts into a chunk."""
        tops = sum(len(entry.top) for entry in self.logprobs)
        listed = LOGPROB_ITEMS * len(self.logprobs) + TOP_ITEMS * tops
        return len(self.tokens) + PART_ITEMS * len(self.parts) + listed

    def after(self, offset: int) -> "Emission":
        """The part behind completion token `offset`."""
        have = offset - self.offset
        if have <= 0:
            return self
        known = sum(self.text_lengths[:have])
        return replace(
            self,
            offset=offset,
            text_offset=self.text_offset + known,
            tokens=self.tokens[have:],
            text=self.text[known:],
            text_lengths=self.text_lengths[have:],
            logprobs=self.logprobs[have:],
        )

    def before(self, offset: int) -> "Emission":
        """The part up to completion token `offset`."""
        have = offset - self.offset
        return replace(
            self,
            tokens=self.tokens[:have],
            text=self.text[: sum(self.text_lengths[:have])],
            text_lengths=self.text_lengths[:have],
            logprobs=self.logprobs[:have],
        )

    def end_within(self, credit_bytes: int) -> int:
        """Behind which completion token credit is used up; tokens without lengths stay together."""
        end = self.offset + len(self.tokens)
        if not self.text_lengths or self.cost_bytes <= credit_bytes:
            return end
        at, said = self.offset, 0
        while credit_bytes > 0 and at < end:
            number = at - self.offset
            length = self.text_lengths[number]
            credit_bytes -= TOKEN_COST + len(self.text[said : said + length].encode())
            if self.logprobs:
                credit_bytes -= LOGPROB_COST * (1 + len(self.logprobs[number].top))
            at, said = at + 1, said + length
        return at


class _Bundle(Struct, frozen=True, weakref=True):
    """Plain output of many steps that waits for credit: no object per token."""

    tokens: bytes
    text: str

    def opened(self) -> Emission:
        tokens = tuple(unpack_tokens(self.tokens))
        return Emission(offset=0, text_offset=0, tokens=tokens, text=self.text)


class OutStream:
    """Merges emissions while there is no credit. One object per reader of a request."""

    def __init__(self, credit_bytes: int, offset: int = 0) -> None:
        """`offset`: the reader has the completion tokens before it."""
        self.credit_bytes = credit_bytes
        self.offset = offset
        self._pushed = offset
        self._pushed_text = -1
        self._seq = 0
        self._unsent: deque[Emission | _Bundle] = deque()
        self._loose = 0
        """Plain steps at the end of what waits."""
        self._unsent_bytes = 0
        self.starved_since: float | None = None

    @property
    def is_empty(self) -> bool:
        """True when everything pushed was taken."""
        return not self._unsent

    def push(self, emission: Emission) -> None:
        """Adds output; what the reader has already is left out."""
        end = emission.offset + len(emission.tokens)
        text_end = emission.text_offset + len(emission.text)
        # Text without tokens right behind the reader's last token may be new to it.
        is_known = bool(emission.tokens) or text_end <= self._pushed_text
        if end < self._pushed or (end == self._pushed and is_known):
            return
        rest = emission.after(self._pushed)
        self._pushed, self._pushed_text = end, text_end
        self._unsent.append(rest)
        self._unsent_bytes += rest.cost_bytes
        if rest.logprobs or rest.parts:
            self._loose = 0
            return
        self._loose += 1
        if self._loose == BUNDLE_STEPS or end // BUNDLE_TOKENS > rest.offset // BUNDLE_TOKENS:
            self._bundle()

    def grant(self, credit_bytes: int) -> None:
        """The reader takes this many bytes more."""
        self.credit_bytes += credit_bytes
        self.starved_since = None

    def starve(self, now: float) -> None:
        """The reader took nothing of what was offered."""
        if self.starved_since is None:
            self.starved_since = now

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
        items = 0
        while self._unsent and items < MAX_CHUNK_ITEMS and self.credit_bytes > 0:
            waiting = self._unsent.popleft()
            emission = waiting.opened() if isinstance(waiting, _Bundle) else waiting
            end = emission.end_within(self.credit_bytes)
            if end < emission.offset + len(emission.tokens):
                self._unsent.appendleft(emission.after(end))
                emission = emission.before(end)
            taken.append(emission)
            items += emission.items
            self.credit_bytes -= emission.cost_bytes
            self._unsent_bytes -= emission.cost_bytes
        self._loose = min(self._loose, len(self._unsent))
        return self._merge(taken)

    def _bundle(self) -> None:
        """Packs the plain steps that came last: a reader may let 1 MiB of output wait."""
        steps = [self._unsent.pop() for _ in range(self._loose)][::-1]
        self._loose = 0
        self._unsent.append(_packed(tuple(one for one in steps if isinstance(one, Emission))))

    def _merge(self, taken: list[Emission]) -> Chunk:
        ids = tuple(token for emission in taken for token in emission.tokens)
        parts = join_parts(part for emission in taken for part in emission.all_parts)
        chunk = Chunk(
            seq=self._seq,
            offset_tokens=self.offset,
            tokens=ids,
            parts=parts,
            logprobs=tuple(entry for emission in taken for entry in emission.logprobs),
        )
        self._seq += 1
        self.offset += len(ids)
        return chunk


def _packed(steps: tuple[Emission, ...]) -> _Bundle:
    """Readers of one request wait for the same output, and share it packed."""
    tokens = pack_tokens(token for step in steps for token in step.tokens)
    text = "".join(step.text for step in steps)
    known = _BUNDLES.get(tokens)
    if known is not None and known.text == text:
        return known
    bundle = _Bundle(tokens, text)
    _BUNDLES[tokens] = bundle
    return bundle


_BUNDLES: Final[WeakValueDictionary[bytes, _Bundle]] = WeakValueDictionary()
"""By their tokens, as long as a reader waits for them."""
