"""How a model's prompts are fed: tokens at once, and the memory that one such chunk takes. Pure."""

import math
from typing import Final

from msgspec import structs

from hotseat.protocol.chunks import most_scores
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.model import LayerSpec, ModelRecord

_FUSED_HEAD_DIMS: Final = frozenset({64, 80, 128})
"""Head sizes for which Metal's attention over several queries never stores the scores."""
_SPARSE_CHUNK: Final = 1024
_DENSE_CHUNK: Final = 512
_SMALL_PARAMETERS: Final = 2 * 10**9
_ACTIVATIONS: Final = 16
"""Numbers per token and hidden unit alive in a layer: residual twice, q k v, MLP three wide."""
_IN_FLIGHT: Final = 2
"""Layers whose buffers live at once, since evaluation is asynchronous."""
_ACTIVATION_BYTES: Final = 4
_SCORE_BYTES: Final = 4
"""Of one layer, as was measured on a CPU; in half precision of two."""


def as_fed_on(record: ModelRecord, system: str, chunk: int | None = None) -> ModelRecord:
    """The record with how its prompts are fed. `system`: sys.platform; `chunk`: if it is set."""
    return structs.replace(
        record,
        prefill_chunk=chunk or prefill_chunk(record, system),
        stores_scores=any(_stores_scores(layer, system) for layer in record.layers),
    )


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
    Attention that has no fused kernel also stores its scores. KV of the chunk before is there a
    second time until it is read.
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


def _stores_scores(layer: LayerSpec, system: str) -> bool:
    if layer.kind == "state":
        return False
    is_fused = layer.k_dim == layer.v_dim and layer.k_dim in _FUSED_HEAD_DIMS
    return system != "darwin" or not is_fused


def _scores_bytes(record: ModelRecord, hidden: int) -> int:
    if not record.stores_scores:
        return 0
    kept = [layer for layer in record.layers if layer.kind != "state"]
    least = min((layer.k_dim for layer in kept), default=1)
    shared = max((layer.kv_heads for layer in kept), default=1)
    heads = record.attention_heads or max(hidden // max(least, 1), shared)
    return heads * most_scores(record.prefill_chunk, record.context_tokens) * _SCORE_BYTES
