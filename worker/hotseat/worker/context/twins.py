"""A second context beside a live one, sharing its arrays until one of the two goes on.

Arrays in MLX are changed in place through the object that holds them, so a twin gets objects of
its own; the memory behind them is copied only when it is written. Must not know requests.
"""

import copy
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import CacheList

from hotseat.worker.context.live import LiveSession
from hotseat.worker.context.trace import Trace


def twin_of(session: LiveSession, persist: bool) -> LiveSession:  # noqa: FBT001 - as in Start
    """A session like `session` that can be cut and fed without touching it."""
    caches = [_twin_cache(cache) for cache in session.caches]
    return LiveSession(session.name, caches, _twin_trace(session.trace), persist=persist)


def _twin_cache(cache: Any) -> Any:
    twin = copy.copy(cache)
    if isinstance(cache, CacheList):
        twin.caches = tuple(_twin_cache(part) for part in cache.caches)
        return twin
    for name, value in vars(cache).items():
        setattr(twin, name, _twin_value(value))
    return twin


def _twin_value(value: Any) -> Any:
    if isinstance(value, mx.array):
        return value[...]
    if isinstance(value, list | tuple):
        return type(value)(_twin_value(entry) for entry in value)
    return value


def _twin_trace(trace: Trace) -> Trace:
    twin = copy.copy(trace)
    twin.tokens = list(trace.tokens)
    twin.chain = list(trace.chain)
    twin.log = copy.deepcopy(trace.log)
    twin.snapshots_at = set(trace.snapshots_at)
    # The durable tail belongs to the other session's name.
    twin.tail_at = None
    return twin
