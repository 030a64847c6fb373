"""Caches of one sequence and of a batch that go into each other without needless change.

A sliding window keeps the physical order of its ring: mlx-lm's own put it into temporal
order, which changes the order of summation and so, in half precision, now and then a greedy token.
A row that is alone stays in caches of one sequence; they become a batch's when another one joins.
Caches may be lists of caches; `leaves` sees through that, and everywhere else a cache's number is
that of its leaf. Must not know requests or files.
"""
# ruff: noqa: SLF001 - the ring's position is state of the classes extended here

from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import (
    ArraysCache,
    BatchKVCache,
    BatchRotatingKVCache,
    CacheList,
    KVCache,
    RotatingKVCache,
    make_prompt_cache,
)

from hotseat.protocol.live_contexts import padded


class FullKVCache(KVCache):  # type: ignore[misc]
    """Cache of one sequence in a layer that keeps all; keys `(1, heads, >= offset, dim)`."""

    keys: Any
    values: Any
    held_from = 0
    """Tokens before that are in files, and `keys` begin with the one there."""

    @classmethod
    def merge(cls, caches: Sequence["FullKVCache"]) -> "BatchFullKVCache":
        """A batch of the given rows, left-padded to the longest."""
        if len(caches) > 1 and all(cache.keys is None for cache in caches):
            return BatchFullKVCache([0] * len(caches))
        longest = max(cache.offset for cache in caches)
        pads = [longest - cache.offset for cache in caches]
        batch = BatchFullKVCache(pads)
        if len(caches) == 1:
            batch.keys, batch.values = caches[0].keys, caches[0].values
        else:
            batch.keys = _stacked([cache.keys for cache in caches], pads, longest)
            batch.values = _stacked([cache.values for cache in caches], pads, longest)
        batch.offset = mx.array([cache.offset for cache in caches])
        batch._idx = longest
        return batch

    def cut(self, position: int) -> None:
        """Goes back to `position` and gives up what is beyond its block.

        Else a short context would hold, and bring into a batch, all that a long one needed.
        """
        self.offset = position
        size = padded(position)
        if self.keys is not None and self.keys.shape[2] > size:
            self.keys = mx.contiguous(self.keys[:, :, :size])
            self.values = mx.contiguous(self.values[:, :, :size])
            mx.eval(self.keys, self.values)

    @classmethod
    def restored(cls, position: int, keys: mx.array, values: mx.array) -> "FullKVCache":
        """The cache after `position` tokens; the arrays may be longer."""
        cache = cls()
        cache.keys, cache.values, cache.offset = keys, values, position
        return cache


class BatchFullKVCache(BatchKVCache):  # type: ignore[misc]
    """Cache of a batch in a layer that keeps every token."""

    _looked_at: Any = None
    _is_padded = False

    def make_mask(self, tokens: int, *, return_array: bool = False, **options: Any) -> Any:
        """None where a row's one token sees all there is: nothing is padded."""
        if tokens != 1 or return_array or options.get("window_size"):
            return super().make_mask(tokens, return_array=return_array, **options)
        # The array is another one after every change of rows; to look at its numbers costs a wait.
        if self._looked_at is not self.left_padding:
            self._looked_at = self.left_padding
            self._is_padded = any(self.left_padding.tolist())
        return super().make_mask(tokens) if self._is_padded else None

    def extract(self, idx: int) -> FullKVCache:
        """Row `idx` alone, without its padding."""
        plain = super().extract(idx)
        return FullKVCache.restored(plain.offset, plain.keys, plain.values)


def _stacked(rows: Sequence[mx.array | None], pads: Sequence[int], longest: int) -> mx.array:
    """Rows `(1, heads, >= longest - pad, dim)`, None for empty, as `(rows, heads, size, dim)`.

    Each begins behind its pad. There is room for the next token if any row had it, so that this one
    does not copy all of it again; more would be memory that nobody counts.
    """
    arrays = [row for row in rows if row is not None]
    heads, dim = arrays[0].shape[1], arrays[0].shape[3]
    size = min(max(array.shape[2] for array in arrays), padded(longest + 1))
    whole = mx.zeros((len(rows), heads, size, dim), arrays[0].dtype)
    for number, (row, pad) in enumerate(zip(rows, pads, strict=True)):
        if row is not None:
            whole[number : number + 1, :, pad:longest] = row[:, :, : longest - pad]
    return whole


class RingKVCache(RotatingKVCache):  # type: ignore[misc]
    """Window cache of one sequence; keys `(1, kv_heads, tokens, k_dim)`.

    `start` is the slot of the oldest token: 0 while the tokens stand in temporal order.
    """

    keys: Any
    values: Any
    _idx: int

    @property
    def start(self) -> int:
        """Slot of the oldest token."""
        is_turned = self.offset >= self.max_size and self._idx < self.max_size
        return int(self._idx) if is_turned else 0

    def tighten(self) -> None:
        """Gives back what growth and chunks hold beside the newest tokens that count."""
        if self.keys is None or self.start:
            return
        held = slice(max(0, self._idx - self.max_size), self._idx)
        self.keys = mx.contiguous(self.keys[:, :, held])
        self.values = mx.contiguous(self.values[:, :, held])
        self._idx = self.keys.shape[2]

    @classmethod
    def merge(cls, caches: Sequence["RingKVCache"]) -> "BatchRingKVCache":
        """A batch of the given rows; rings that are alike stay as they are."""
        first = caches[0]
        alike = all(
            cache.start == first.start and cache.start > 0 and cache.max_size == first.max_size
            for cache in caches
        )
        if not alike:
            merged: BatchRingKVCache = BatchRingKVCache.merge(caches)
            return merged
        batch = BatchRingKVCache(first.max_size, [0] * len(caches))
        batch.keys = mx.concatenate([cache.keys for cache in caches], axis=0)
        batch.values = mx.concatenate([cache.values for cache in caches], axis=0)
        batch.offset = mx.array([cache.offset for cache in caches])
        batch._idx = first._idx
        batch._offset = first.max_size
        batch.rotated = True
        return batch

    @classmethod
    def restored(
        cls, window: int, position: int, keys: mx.array, values: mx.array, start: int
    ) -> "RingKVCache":
        """The cache after `position` tokens, from K and V in temporal order.

        `keys` and `values` hold the newest min(window, position) tokens.
        """
        cache = cls(window)
        held = keys.shape[2]
        is_turned = 0 < start < window and held == window
        cache.keys = mx.roll(keys, start, 2) if is_turned else keys
        cache.values = mx.roll(values, start, 2) if is_turned else values
        cache.offset = position
        cache._idx = start if is_turned else held
        return cache


class BatchRingKVCache(BatchRotatingKVCache):  # type: ignore[misc]
    """Window cache of a batch; all rows share one ring position."""

    def extract(self, idx: int) -> RingKVCache:
        """Row `idx` alone; a turned ring that the row fills stays turned."""
        mx.eval(self.left_padding, self.offset)
        offset = int(self.offset.tolist()[idx])
        row = RingKVCache(self.max_size)
        row.offset = offset
        if self.rotated and 0 < self._idx < self.max_size and offset >= self.max_size:
            row.keys = mx.contiguous(self.keys[idx : idx + 1])
            row.values = mx.contiguous(self.values[idx : idx + 1])
            row._idx = self._idx
            return row
        plain = super().extract(idx)
        # A chunk leaves more than a window of tokens; only the newest count from now on.
        row.keys = mx.contiguous(plain.keys[..., -self.max_size :, :])
        row.values = mx.contiguous(plain.values[..., -self.max_size :, :])
        row._idx = row.keys.shape[2]
        return row


def leaves(caches: Iterable[Any]) -> list[Any]:
    """Caches in order, those inside of lists one by one."""
    flat: list[Any] = []
    for cache in caches:
        flat += leaves(cache.caches) if isinstance(cache, CacheList) else [cache]
    return flat


def nested(flat: Sequence[Any], groups: Sequence[int | None]) -> list[Any]:
    """Inverse of `leaves`: neighbours with the same group number stand in one list."""
    caches: list[Any] = []
    last: int | None = None
    for cache, group in zip(flat, groups, strict=True):
        if group is None:
            caches.append(cache)
        elif group == last:
            caches[-1] = CacheList(*caches[-1].caches, cache)
        else:
            caches.append(CacheList(cache))
        last = group
    return caches


def batched(rows: Sequence[Sequence[Any]]) -> list[Any]:
    """Caches of one sequence each, entry by entry, as those of a batch of these rows."""
    return [entry[0].merge(entry) for entry in zip(*rows, strict=True)]


def tighten(caches: Iterable[Any]) -> None:
    """Of a sequence that leaves: its rings keep what counts."""
    for cache in leaves(caches):
        if isinstance(cache, RingKVCache):
            cache.tighten()


def new_caches(model: Any) -> list[Any]:
    """Empty caches of one sequence, entry by entry as the model wants them."""
    return [_own(cache) for cache in make_prompt_cache(model)]


def _own(cache: Any) -> Any:
    if isinstance(cache, CacheList):
        return CacheList(*(_own(one) for one in cache.caches))
    if isinstance(cache, RotatingKVCache):
        return RingKVCache(cache.max_size)
    return cache if isinstance(cache, ArraysCache) else FullKVCache()


def unservable_entry(caches: Sequence[Any]) -> str | None:
    """Name of a cache kind that a batch would lose a sequence over, or None.

    Plain and sliding-window attention and arrays of recurrent layers, also in lists, can be
    captured, restored and merged exactly.
    """
    for cache in leaves(caches):
        if type(cache) in (KVCache, ArraysCache) or isinstance(cache, FullKVCache):
            continue
        if isinstance(cache, RotatingKVCache) and cache.keep == 0 and hasattr(cache, "merge"):
            continue
        return type(cache).__name__
    return None


def layer_kinds(caches: Sequence[Any]) -> list[str]:
    """What a model's record calls the kind of each leaf."""
    names = {ArraysCache: "state", RotatingKVCache: "window"}
    return [names.get(type(cache), "full") for cache in leaves(caches)]


def is_cuttable(cache: Any) -> bool:
    """True if a leaf of one sequence can go back to an earlier token, given its snapshot."""
    return isinstance(cache, ArraysCache) or bool(cache.is_trimmable())


def cache_arrays(cache: Any) -> list[mx.array]:
    """Everything a leaf holds."""
    held = cache.cache if isinstance(cache, ArraysCache) else (cache.keys, cache.values)
    return [array for array in held if array is not None]


def row_end(cache: Any) -> int:
    """Index behind the newest token along the token axis (in a ring: the slot written next)."""
    if isinstance(cache, FullKVCache):
        return int(cache.offset) - cache.held_from
    return int(cache.offset if isinstance(cache, KVCache) else cache._idx)


def is_turned(cache: Any) -> bool:
    """True for a ring whose newest tokens stand before its oldest."""
    if isinstance(cache, BatchRingKVCache):
        return bool(cache.rotated)
    return isinstance(cache, RingKVCache) and cache.start > 0


def ring_starts(caches: Sequence[Any], tokens: int) -> dict[int, int]:
    """Slot of the oldest token by window size, of a row that holds `tokens` tokens.

    Works on caches of one sequence and on batch caches: a row that fills its window has no
    padding in the ring.
    """
    starts: dict[int, int] = {}
    for cache in leaves(caches):
        if not isinstance(cache, RingKVCache | BatchRingKVCache) or cache.max_size in starts:
            continue
        fills = tokens >= cache.max_size and cache._idx < cache.max_size
        starts[cache.max_size] = int(cache._idx) if is_turned(cache) and fills else 0
    return starts
