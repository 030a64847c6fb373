"""A context of which some layers' K and V are read from its block files with every step.

What is in no file yet, the tail, stays in memory. A layer's attention is the model's own, over
arrays of the shape that a whole cache would give it. Must not know requests or budgets.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

import mlx.core as mx
import numpy as np

from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.live_contexts import padded
from hotseat.protocol.model import LayerSpec, ModelRecord
from hotseat.protocol.streamed_contexts import ROOMS
from hotseat.worker.context.capture import MakeCache, words_of
from hotseat.worker.model.caches import FullKVCache, cache_arrays, leaves, nested, new_caches
from hotseat.worker.store.kept_blocks import KeptBlock
from hotseat.worker.streaming.kv_rooms import BlockReads, KvRooms

Lend = Callable[[int, int, tuple[mx.array, mx.array]], tuple[mx.array, mx.array]]
"""`(entry, held_from, tail) -> (keys, values)`: all of it, the tail behind what is in files."""
_TRIED: Final = (3, 2, 1)
"""Tokens of the steps by which a model is tried."""


class StreamedKVCache(FullKVCache):
    """Cache of one sequence in a layer that passes through a room; `keys` hold the tail alone."""

    def __init__(self, entry: int, lend: Lend) -> None:
        super().__init__()
        self._entry = entry
        self._lend = lend

    @classmethod
    def begun(
        cls, entry: int, lend: Lend, held_from: int, tail: tuple[mx.array, mx.array] | None
    ) -> "StreamedKVCache":
        """After `held_from` tokens in files and those of `tail`, `(1, kv_heads, tokens, dim)`."""
        cache = cls(entry, lend)
        cache.held_from = cache.offset = held_from
        if tail is not None:
            cache.keys, cache.values = tail
            cache.offset += tail[0].shape[2]
        return cache

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """All K and V; they are this layer's until the next one that passes asks for its own."""
        self.offset -= self.held_from
        tail: tuple[mx.array, mx.array] = super().update_and_fetch(keys, values)
        self.offset += self.held_from
        # What goes into this layer is there then, hence the attention of every earlier one.
        mx.eval(tail)
        return self._lend(self._entry, self.held_from, tail)

    def let_go(self, position: int) -> None:
        """Tokens before `position`, a block's end, are in files: they leave memory."""
        gone, held = position - self.held_from, self.offset - position
        self.held_from = position
        if not held:
            self.keys = self.values = None
            return
        self.keys = mx.contiguous(self.keys[:, :, gone : gone + held])
        self.values = mx.contiguous(self.values[:, :, gone : gone + held])
        mx.eval(self.keys, self.values)

    def is_trimmable(self) -> bool:
        """False: an earlier token may be in a file."""
        return False


class StreamedContext:
    """Files and rooms of one sequence. Whoever opened it closes it."""

    def __init__(
        self,
        record: ModelRecord,
        entries: Sequence[int],
        tokens: int,
        reads: BlockReads,
        *,
        rooms: int = ROOMS,
        is_spoilt: bool = False,
    ) -> None:
        """The cache entries `entries` pass through rooms, which take `tokens` at first."""
        self.entries = frozenset(entries)
        self._record = record
        self._reads = reads
        self._count = rooms
        self._is_spoilt = is_spoilt
        self._tokens = tokens
        self._blocks: list[KeptBlock] = []
        self._rooms: KvRooms | None = None
        self._lent: int | None = None

    @property
    def position(self) -> int:
        """How many tokens are read from files."""
        return len(self._blocks) * BLOCK_TOKENS

    def cache(self, entry: int, tail: tuple[mx.array, mx.array] | None = None) -> StreamedKVCache:
        """The cache of an entry after all blocks and `tail`."""
        return StreamedKVCache.begun(entry, self.lend, self.position, tail)

    def caches(self) -> dict[int, MakeCache]:
        """What makes the caches of its entries, each from its tail."""
        return {entry: functools.partial(self.cache, entry) for entry in self.entries}

    def append(self, blocks: Sequence[KeptBlock], caches: Sequence[Any] = ()) -> None:
        """These follow; tokens in them leave the memory of `caches`."""
        self._blocks += blocks
        for cache in leaves(caches):
            if isinstance(cache, StreamedKVCache):
                cache.let_go(self.position)

    def stream_more(self, entries: Sequence[int]) -> None:
        """These pass through rooms too, from the next step on; `leave_memory` changes caches."""
        self.entries |= frozenset(entries)
        self._close_rooms()

    def lend(
        self, entry: int, held_from: int, tail: tuple[mx.array, mx.array]
    ) -> tuple[mx.array, mx.array]:
        """All of a layer. Whoever was lent a room before has computed all he used it for."""
        end = held_from + tail[0].shape[2]
        rooms = self._rooms_for(end)
        room = rooms.take(entry)
        self._lent = entry
        for place, array in zip(room.place(held_from, end), tail, strict=True):
            np.copyto(place, words_of(array, self._record.kv_dtype)[0])
        return room.first(end)

    def close(self) -> None:
        """Nothing is read any more, and nobody computes with it."""
        self._close_rooms()
        for block in self._blocks:
            block.close()
        self._blocks.clear()

    def _rooms_for(self, tokens: int) -> KvRooms:
        """Those there are, the one that was lent being free again, or larger ones."""
        if self._rooms is not None and self._rooms.tokens >= tokens:
            if self._lent is not None:
                self._rooms.give(self._lent)
                self._lent = None
            return self._rooms
        self._close_rooms()
        self._tokens = padded(max(tokens, self._tokens))
        layers = self._record.layers
        self._rooms = KvRooms(
            {entry: layers[entry] for entry in sorted(self.entries)},
            self._record.kv_dtype,
            self._count,
            self._tokens,
            self._blocks,
            self._reads,
            is_spoilt=self._is_spoilt,
        )
        return self._rooms

    def _close_rooms(self) -> None:
        if self._rooms is not None:
            self._rooms.close()
        self._rooms = self._lent = None


def is_streamed(caches: Sequence[Any]) -> bool:
    """True if some layer's K and V are not all in memory."""
    return any(isinstance(cache, StreamedKVCache) for cache in leaves(caches))


def begin_streamed(model: Any, record: ModelRecord, context: StreamedContext) -> list[Any]:
    """Empty caches of a sequence of which the context's entries pass through rooms."""
    flat = leaves(new_caches(model))
    for entry in context.entries:
        flat[entry] = context.cache(entry)
    return nested(flat, _groups(record.layers))


def leave_memory(
    record: ModelRecord, caches: list[Any], context: StreamedContext, entries: Sequence[int]
) -> None:
    """Layers that were whole in memory pass through rooms from now on.

    All blocks of the sequence that are full are the context's.
    """
    flat = leaves(caches)
    for entry in entries:
        whole = flat[entry]
        parts = None
        if whole.offset > context.position:
            tail = slice(context.position, whole.offset)
            parts = mx.contiguous(whole.keys[:, :, tail]), mx.contiguous(whole.values[:, :, tail])
            mx.eval(parts)
        flat[entry] = context.cache(entry, parts)
    caches[:] = nested(flat, _groups(record.layers))


def why_not_streamed(
    model: Any, record: ModelRecord, entries: Sequence[int], on_pass: Callable[[], None]
) -> str:
    """Why this model's contexts cannot pass through rooms; empty if they can.

    A few tokens are computed with one room, spoilt whenever it is given back: code that uses K
    and V of a layer later than in that layer draws other tokens then. `on_pass` is called after
    each pass of the model: of weights that are read with it one may take long.
    """
    reads = BlockReads()
    context = StreamedContext(record, entries, BLOCK_TOKENS, reads, rooms=1, is_spoilt=True)
    try:
        expected, found = new_caches(model), begin_streamed(model, record, context)
        for count in _TRIED:
            tokens = mx.ones((1, count), mx.int32)
            logits = []
            for caches in (expected, found):
                logits.append(model(tokens, cache=caches))
                mx.eval(logits[-1], [cache_arrays(one) for one in leaves(caches)])
                on_pass()
            whole, passing = logits
            if not mx.array_equal(whole, passing).item():
                return "its code uses the context of a layer outside of that layer"
    finally:
        context.close()
        reads.close()
    return ""


def _groups(layers: Sequence[LayerSpec]) -> list[int | None]:
    return [layer.group for layer in layers]
