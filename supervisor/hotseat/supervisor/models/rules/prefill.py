"""How a model's prompts are fed: tokens at once, and the memory that one such chunk takes. Pure."""

import math
from typing import Final

from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.model import ModelRecord

_FUSED_HEAD_DIMS: Final = frozenset({64, 80, 128})
"""Head sizes for which MLX's attention over several queries never stores the scores."""
_SCORED_TOKENS: Final = 8192
_SPARSE_CHUNK: Final = 1024
_DENSE_CHUNK: Final = 512
_SMALL_PARAMETERS: Final = 2 * 10**9
_ACTIVATIONS: Final = 16
"""Numbers per token and hidden unit alive in a layer: residual twice, q k v, MLP three wide."""
_IN_FLIGHT: Final = 2
"""Layers whose buffers live at once, since evaluation is asynchronous."""
_ACTIVATION_BYTES: Final = 4


def prefill_chunk(record: ModelRecord, system: str) -> int:
    """Tokens of a prompt that this model feeds at once, unless it is set. `system`: sys.platform.

    A block everywhere but on Metal. There a mixture of experts has little to do for each expert in
    a block, and a small model as much to do for a chunk as in it. Others gain less from more, and
    whoever decodes waits for a whole chunk.
    """
    if system != "darwin":
        return BLOCK_TOKENS
    is_sparse = record.experts > 0 or record.parameters < _SMALL_PARAMETERS
    return _SPARSE_CHUNK if is_sparse else _DENSE_CHUNK


def prefill_peak_bytes(record: ModelRecord) -> int:
    """Upper estimate of what one prefill chunk needs besides weights and KV.

    The record has no hidden size. It follows from the parameter count of a dense transformer,
    `parameters = 12 * layers * hidden^2 + vocab * hidden` (Kaplan et al. 2020, section 2.1, plus
    the embedding); for mixtures of experts this is too large, which errs on the safe side.
    Attention with head sizes that MLX has no fused kernel for also stores its scores. KV of the
    chunk before is there a second time until it is read.
    """
    # Caches of one list belong to one layer.
    lists = {layer.group for layer in record.layers if layer.group is not None}
    alone = sum(layer.group is None for layer in record.layers)
    layers = max(len(lists) + alone, 1)
    square, linear = 12 * layers, record.vocab_size
    root = math.isqrt(linear * linear + 4 * square * record.parameters)
    hidden = max((root - linear) // (2 * square), 1)
    activations = record.prefill_chunk * hidden * _ACTIVATIONS * _ACTIVATION_BYTES * _IN_FLIGHT
    copied = max(record.prefill_chunk, BLOCK_TOKENS) * sum(
        layer.kv_heads * (layer.k_dim + layer.v_dim) * record.dtype_bytes
        for layer in record.layers
        if layer.kind != "state"
    )
    return activations + copied + _scores_bytes(record, hidden)


def _scores_bytes(record: ModelRecord, hidden: int) -> int:
    unfused = [
        layer.k_dim
        for layer in record.layers
        if layer.kind != "state" and layer.k_dim not in _FUSED_HEAD_DIMS
    ]
    if not unfused:
        return 0
    heads = max(hidden // max(min(unfused), 1), 1)
    seen = min(record.context_tokens, _SCORED_TOKENS)
    return heads * record.prefill_chunk * seen * _ACTIVATION_BYTES
