"""Codes of GGUF blocks in MLX's order and packing, for the types whose values MLX has exactly.

Affine groups of 32 (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, and the ternary TQ1_0 and TQ2_0), and
the floats of 4 bits (MXFP4, NVFP4). Must not know names, architectures or what is done with them.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal

import gguf.quants
import msgspec
import numpy as np
from gguf.constants import GGMLQuantizationType as Kind

Mode = Literal["affine", "mxfp4", "nvfp4"]
"""How MLX reads codes; a name of its own for each."""


class Codes(msgspec.Struct, frozen=True):
    """Groups of codes. Shapes (rows, columns) and (rows, groups).

    Affine: value = scale * code + bias. Floats of 4 bits: `scales` are bytes, and there are no
    biases.
    """

    codes: np.ndarray
    scales: np.ndarray
    biases: np.ndarray | None


class Kept(msgspec.Struct, frozen=True):
    """A type that MLX has: how it reads it, and how the blocks are taken apart."""

    bits: int
    unpack: Callable[[np.ndarray], Codes]
    group: int = 32
    mode: Mode = "affine"


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """MLX's packing: codes as a little-endian bit stream in 32-bit words, row by row."""
    rows = codes.shape[0]
    if bits == 8:  # noqa: PLR2004 - a byte
        stream = np.ascontiguousarray(codes)
    elif bits == 4:  # noqa: PLR2004 - half of one
        stream = codes[:, 0::2] | (codes[:, 1::2] << 4)
    else:
        split = np.unpackbits(codes[..., None], axis=-1, count=bits, bitorder="little")
        stream = np.packbits(split.reshape(rows, -1), axis=-1, bitorder="little")
    return np.ascontiguousarray(stream).view("<u4")


def _halves(blocks: np.ndarray, start: int) -> np.ndarray:
    """A float16 field of every block, (rows, blocks)."""
    field = np.ascontiguousarray(blocks[..., start : start + 2])
    return field.view("<f2")[..., 0].astype(np.float32)


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """Codes of 4 bits, two in a byte: low nibbles are the first half."""
    return np.concatenate([packed & 0x0F, packed >> 4], axis=-1)


def _fifth_bits(field: np.ndarray) -> np.ndarray:
    """Bit 4 of 32 codes out of 4 bytes."""
    return np.unpackbits(field, axis=-1, bitorder="little") << 4


def _blocks(raw: np.ndarray, size: int) -> np.ndarray:
    return raw.reshape(raw.shape[0], -1, size)


def _codes(codes: np.ndarray, scales: np.ndarray, biases: np.ndarray) -> Codes:
    rows = codes.shape[0]
    flat = [array.reshape(rows, -1) for array in (codes, scales, biases)]
    return Codes(*flat)


def _unpack_q4_0(raw: np.ndarray) -> Codes:
    blocks = _blocks(raw, 18)
    scale = _halves(blocks, 0)
    return _codes(_nibbles(blocks[..., 2:]), scale, -8 * scale)


def _unpack_q4_1(raw: np.ndarray) -> Codes:
    blocks = _blocks(raw, 20)
    return _codes(_nibbles(blocks[..., 4:]), _halves(blocks, 0), _halves(blocks, 2))


def _unpack_q5_0(raw: np.ndarray) -> Codes:
    blocks = _blocks(raw, 22)
    scale = _halves(blocks, 0)
    codes = _nibbles(blocks[..., 6:]) | _fifth_bits(blocks[..., 2:6])
    return _codes(codes, scale, -16 * scale)


def _unpack_q5_1(raw: np.ndarray) -> Codes:
    blocks = _blocks(raw, 24)
    codes = _nibbles(blocks[..., 8:]) | _fifth_bits(blocks[..., 4:8])
    return _codes(codes, _halves(blocks, 0), _halves(blocks, 2))


def _unpack_q8_0(raw: np.ndarray) -> Codes:
    blocks = _blocks(raw, 34)
    scale = _halves(blocks, 0)
    return _codes(blocks[..., 2:] ^ 0x80, scale, -128 * scale)


def _k_scales(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eight 6-bit scales and eight 6-bit minima out of 12 bytes."""
    low, middle, high = packed[..., 0:4], packed[..., 4:8], packed[..., 8:12]
    scales = [low & 0x3F, (high & 0x0F) | ((low >> 2) & 0x30)]
    minima = [middle & 0x3F, (high >> 4) | ((middle >> 2) & 0x30)]
    return np.concatenate(scales, axis=-1), np.concatenate(minima, axis=-1)


def _k_groups(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and bias of the eight groups of 32 in each block of 256."""
    scales, minima = _k_scales(blocks[..., 4:16])
    return _halves(blocks, 0)[..., None] * scales, -_halves(blocks, 2)[..., None] * minima


def _k_nibbles(packed: np.ndarray) -> np.ndarray:
    """256 codes out of 128 bytes: each 32 bytes hold two groups, low nibbles first."""
    quarters = packed.reshape(*packed.shape[:-1], 4, 1, 32)
    return np.concatenate([quarters & 0x0F, quarters >> 4], axis=-2)


def _unpack_q4_k(raw: np.ndarray) -> Codes:
    blocks = _blocks(raw, 144)
    return _codes(_k_nibbles(blocks[..., 16:]), *_k_groups(blocks))


def _unpack_q5_k(raw: np.ndarray) -> Codes:
    blocks = _blocks(raw, 176)
    # Byte j of the high bits holds bit 4 of value j of all eight groups, group g at bit g.
    high = np.unpackbits(blocks[..., 16:48, None], axis=-1, bitorder="little")
    high = high.swapaxes(-1, -2).reshape(*blocks.shape[:-1], 4, 2, 32)
    return _codes(_k_nibbles(blocks[..., 48:]) | (high << 4), *_k_groups(blocks))


def _unpack_ternary(kind: Kind) -> Callable[[np.ndarray], Codes]:
    """-1, 0 and 1 times a scale for each block of 256; the packing is the decoder's matter."""

    def unpack(raw: np.ndarray) -> Codes:
        size = gguf.constants.GGML_QUANT_SIZES[kind][1]
        scale = np.repeat(_halves(_blocks(raw, size), size - 2), 8, axis=-1)
        values = gguf.quants.dequantize(raw, kind).reshape(*scale.shape, 32)
        divisor = np.where(scale == 0, np.float32(1), scale)[..., None]
        return _codes(np.rint(values / divisor + 1).astype(np.uint8), scale, -scale)

    return unpack


def _unpack_mxfp4(raw: np.ndarray) -> Codes:
    blocks = _blocks(raw, 17)
    rows = raw.shape[0]
    return Codes(
        _nibbles(blocks[..., 1:]).reshape(rows, -1), blocks[..., 0].reshape(rows, -1), None
    )


def _unpack_nvfp4(raw: np.ndarray) -> Codes:
    """Blocks of 64: four scales, then four times eight bytes of 16 codes, low nibbles first."""
    blocks = _blocks(raw, 36)
    rows = raw.shape[0]
    codes = _nibbles(blocks[..., 4:].reshape(*blocks.shape[:2], 4, 8))
    return Codes(codes.reshape(rows, -1), blocks[..., :4].reshape(rows, -1), None)


KEPT: Final[Mapping[Kind, Kept]] = {
    Kind.Q4_0: Kept(4, _unpack_q4_0),
    Kind.Q4_1: Kept(4, _unpack_q4_1),
    Kind.Q5_0: Kept(5, _unpack_q5_0),
    Kind.Q5_1: Kept(5, _unpack_q5_1),
    Kind.Q8_0: Kept(8, _unpack_q8_0),
    Kind.Q4_K: Kept(4, _unpack_q4_k),
    Kind.Q5_K: Kept(5, _unpack_q5_k),
    Kind.TQ1_0: Kept(2, _unpack_ternary(Kind.TQ1_0)),
    Kind.TQ2_0: Kept(2, _unpack_ternary(Kind.TQ2_0)),
    Kind.MXFP4: Kept(4, _unpack_mxfp4, mode="mxfp4"),
    Kind.NVFP4: Kept(4, _unpack_nvfp4, group=16, mode="nvfp4"),
}
