"""Contexts that are all in memory: what they take there, and how long one may be. Pure.

Both sides ask it: the supervisor what to promise, the worker what to admit.
"""

from collections import Counter

from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.model import STATES_HELD, LayerSpec, ModelRecord


def padded(tokens: int) -> int:
    """`tokens` rounded up to whole blocks: caches grow by 256."""
    return -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS


def token_bytes(layer: LayerSpec, number_bytes: int) -> int:
    """K and V of one token in one cache."""
    return layer.kv_heads * (layer.k_dim + layer.v_dim) * number_bytes


def cache_bytes(record: ModelRecord, layer: LayerSpec, tokens: int) -> int:
    """One cache of a context of so many tokens, while it is fed or decodes."""
    if layer.kind == "state":
        return sum(state.size_bytes for state in layer.states) * STATES_HELD
    held = padded(tokens)
    if layer.kind == "window":
        # After a chunk a window layer holds it and window - 1 tokens until the next step.
        held = min(held, layer.window + max(record.prefill_chunk, BLOCK_TOKENS))
    return held * token_bytes(layer, record.dtype_bytes)


def stays_in_memory(record: ModelRecord, tokens: int, budget_bytes: int) -> bool:
    """True for a context of so many tokens that the budget takes without any of its layers read."""
    return alone_bytes(record, tokens) <= budget_bytes


def alone_bytes(record: ModelRecord, tokens: int) -> int:
    """The least budget that takes a context of so many tokens."""
    return _alone(record, Counter(record.layers), tokens)


def longest_alone(record: ModelRecord, budget_bytes: int, ceiling: int) -> int:
    """The longest context, up to `ceiling` tokens, that the budget takes."""
    layers = Counter(record.layers)  # most are alike
    low, high = 0, -(-ceiling // BLOCK_TOKENS)
    while low < high:
        middle = (low + high + 1) // 2
        if _alone(record, layers, middle * BLOCK_TOKENS) <= budget_bytes:
            low = middle
        else:
            high = middle - 1
    return min(low * BLOCK_TOKENS, ceiling)


def _alone(record: ModelRecord, layers: Counter[LayerSpec], tokens: int) -> int:
    """With a copy of all caches (restoring is one) and of the largest (growing is one)."""
    sizes = [(cache_bytes(record, layer, tokens), count) for layer, count in layers.items()]
    held = sum(size * count for size, count in sizes)
    return 2 * held + max((size for size, _ in sizes), default=0)
