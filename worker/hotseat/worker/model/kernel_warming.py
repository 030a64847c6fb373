"""Kernels of models that may be seated next: a layer of each kind runs in the shapes of real steps.

Metal compiles a kernel when it is asked for the first time in a process, and a worker is a new
process after each swap. Runs on the engine's thread, an evaluation a call, and leaves nothing in
memory. Must not know weights, requests or the seat.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import mlx.core as mx
from mlx_lm.generate import generation_stream
from mlx_lm.models.cache import CacheList
from mlx_lm.sample_utils import greedy_sampler
from msgspec import Struct

from hotseat.protocol.ids import Tag
from hotseat.protocol.link_orders import Prepare
from hotseat.protocol.link_reports import FromWorker, KernelsWarmed
from hotseat.protocol.live_contexts import padded
from hotseat.protocol.model import ModelRecord
from hotseat.worker.dying import pass_on_loss
from hotseat.worker.model.caches import (
    FullKVCache,
    RingKVCache,
    batched,
    cache_arrays,
    leaves,
    new_caches,
)
from hotseat.worker.model.first_layers import NoLayerError, build_first_layers
from hotseat.worker.model.metal import clear_cache

TAIL_TOKENS: Final = 37
"""The end of a prompt: a length that fits no tile."""
ROWS: Final = (1, 2, 4)
LONG_KEYS: Final = (1_280, 4_352, 9_216)
"""Attention of one token takes another kernel beyond 1,024 or 4,096 keys, and yet another one, or
one made for more parts, beyond 8,192 (mlx 0.32, metal/scaled_dot_product_attention.cpp)."""


class WarmShape(Struct, frozen=True):
    """`tokens` of each of `rows` at once, behind `past` others."""

    rows: int
    tokens: int
    past: int


def warm_shapes(record: ModelRecord) -> tuple[WarmShape, ...]:
    """What is evaluated for a model: its chunk, a prompt's end, rows that decode, long keys."""
    chunk = record.prefill_chunk
    shapes = [WarmShape(1, chunk, 0), WarmShape(1, TAIL_TOKENS, chunk)]
    past = chunk + TAIL_TOKENS
    shapes += [WarmShape(rows, 1, past) for rows in ROWS if rows == 1 or record.batches]
    if any(layer.kind == "full" for layer in record.layers):
        shapes += [WarmShape(1, 1, keys) for keys in LONG_KEYS if keys > past]
    return tuple(one for one in shapes if one.past + one.tokens <= record.context_tokens)


class KernelWarming:
    """Warms for one model after another; all methods are called on the engine's thread."""

    def __init__(self, send: Callable[[FromWorker], None]) -> None:
        self._send = send
        self._orders: deque[Prepare] = deque()
        self._current: _Course | None = None
        self._seen: set[Tag] = set()

    @property
    def is_busy(self) -> bool:
        """True while there is something to evaluate."""
        return self._current is not None or bool(self._orders)

    def put(self, order: Prepare) -> None:
        """Warms for its model in later steps, if it says so and nobody did before.

        One whose weights are read ahead comes next for certain, so all others are given up.
        """
        if order.warm_pages and (self._current is None or self._current.tag != order.record.tag):
            self.drop()
        if order.kernels_limit_bytes and order.record.tag not in self._seen:
            self._seen.add(order.record.tag)
            self._orders.append(order)

    def step(self) -> bool:
        """One evaluation; False if there is none. Raises GpuLostError, and tells other errors."""
        if self._current is None:
            if not self._orders:
                return False
            self._current = _Course(self._orders.popleft())
        course = self._current
        left_out = ""
        try:
            if course.advance():
                return True
        except NoLayerError as error:
            left_out = str(error)
        except Exception as error:  # noqa: BLE001 - a model that fails here may still be loaded
            pass_on_loss(error)
            left_out = f"{type(error).__name__}: {' '.join(str(error).split())}"
        self._end()
        self._send(course.report(left_out))
        return True

    def drop(self) -> None:
        """Gives up what is left to do; a model is loaded instead."""
        self._orders.clear()
        if self._current is not None:
            self._end()

    def _end(self) -> None:
        self._current = None
        clear_cache()
        mx.reset_peak_memory()


class _Course:
    """The evaluations for one model."""

    def __init__(self, order: Prepare) -> None:
        self._record = order.record
        self._seconds: list[float] = []
        self._steps = _evaluate_all(order)

    @property
    def tag(self) -> Tag:
        """Of the model."""
        return self._record.tag

    def advance(self) -> bool:
        """One evaluation; False when there is none left."""
        began = time.monotonic()
        with mx.stream(generation_stream):
            is_left = next(self._steps, None) is not None
        self._seconds.append(time.monotonic() - began)
        return is_left

    def report(self, left_out: str) -> KernelsWarmed:
        """What came of it."""
        return KernelsWarmed(
            model=self._record.name,
            seconds=sum(self._seconds),
            longest_s=max(self._seconds, default=0.0),
            left_out=left_out,
        )


def _evaluate_all(order: Prepare) -> Iterator[Any]:
    """Yields after each evaluation."""
    model = build_first_layers(order.record, order.kernels_limit_bytes)
    # Building draws first values that are thrown away; the global key would keep their graph.
    mx.eval(mx.random.state, model.parameters())
    yield model
    caches: list[Any] = []
    for shape in warm_shapes(order.record):
        if shape.past == 0:
            caches = new_caches(model)
        evaluate(model, shape, caches)
        yield shape


def evaluate(model: Any, shape: WarmShape, begun: Sequence[Any]) -> None:
    """A step of this shape as a lane would make it, to the end.

    `begun` are caches of one sequence that a chunk went into, or empty ones for the chunk.
    """
    rows = [
        list(begun) if shape.past == 0 else [_lengthened(one, shape.past - row) for one in begun]
        for row in range(shape.rows)
    ]
    # Rows are seldom as long as their neighbours, and what pads them is a mask of its own.
    caches = rows[0] if len(rows) == 1 else batched(rows)
    fed = mx.zeros((shape.rows, shape.tokens), mx.uint32)
    logits = model(fed, cache=caches)[:, -1, :]
    kept = [array for cache in leaves(caches) for array in cache_arrays(cache)]
    if shape.tokens > 1:
        mx.eval(kept)
        return
    scores = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    mx.eval(greedy_sampler(logits), scores, kept)


def _lengthened(cache: Any, position: int) -> Any:
    """A cache like this one behind `position` tokens, of which K and V are zeros."""
    if isinstance(cache, CacheList):
        return CacheList(*(_lengthened(one, position) for one in cache.caches))
    if isinstance(cache, RingKVCache):
        held = min(cache.max_size, position)
        keys, values = _blank(cache, held)
        return RingKVCache.restored(cache.max_size, position, keys, values, 0)
    if isinstance(cache, FullKVCache):
        return FullKVCache.restored(position, *_blank(cache, padded(position)))
    return cache


def _blank(cache: Any, tokens: int) -> tuple[mx.array, mx.array]:
    return _zeros(cache.keys, tokens), _zeros(cache.values, tokens)


def _zeros(like: mx.array, tokens: int) -> mx.array:
    return mx.zeros((*like.shape[:2], tokens, like.shape[3]), like.dtype)
