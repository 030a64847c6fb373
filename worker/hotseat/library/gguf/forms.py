"""Decides what a tensor of a GGUF type becomes in MLX, and how large that is. Pure.

Types that MLX has stay as they are unless another width is asked for; the others are decoded and
quantised again. Must not know files or how codes are packed.
"""

import math
from typing import Final, Literal

import msgspec
from gguf.constants import GGMLQuantizationType as Kind

from hotseat.library.gguf.codes import KEPT, Mode
from hotseat.library.gguf.families import Floats
from hotseat.library.gguf.layout import TensorPlan
from hotseat.protocol.errors import HotseatError

Bits = Literal[4, 6, 8]
GroupSize = Literal[32, 64, 128]

FLOATS: Final = (Kind.F32, Kind.F16, Kind.BF16)
_SMALL_GROUP: Final = 32
_USUAL_GROUP: Final = 64
"""What mlx-lm takes when it converts."""
_GROUPS: Final = (128, 64, 32)
_COARSE_BITS: Final = 4
_FINE_BITS: Final = 8
_FINE: Final = (Kind.Q6_K,)
"""Types of 6 bits and more that have no equal in MLX."""
_WORD_BYTES: Final = 4
_FLOAT_BYTES: Final[dict[Floats, int]] = {"float32": 4, "float16": 2, "bfloat16": 2}


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """How somebody wants weights stored. `bits` None: as near to the file as MLX allows.

    With `bits`, everything is quantised to that width; `keep` leaves alone what MLX has.
    """

    bits: Bits | None = None
    group_size: GroupSize | None = None
    keep: bool = False

    @classmethod
    def of(cls, bits: Bits | None, group_size: GroupSize | None, *, keep: bool) -> "Wish":
        """Raises `HotseatError` invalid_request for a group size without a width."""
        if group_size is not None and bits is None:
            raise HotseatError(
                "invalid_request",
                f"groups of {group_size} need a width; give --bits 4, 6 or 8 as well",
                group_size=group_size,
            )
        return cls(bits=bits, group_size=group_size, keep=keep)


AS_STORED: Final = Wish()


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What a tensor becomes. `bits` is 0 for floats of `dtype`, which is also that of scales."""

    dtype: Floats
    bits: int = 0
    group: int = 0
    mode: Mode = "affine"
    kept: bool = True
    """False if values change: decoded and quantised again."""

    @property
    def label(self) -> str:
        """For people."""
        if not self.bits:
            return self.dtype
        return f"{self.bits}-bit g{self.group}" if self.mode == "affine" else self.mode


def choose_form(plan: TensorPlan, kind: Kind, wish: Wish, dtype: Floats) -> Form:
    """The form of a tensor; float types are `kept` even where they become narrower."""
    plain = Form(dtype=dtype)
    if not plan.quantisable or plan.transform == "norm_offset":
        return plain
    if kind in FLOATS:
        if wish.bits is None or plan.router:
            return plain
        return _quantised(plan, wish.bits, wish.group_size or _USUAL_GROUP, dtype) or plain
    known = KEPT.get(kind)
    if known is not None and (wish.bits is None or wish.keep):
        return Form(dtype=dtype, bits=known.bits, group=known.group, mode=known.mode)
    if wish.bits is None:
        bits, group = (_FINE_BITS if kind in _FINE else _COARSE_BITS), _SMALL_GROUP
    else:
        bits, group = wish.bits, wish.group_size or _USUAL_GROUP
    return _quantised(plan, bits, group, dtype) or plain


def _quantised(plan: TensorPlan, bits: int, group: int, dtype: Floats) -> Form | None:
    """With the largest group up to the asked one that rows can be cut into; None without any."""
    columns = plan.shape[-1]
    fitting = next((size for size in _GROUPS if size <= group and columns % size == 0), None)
    if fitting is None:
        return None
    return Form(dtype=dtype, bits=bits, group=fitting, kept=False)


def stored_bytes(shape: tuple[int, ...], form: Form) -> int:
    """Bytes of a tensor of this form: its words, scales and biases."""
    count = math.prod(shape)
    if not form.bits:
        return count * _FLOAT_BYTES[form.dtype]
    words = count // shape[-1] * math.ceil(shape[-1] * form.bits / 32) * _WORD_BYTES
    groups = count // form.group
    scale_bytes = 2 * _FLOAT_BYTES[form.dtype] if form.mode == "affine" else 1
    return words + groups * scale_bytes
