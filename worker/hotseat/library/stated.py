"""What the place that a model file lies in says of the model, beside the file. Pure."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct


class Stated(Struct, frozen=True, kw_only=True):
    """`generation` has the fields of generation_config.json.

    `ends` are texts that end an answer; those that are one token of the vocabulary count.
    """

    generation: Mapping[str, float | int] = {}
    ends: tuple[str, ...] = ()
    context_tokens: int | None = None
    licence: str = ""
    """For a file that names none itself."""


NOTHING_STATED: Final = Stated()
