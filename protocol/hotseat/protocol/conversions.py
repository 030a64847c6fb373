"""What converting a model file would make of it. Pure.

Written by `hotseat.library`, read by the command line.
"""

from typing import Final

from msgspec import Struct

SEEN_ERROR: Final = 5e-5
"""Less than this is the rounding of scales, and shows as nothing."""


class TypeChange(Struct, frozen=True, kw_only=True):
    """What the tensors of one stored type become; `becomes` is like `4-bit g32`."""

    stored: str
    becomes: str
    tensors: int
    stored_bytes: int
    size_bytes: int
    requantised: bool
    """True if the codes are not those of the file."""
    error: float
    """RMS of the difference over RMS of the values, of a sample of rows."""


class ConversionPlan(Struct, frozen=True, kw_only=True):
    """Told before anything is written."""

    source: str
    architecture: str
    stored_bytes: int
    size_bytes: int
    """Of the weights that will be written."""
    free_bytes: int
    types: tuple[TypeChange, ...]
    has_template: bool
    """False: the file brings no chat template."""
