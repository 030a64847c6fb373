"""KV of one sequence to payloads for disk, and payloads back to caches. Must not know files.

K and V of a token never change once computed, so any run of tokens can be cut out of a cache at
any time; sliding windows only while the tokens are still inside. The state of a recurrent layer
exists for the newest token alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import ArraysCache
from msgspec import Struct

from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.live_contexts import padded
from hotseat.protocol.model import FloatType, LayerSpec, ModelRecord
from hotseat.worker.model.caches import (
    FullKVCache,
    RingKVCache,
    is_turned,
    leaves,
    nested,
    row_end,
)
from hotseat.worker.store.kv_format import Buffer, KvPayload, LayerPart, Shape, StatePart

TOKEN_BYTES = 4
"""Packed token ids: `tokens.pack_tokens`."""
_WORDS: dict[FloatType, Any] = {"float32": mx.uint32, "float16": mx.uint16, "bfloat16": mx.uint16}
_NUMPY: dict[FloatType, Any] = {"float32": np.uint32, "float16": np.uint16, "bfloat16": np.uint16}
_DTYPES: dict[FloatType, Any] = {
    "float32": mx.float32,
    "float16": mx.float16,
    "bfloat16": mx.bfloat16,
}

MakeCache = Callable[[tuple[mx.array, mx.array] | None], Any]
"""A cache whose blocks stay in files, from K and V of what is in none."""
Run = tuple[Buffer, Shape]
"""K or V of tokens that follow each other, and how it is laid out."""


class RowView(Struct, frozen=True):
    """Where one sequence of `tokens` tokens stands: row `row` of each of `caches`."""

    caches: Sequence[Any]
    row: int
    tokens: int


class _Span(Struct, frozen=True):
    """Slices along the token axis that hold a run of tokens, in order."""

    pieces: tuple[tuple[int, int], ...]

    @property
    def tokens(self) -> int:
        return sum(end - begin for begin, end in self.pieces)


class PartsUnderway(Struct, frozen=True):
    """K and V of a run of tokens that are still to be copied out of MLX's memory."""

    dtype: FloatType
    spans: tuple[tuple[int, int], ...]
    """Cache entry and tokens of each part."""
    slices: tuple[list[mx.array], ...]
    """Of each part the pieces of K, then those of V."""

    def read(self) -> tuple[LayerPart, ...]:
        """Copies them, once they are computed. On the thread that owns the caches."""
        mx.eval(self.slices)
        numbers = [_joined(pieces) for pieces in self.slices]
        return tuple(
            LayerPart(
                entry=entry,
                tokens=tokens,
                keys=keys.data,
                values=values.data,
                k_shape=keys.shape,
                v_shape=values.shape,
                dtype=self.dtype,
            )
            for (entry, tokens), keys, values in zip(
                self.spans, numbers[::2], numbers[1::2], strict=True
            )
        )


def capture_parts(
    view: RowView, layers: Sequence[LayerSpec], begin: int, end: int, dtype: FloatType
) -> PartsUnderway:
    """K and V of tokens `begin`..`end`, to be read before the caches change.

    Window layers give their newest min(window, end - begin) tokens, or no part once some of these
    are gone; recurrent layers give none. Runs on the thread and in the stream that own the caches.
    """
    wanted = []
    for entry, (cache, layer) in enumerate(zip(leaves(view.caches), layers, strict=True)):
        if layer.kind == "state" or begin == end:
            continue
        span = _locate(cache, layer, view.tokens, begin, end)
        if span is not None:
            wanted.append((entry, span, cache))
    slices = tuple(
        [_cut(array, view.row, piece).view(_WORDS[dtype]) for piece in span.pieces]
        for _, span, cache in wanted
        for array in (cache.keys, cache.values)
    )
    return PartsUnderway(dtype, tuple((entry, span.tokens) for entry, span, _ in wanted), slices)


def set_apart(parts: PartsUnderway) -> PartsUnderway:
    """Copies in MLX's memory, begun now: they may be read when the caches have long changed.

    None of them holds a cache's array, which would then be copied with the next token. Runs in the
    stream that owns the caches.
    """
    slices = tuple([mx.contiguous(piece) for piece in pieces] for pieces in parts.slices)
    mx.async_eval(slices)  # type: ignore[no-untyped-call]
    return PartsUnderway(parts.dtype, parts.spans, slices)


def capture_states(view: RowView, layers: Sequence[LayerSpec]) -> tuple[StatePart, ...]:
    """What the recurrent layers hold after the newest token, copied out of MLX's memory.

    Runs on the thread and in the stream that own the caches.
    """
    wanted = [
        (entry, slot, spec.dtype, cache.cache[slot][view.row].view(_WORDS[spec.dtype]))
        for entry, (cache, layer) in enumerate(zip(leaves(view.caches), layers, strict=True))
        for slot, spec in enumerate(layer.states)
    ]
    mx.eval([array for *_, array in wanted])
    parts = []
    for entry, slot, dtype, array in wanted:
        numbers = np.array(array, copy=True, order="C")
        parts.append(
            StatePart(entry=entry, slot=slot, data=numbers.data, shape=numbers.shape, dtype=dtype)
        )
    return tuple(parts)


def rebuild_state(parts: Iterable[StatePart]) -> list[mx.array]:
    """Arrays of one recurrent layer, with the batch axis, from its parts."""
    return [
        mx.array(np.frombuffer(part.data, dtype=_NUMPY[part.dtype]).reshape(1, *part.shape)).view(
            _DTYPES[part.dtype]
        )
        for part in sorted(parts, key=lambda part: part.slot)
    ]


def _locate(cache: Any, layer: LayerSpec, tokens: int, begin: int, end: int) -> _Span | None:
    """Slices of tokens `begin`..`end` in a cache whose row holds `tokens` tokens."""
    if layer.kind == "full":
        shift = row_end(cache) - tokens
        if shift + begin < 0:
            raise ValueError(f"tokens from {begin} on are not in memory any more")
        return _Span(((shift + begin, shift + end),))
    window = layer.window
    begin = max(begin, end - window)
    shift = row_end(cache) - tokens
    first, last = shift + begin, shift + end
    if not is_turned(cache):
        # Behind a chunk all of its blocks are still there, with their windows.
        return _Span(((first, last),)) if first >= 0 else None
    if begin < tokens - window:
        return None
    if first >= 0:
        return _Span(((first, last),))
    if last <= 0:
        return _Span(((first + window, last + window),))
    return _Span(((first + window, window), (0, last)))


def _cut(array: mx.array, row: int, piece: tuple[int, int]) -> mx.array:
    return array[row : row + 1, :, piece[0] : piece[1]]


def _joined(pieces: Sequence[mx.array]) -> np.ndarray[Any, Any]:
    """`(kv_heads, tokens, dim)` in memory of its own: a view would pin the whole cache."""
    joined: np.ndarray[Any, Any]
    if len(pieces) == 1:
        joined = np.array(pieces[0], copy=True, order="C")
    else:
        joined = np.concatenate([np.asarray(piece) for piece in pieces], axis=2)
    row: np.ndarray[Any, Any] = joined[0]
    return row


def words_of(array: mx.array, dtype: FloatType) -> np.ndarray[Any, Any]:
    """Its numbers where they are, as words of their size. Only to be read."""
    words = array.view(_WORDS[dtype])
    mx.eval(words)
    return np.array(words, copy=False)


def _part(payload: KvPayload, entry: int) -> LayerPart | None:
    return next((part for part in payload.parts if part.entry == entry), None)


def rebuild_caches(
    record: ModelRecord,
    payloads: Sequence[KvPayload],
    position: int,
    ring_starts: dict[int, int],
    room: "Room | None" = None,
    in_files: Mapping[int, MakeCache] = MappingProxyType({}),
) -> list[Any]:
    """Caches of a sequence after `position` tokens, from its blocks and maybe a tail or snapshot.

    A tail may go on beyond `position` (full attention only). Evaluated layer by layer, so that
    the payloads and one layer's copy are the most that is held beside the result. Raises
    ValueError if a window is not stored as far back as it reaches, or a state not at all. What
    `room` has of the right size is used. Of entries `in_files` only a tail is looked at.
    """
    caches: list[Any] = []
    room = room or Room(record, position)
    for entry, layer in enumerate(record.layers):
        if layer.kind == "state":
            states = [part for part in payloads[-1].states if part.entry == entry]
            if len(states) != len(layer.states):
                raise ValueError(f"the state of cache entry {entry} is not stored")
            state = ArraysCache(len(layer.states))
            state.cache = rebuild_state(states)
            mx.eval(state.cache)
            caches.append(state)
            continue
        parts = [part for payload in payloads if (part := _part(payload, entry)) is not None]
        if entry in in_files:
            caches.append(in_files[entry](_tail_of(parts, position % BLOCK_TOKENS, record)))
            continue
        if layer.kind == "full":
            keys, values = room.take(entry, position)
            keys = _assemble(keys, [(part.keys, part.k_shape) for part in parts], position, record)
            values = _assemble(
                values, [(part.values, part.v_shape) for part in parts], position, record
            )
            caches.append(FullKVCache.restored(position, keys, values))
            continue
        held = min(layer.window, position)
        newest = _newest(payloads, entry, held)
        keys = _stack([(part.keys, part.k_shape) for part in newest], record)
        values = _stack([(part.values, part.v_shape) for part in newest], record)
        start = ring_starts.get(layer.window, 0)
        cache = RingKVCache.restored(
            layer.window, position, keys[:, :, -held:], values[:, :, -held:], start
        )
        mx.eval(cache.keys, cache.values)
        caches.append(cache)
    return nested(caches, [layer.group for layer in record.layers])


def _tail_of(
    parts: Sequence[LayerPart], tokens: int, record: ModelRecord
) -> tuple[mx.array, mx.array] | None:
    """K and V of the tokens behind the last block; None if there are none."""
    if not tokens:
        return None
    keys = _stack([(part.keys, part.k_shape) for part in parts], record)[:, :, :tokens]
    values = _stack([(part.values, part.v_shape) for part in parts], record)[:, :, :tokens]
    mx.eval(keys, values)
    return keys, values


def _newest(payloads: Sequence[KvPayload], entry: int, held: int) -> list[LayerPart]:
    """Parts that hold the newest `held` tokens of a window layer without a gap, in order."""
    kept: list[LayerPart] = []
    for payload in reversed(payloads):
        if held <= 0:
            break
        if not payload.tokens:
            continue
        part = _part(payload, entry)
        if part is None:
            break
        kept.insert(0, part)
        held -= part.tokens
        if part.tokens < len(payload.tokens) // TOKEN_BYTES:
            break
    if held > 0:
        raise ValueError(f"the window of cache entry {entry} is not stored as far as it reaches")
    return kept


def _stack(runs: Iterable[Run], record: ModelRecord) -> mx.array:
    """`(1, kv_heads, tokens, dim)` of the model's dtype, tokens one run after another."""
    words = _NUMPY[record.kv_dtype]
    arrays = [
        mx.array(np.frombuffer(buffer, dtype=words).reshape(1, *shape)) for buffer, shape in runs
    ]
    whole = arrays[0] if len(arrays) == 1 else mx.concatenate(arrays, axis=2)
    return whole.view(_DTYPES[record.kv_dtype])


class Room:
    """Zeros for the full-attention layers of a sequence, one pair an entry.

    A first touch of memory takes longer than all else in a restore, so it is begun while the files
    are read. Caches grow by whole blocks: there are zeros behind the last token.
    """

    def __init__(self, record: ModelRecord, position: int) -> None:
        self._record = record
        self._pairs = {
            entry: self._zeros(entry, position)
            for entry, layer in enumerate(record.layers)
            if layer.kind == "full"
        }

    def begin(self) -> "Room":
        """Has mlx touch it from now on, on its own thread."""
        arrays = [array for pair in self._pairs.values() for array in pair]
        mx.async_eval(arrays)  # type: ignore[no-untyped-call]
        return self

    def take(self, entry: int, position: int) -> tuple[mx.array, mx.array]:
        """The pair of `entry`; a new one if it is not as long as `position` needs."""
        pair = self._pairs.pop(entry, None)
        if pair is None or pair[0].shape[2] != padded(position):
            return self._zeros(entry, position)
        return pair

    def _zeros(self, entry: int, position: int) -> tuple[mx.array, mx.array]:
        layer = self._record.layers[entry]
        words = _WORDS[self._record.kv_dtype]
        size = padded(position)
        return (
            mx.zeros((1, layer.kv_heads, size, layer.k_dim), words),
            mx.zeros((1, layer.kv_heads, size, layer.v_dim), words),
        )


def _assemble(whole: mx.array, runs: Iterable[Run], position: int, record: ModelRecord) -> mx.array:
    """The first `position` tokens in place of zeros; each run is copied once."""
    words = _NUMPY[record.kv_dtype]
    mx.eval(whole)
    # mlx documents that writing to a view without a copy writes to the array.
    view: np.ndarray[Any, Any] = np.array(whole, copy=False)
    start = 0
    for run, shape in runs:
        count = min(shape[1], position - start)
        part = np.frombuffer(run, dtype=words).reshape(shape)
        view[0, :, start : start + count] = part[:, :count]
        start += count
    numbers = whole.view(_DTYPES[record.kv_dtype])
    mx.eval(numbers)
    return numbers
