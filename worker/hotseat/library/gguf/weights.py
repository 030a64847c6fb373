"""GGUF tensors to MLX arrays, keeping the stored codes where MLX has the same form.

Affine groups of 32 (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K) keep every code; other quantised
types are decoded and quantised again. Must not know names or architectures.
"""

from collections.abc import Callable, Mapping
from typing import Final

import gguf.quants
import mlx.core as mx
import msgspec
import numpy as np
from gguf.constants import GGMLQuantizationType as Kind

GROUP: Final = 32
FLOATS: Final = (Kind.F32, Kind.F16, Kind.BF16, Kind.F64)
_COARSE_BITS: Final = 4
_FINE_BITS: Final = 8
_FINE: Final = (Kind.Q6_K, Kind.Q8_1, Kind.Q8_K)
"""Types of 6 bits and more that have no equal in MLX."""
_HALVES: Final = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


class Codes(msgspec.Struct, frozen=True):
    """Affine groups of 32: value = scale * code + bias. Shapes (rows, columns), (rows, groups)."""

    bits: int
    codes: np.ndarray
    scales: np.ndarray
    biases: np.ndarray


class Converted(msgspec.Struct, frozen=True):
    """Arrays by suffix ("weight", "scales", "biases"); `bits` is 0 for plain floats."""

    arrays: Mapping[str, mx.array]
    bits: int
    requantised: bool


def is_float(kind: Kind) -> bool:
    """True for types without blocks."""
    return kind in FLOATS


def decode_floats(raw: np.ndarray, kind: Kind) -> np.ndarray:
    """Float32 values of any type, (rows, columns)."""
    values: np.ndarray = gguf.quants.dequantize(raw, kind)
    return values.astype(np.float32, copy=False)


def convert_matrix(
    raw: np.ndarray, kind: Kind, dtype: str, order: np.ndarray | None = None
) -> Converted:
    """A quantised matrix in MLX's form; `order` permutes its rows."""
    if order is not None:
        raw = raw[order]
    if (unpack := _UNPACKERS.get(kind)) is not None:
        found = unpack(raw)
        arrays = {
            "weight": mx.array(pack_codes(found.codes, found.bits)),
            "scales": mx.array(found.scales.astype(np.float32)).astype(_HALVES[dtype]),
            "biases": mx.array(found.biases.astype(np.float32)).astype(_HALVES[dtype]),
        }
        mx.eval(arrays)
        return Converted(arrays, found.bits, requantised=False)
    values = mx.array(decode_floats(raw, kind)).astype(_HALVES[dtype])
    bits = _FINE_BITS if kind in _FINE else _COARSE_BITS
    weight, scales, biases = mx.quantize(values, group_size=GROUP, bits=bits)
    arrays = {"weight": weight, "scales": scales, "biases": biases}
    mx.eval(arrays)
    return Converted(arrays, bits, requantised=True)


def convert_floats(
    raw: np.ndarray,
    kind: Kind,
    dtype: str,
    order: np.ndarray | None,
    offset: float,
    shape: tuple[int, ...],
) -> Converted:
    """A plain tensor in `dtype`; `offset` is added, `order` permutes the first axis."""
    values = decode_floats(raw, kind).reshape(shape)
    if order is not None:
        values = values[order]
    array = mx.array(values + np.float32(offset) if offset else values).astype(_HALVES[dtype])
    mx.eval(array)
    return Converted({"weight": array}, 0, requantised=False)


def rope_order(rows: int, heads: int) -> np.ndarray:
    """Row order that turns interleaved rotary pairs back into halves, per head."""
    return np.arange(rows).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(-1)


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """MLX's packing: codes as a little-endian bit stream in 32-bit words, row by row."""
    rows = codes.shape[0]
    if bits == _FINE_BITS:
        stream = np.ascontiguousarray(codes)
    elif bits == _COARSE_BITS:
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
    """32 codes out of 16 bytes: low nibbles are the first half."""
    return np.concatenate([packed & 0x0F, packed >> 4], axis=-1)


def _fifth_bits(field: np.ndarray) -> np.ndarray:
    """Bit 4 of 32 codes out of 4 bytes."""
    return np.unpackbits(field, axis=-1, bitorder="little") << 4


def _blocks(raw: np.ndarray, size: int) -> np.ndarray:
    return raw.reshape(raw.shape[0], -1, size)


def _codes(bits: int, codes: np.ndarray, scales: np.ndarray, biases: np.ndarray) -> Codes:
    rows = codes.shape[0]
    flat = [array.reshape(rows, -1) for array in (codes, scales, biases)]
    return Codes(bits, *flat)


def _unpack_q4_0(raw: np.ndarray) -> Codes:
    blocks = _blocks(raw, 18)
    scale = _halves(blocks, 0)
    return _codes(4, _nibbles(blocks[..., 2:]), scale, -8 * scale)


def _unpack_q4_1(raw: np.ndarray) -> Codes:
    blocks = _blocks(raw, 20)
    return _codes(4, _nibbles(blocks[..., 4:]), _halves(blocks, 0), _halves(blocks, 2))


def _unpack_q5_0(raw: np.ndarray) -> Codes:
    blocks = _blocks(raw, 22)
    scale = _halves(blocks, 0)
    codes = _nibbles(blocks[..., 6:]) | _fifth_bits(blocks[..., 2:6])
    return _codes(5, codes, scale, -16 * scale)


def _unpack_q5_1(raw: np.ndarray) -> Codes:
    blocks = _blocks(raw, 24)
    codes = _nibbles(blocks[..., 8:]) | _fifth_bits(blocks[..., 4:8])
    return _codes(5, codes, _halves(blocks, 0), _halves(blocks, 2))


def _unpack_q8_0(raw: np.ndarray) -> Codes:
    blocks = _blocks(raw, 34)
    scale = _halves(blocks, 0)
    return _codes(8, blocks[..., 2:] ^ 0x80, scale, -128 * scale)


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
    return _codes(4, _k_nibbles(blocks[..., 16:]), *_k_groups(blocks))


def _unpack_q5_k(raw: np.ndarray) -> Codes:
    blocks = _blocks(raw, 176)
    # Byte j of the high bits holds bit 4 of value j of all eight groups, group g at bit g.
    high = np.unpackbits(blocks[..., 16:48, None], axis=-1, bitorder="little")
    high = high.swapaxes(-1, -2).reshape(*blocks.shape[:-1], 4, 2, 32)
    return _codes(5, _k_nibbles(blocks[..., 48:]) | (high << 4), *_k_groups(blocks))


_UNPACKERS: Final[Mapping[Kind, Callable[[np.ndarray], Codes]]] = {
    Kind.Q4_0: _unpack_q4_0,
    Kind.Q4_1: _unpack_q4_1,
    Kind.Q5_0: _unpack_q5_0,
    Kind.Q5_1: _unpack_q5_1,
    Kind.Q8_0: _unpack_q8_0,
    Kind.Q4_K: _unpack_q4_k,
    Kind.Q5_K: _unpack_q5_k,
}
