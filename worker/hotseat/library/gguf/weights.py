"""GGUF tensors to MLX arrays of a given form. Must not know names or architectures.

Rows are converted in pieces: a vocabulary or a stack of experts need not fit into memory as floats.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import gguf.quants
import mlx.core as mx
import numpy as np
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind

from hotseat.library.gguf.codes import KEPT, Codes, pack_codes
from hotseat.library.gguf.forms import Form
from hotseat.protocol.limits import MIB

_PIECE_BYTES: Final = 64 * MIB
"""Of decoded floats at a time."""
_DTYPES: Final = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
Arrays = Mapping[str, mx.array]
"""Arrays of a parameter by suffix: weight, scales, biases."""


def is_decodable(kind: Kind) -> bool:
    """True if the `gguf` package knows what the numbers of this type are."""
    blank = np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8)
    try:
        gguf.quants.dequantize(blank, kind)
    except NotImplementedError:  # how the package says that it has no decoder for a type
        return False
    return True


def decode(raw: np.ndarray, kind: Kind) -> np.ndarray:
    """Float32 values of any type, (rows, columns)."""
    values: np.ndarray = gguf.quants.dequantize(raw, kind)
    return values.astype(np.float32, copy=False)


def convert(
    raw: np.ndarray,
    kind: Kind,
    form: Form,
    shape: tuple[int, ...],
    order: np.ndarray | None = None,
    offset: float = 0.0,
) -> Arrays:
    """A parameter of this shape; `order` permutes rows, `offset` is added to floats.

    `raw` is (rows, bytes per row).
    """
    if len(shape) == 1 and order is not None:
        raw = raw.reshape(len(order), -1)
    pieces: dict[str, list[mx.array]] = {}
    for rows in _pieces(raw, kind):
        piece = raw[rows] if order is None else raw[order[rows]]
        made = _convert_piece(piece, kind, form, offset)
        mx.eval(made)
        for suffix, array in made.items():
            pieces.setdefault(suffix, []).append(array)
    leading = shape[:-1]
    arrays = {
        suffix: _joined(found).reshape(shape if not form.bits else (*leading, -1))
        for suffix, found in pieces.items()
    }
    mx.eval(arrays)
    return arrays


def _pieces(raw: np.ndarray, kind: Kind) -> Iterator[slice]:
    items, block_bytes = GGML_QUANT_SIZES[kind]
    row_bytes = raw.shape[1] // block_bytes * items * np.dtype(np.float32).itemsize
    step = max(1, _PIECE_BYTES // max(1, row_bytes))
    return (slice(start, start + step) for start in range(0, raw.shape[0], step))


def _joined(pieces: list[mx.array]) -> mx.array:
    return pieces[0] if len(pieces) == 1 else mx.concatenate(pieces, axis=0)


def _convert_piece(raw: np.ndarray, kind: Kind, form: Form, offset: float) -> Arrays:
    dtype = _DTYPES[form.dtype]
    if not form.bits:
        values = decode(raw, kind)
        return {"weight": mx.array(values + np.float32(offset) if offset else values).astype(dtype)}
    if form.kept:
        return _packed(KEPT[kind].unpack(raw), form)
    decoded = mx.array(decode(raw, kind)).astype(dtype)
    found = mx.quantize(decoded, group_size=form.group, bits=form.bits)
    return dict(zip(("weight", "scales", "biases"), found, strict=True))


def _packed(found: Codes, form: Form) -> Arrays:
    weight = mx.array(pack_codes(found.codes, form.bits))
    if found.biases is None:
        return {"weight": weight, "scales": mx.array(np.ascontiguousarray(found.scales))}
    dtype = _DTYPES[form.dtype]
    return {
        "weight": weight,
        "scales": mx.array(found.scales.astype(np.float32)).astype(dtype),
        "biases": mx.array(found.biases.astype(np.float32)).astype(dtype),
    }


def restore(arrays: Arrays, form: Form) -> mx.array:
    """Float32 values of converted arrays, as MLX will read them."""
    if not form.bits:
        return arrays["weight"].astype(mx.float32)
    values = mx.dequantize(
        arrays["weight"],
        arrays["scales"],
        arrays.get("biases"),
        group_size=form.group,
        bits=form.bits,
        mode=form.mode,
    )
    return values.astype(mx.float32)


def rope_order(rows: int, heads: int) -> np.ndarray:
    """Row order that turns interleaved rotary pairs back into halves, per head."""
    return np.arange(rows).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(-1)
