"""What a stored block must contain for the caches of a model. Pure; must not know files or mlx."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.model import LayerSpec
from hotseat.worker.store.kv_format import KvDamagedError, KvPayload, PartHeader

_TOKEN_BYTES: Final = 4


def needed_window_blocks(layers: Iterable[LayerSpec]) -> int:
    """How many blocks in front of a boundary hold the widest window."""
    widest = max((layer.window for layer in layers if layer.kind == "window"), default=0)
    return -(-widest // BLOCK_TOKENS)


def check_layout(
    payload: KvPayload,
    layers: Sequence[LayerSpec],
    dtype: str,
    *,
    is_block: bool = False,
    skipped: Collection[int] = (),
) -> None:
    """Raises KvDamagedError unless every part is what the cache of its layer takes.

    Layers that keep every token must be there, and in what is not a block the state of every
    recurrent layer. A window part may be missing (skipped, or its tokens had left the window when
    the block was captured). Entries that were `skipped` are looked at where they are read.
    """
    _check_states(payload, () if is_block else layers)
    count = len(payload.tokens) // _TOKEN_BYTES
    found = {part.entry: part for part in payload.parts}
    if not set(found) <= set(range(len(layers))):
        raise KvDamagedError("layout differs: more cache entries than the model has")
    for entry, layer in enumerate(layers):
        part = found.get(entry)
        if part is None:
            if layer.kind == "full" and count and entry not in skipped:
                raise KvDamagedError(f"layout differs: no part for cache entry {entry}")
            continue
        if layer.kind == "state":
            raise KvDamagedError(f"layout differs: K and V for recurrent cache entry {entry}")
        tokens = count if layer.kind == "full" else min(count, layer.window)
        shapes = ((layer.kv_heads, tokens, layer.k_dim), (layer.kv_heads, tokens, layer.v_dim))
        if (part.k_shape, part.v_shape) != shapes or part.dtype != dtype:
            raise KvDamagedError(f"layout differs: cache entry {entry}")


def check_block_parts(parts: Iterable[PartHeader], layers: Sequence[LayerSpec], dtype: str) -> None:
    """Raises KvDamagedError unless a block's layers that keep every token are what caches take."""
    found = {part.entry: part for part in parts}
    for entry, layer in enumerate(layers):
        if layer.kind != "full":
            continue
        part = found.get(entry)
        if part is None:
            raise KvDamagedError(f"layout differs: no part for cache entry {entry}")
        shapes = tuple((layer.kv_heads, BLOCK_TOKENS, dim) for dim in (layer.k_dim, layer.v_dim))
        if (part.k_shape, part.v_shape) != shapes or part.dtype != dtype:
            raise KvDamagedError(f"layout differs: cache entry {entry}")


def _check_states(payload: KvPayload, layers: Sequence[LayerSpec]) -> None:
    wanted = {
        (entry, slot, state.shape, state.dtype)
        for entry, layer in enumerate(layers)
        for slot, state in enumerate(layer.states)
    }
    if wanted != {(one.entry, one.slot, one.shape, one.dtype) for one in payload.states}:
        raise KvDamagedError("layout differs: other states than the recurrent layers keep")
