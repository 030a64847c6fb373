"""Tokens of a row beside others against those it draws alone: equal on a CPU, measured on Metal.

Metal takes other kernels for one row than for several, whose sums round differently; what it
promises is the same tokens alone before and alone after. So there the place of the first other
token is told in the summary of the run instead of failing it.
"""

import warnings
from collections.abc import Sequence

import mlx.core as mx


class DivergenceOnMetal(UserWarning):
    """A figure, not a fault: pytest shows it at the end."""


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Where two answers go apart; None if one is what the other is."""
    pairs = enumerate(zip(one, other, strict=False))
    found = next((place for place, (a, b) in pairs if a != b), None)
    if found is None and len(one) != len(other):
        return min(len(one), len(other))
    return found


def expect_as_alone(
    beside: Sequence[int], alone: Sequence[int], *, on_metal: bool | None = None
) -> None:
    """Fails when they differ; on Metal it says where."""
    place = first_difference(beside, alone)
    if place is None:
        return
    if mx.metal.is_available() if on_metal is None else on_metal:
        text = f"a row beside others draws another token at {place} of {len(alone)}"
        warnings.warn(DivergenceOnMetal(text), stacklevel=2)
        return
    assert list(beside) == list(alone), f"first difference at {place}"
