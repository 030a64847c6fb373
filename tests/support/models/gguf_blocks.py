"""Blocks of every GGUF type, with values of the size of weights. For types nobody can quantise to.

The `gguf` package decodes more types than it writes: for the others bytes are drawn, and the scales
in them are set.
"""

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind

_LAST_TWO = (slice(-2, None),)
_SCALES: dict[Kind, tuple[slice, ...]] = {
    Kind.Q2_K: (slice(-4, -2), slice(-2, None)),
    Kind.Q3_K: _LAST_TWO,
    Kind.Q4_K: (slice(0, 2), slice(2, 4)),
    Kind.Q5_K: (slice(0, 2), slice(2, 4)),
    Kind.Q6_K: _LAST_TWO,
}
"""Where the float16 scales of a block lie; its first two bytes in other types."""
WRITTEN = tuple(
    Kind[name]
    for name in ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4"]
)
DRAWN = tuple(
    Kind[name]
    for name in [
        "Q2_K",
        "Q3_K",
        "Q4_K",
        "Q5_K",
        "Q6_K",
        "IQ1_S",
        "IQ1_M",
        "IQ2_XXS",
        "IQ2_XS",
        "IQ2_S",
        "IQ3_XXS",
        "IQ3_S",
        "IQ4_NL",
        "IQ4_XS",
        "NVFP4",
    ]
)


def blocks_of(kind: Kind, shape: tuple[int, ...], spread: float, seed: int) -> np.ndarray:
    """Bytes of a matrix of random numbers with about this standard deviation."""
    rng = np.random.default_rng(seed)
    if kind in WRITTEN:
        values = rng.normal(0, spread, shape).astype(np.float32)
        return gguf.quants.quantize(values, kind)
    items, block_bytes = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (*shape[:-1], shape[-1] // items, block_bytes), dtype=np.uint8)
    for scale in (1.0, None):
        _set_scales(blocks, kind, scale or spread / _spread(blocks, kind, shape))
    return blocks.reshape(*shape[:-1], -1)


def _spread(blocks: np.ndarray, kind: Kind, shape: tuple[int, ...]) -> float:
    return float(gguf.quants.dequantize(blocks.reshape(-1, blocks.shape[-1]), kind).std())


def _set_scales(blocks: np.ndarray, kind: Kind, scale: float) -> None:
    if kind is Kind.NVFP4:
        # Bytes are the scales themselves: four exponent bits, of which 7 means 1.
        exponent = int(np.floor(np.log2(scale))) + 7
        blocks[..., :4] = max(1, exponent) << 3
        return
    half = np.array(scale, np.float16).view(np.uint16)
    if kind is Kind.IQ1_M:
        for number in range(4):
            nibble = (int(half) >> (4 * number)) & 0xF
            at = blocks.shape[-1] - 8 + 2 * number + 1
            blocks[..., at] = (blocks[..., at] & 0x0F) | (nibble << 4)
        return
    for place in _SCALES.get(kind, (slice(0, 2),)):
        blocks[..., place] = np.frombuffer(half.tobytes(), np.uint8)
