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
WRITTEN = (
    Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0,
    Kind.TQ1_0, Kind.TQ2_0, Kind.MXFP4,
)  # fmt: skip
DRAWN = (
    Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K,
    Kind.IQ1_S, Kind.IQ1_M, Kind.IQ2_XXS, Kind.IQ2_XS, Kind.IQ2_S, Kind.IQ3_XXS, Kind.IQ3_S,
    Kind.IQ4_NL, Kind.IQ4_XS, Kind.NVFP4,
)  # fmt: skip


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
