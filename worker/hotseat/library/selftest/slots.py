"""Whether experts in slots make the bits that all experts make, call by call. Judges nothing.

Metal chooses the kernel of a gathered product by rows over experts of the array, and slots are
fewer than experts. `worker/streaming/experts.py` has the rule that keeps kernels the same; here it
is put to the test with shapes that the rule is about.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.models.switch_layers import SwitchGLU

from hotseat.protocol.residence import SORTED_FROM, Residence
from hotseat.protocol.selftest import CompareSlots, Measured, figure
from hotseat.worker.streaming.seated import Streaming

_EXPERTS, _SLOTS, _CHOSEN = 64, 8, 4
_WIDTH, _INNER = 256, 128
_GROUP, _BITS = 64, 4
_SEED: Final = 7
_DECODE_ROWS: Final = tuple(range(1, SORTED_FROM // _CHOSEN))
"""Rows that decode at once: the most are 7 times as many as slots, and not sorted."""
_BATCH_ROWS: Final = (16, 17, 64, 200, 512)
"""Of a prompt: sorted, some with few rows for each of all experts and many for each slot."""


def compare_slots(order: CompareSlots) -> Measured:
    """The first call whose output differs, of those that decode and of those of a prompt."""
    dtypes = [mx.float32, mx.bfloat16] if mx.metal.is_available() else [mx.float32]
    decode: list[bool] = []
    batch: list[bool] = []
    for dtype in dtypes:
        folder = Path(order.folder) / str(dtype).rpartition(".")[2]
        folder.mkdir(parents=True, exist_ok=True)
        whole, streamed = _layer(dtype), _layer(dtype)
        file = folder / "model.safetensors"
        mx.save_safetensors(str(file), dict(tree_flatten(whole.parameters())), {"format": "mlx"})
        residence = Residence(mode="experts", slots=_SLOTS, rooms=1)
        streaming = Streaming(streamed, [file], residence)
        try:
            decode += _compare(whole, streamed, _DECODE_ROWS, dtype)
            batch += _compare(whole, streamed, _BATCH_ROWS, dtype)
        finally:
            streaming.close()
    return Measured(
        figures=(
            figure("compared_calls", len(decode) + len(batch)),
            figure("decode_differs_at", _first_false(decode)),
            figure("batch_differs_at", _first_false(batch)),
        )
    )


class _Layer(nn.Module):  # type: ignore[misc]
    """What chooses among experts, by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = SwitchGLU(_WIDTH, _INNER, _EXPERTS)


def _layer(dtype: mx.Dtype) -> Any:
    """Equal weights each time."""
    mx.random.seed(_SEED)
    layer = _Layer()
    layer.set_dtype(dtype)
    nn.quantize(layer, group_size=_GROUP, bits=_BITS)
    mx.eval(layer.parameters())
    return layer


def _compare(whole: Any, streamed: Any, rows: Sequence[int], dtype: mx.Dtype) -> list[bool]:
    """Whether each call gave equal bytes."""
    random = np.random.default_rng(_SEED)
    same = []
    for count in rows:
        of_slots = count * _CHOSEN < SORTED_FROM
        pool = random.permutation(_EXPERTS)[: _SLOTS if of_slots else _EXPERTS]
        chosen = np.array([random.permutation(pool)[:_CHOSEN] for _ in range(count)], np.uint32)
        x = mx.array(random.standard_normal((1, count, _WIDTH)).astype(np.float32)).astype(dtype)
        indices = mx.array(chosen)[None]
        same.append(_digest(whole.experts(x, indices)) == _digest(streamed.experts(x, indices)))
    return same


def _digest(output: mx.array) -> bytes:
    flat: Any = output.reshape(-1).view(mx.uint16)
    mx.eval(flat)
    return hashlib.blake2b(bytes(memoryview(flat))).digest()


def _first_false(same: Sequence[bool]) -> int:
    """Its place; -1 where there is none."""
    return same.index(False) if False in same else -1
