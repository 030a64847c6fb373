"""Proof that a model is gone from this process: weak references to its parts, and bytes.

Must not know seats.
"""

import weakref
from typing import Any, Final

import mlx.core as mx
from mlx.utils import tree_flatten

from hotseat.protocol.link_reports import Unloaded
from hotseat.worker.model.footprint import footprint_bytes, give_back, settled_footprint

WATCHED_ARRAYS: Final = 16
"""The biggest ones: what matters if it stays."""

Watched = list[tuple[str, "weakref.ref[Any]"]]


def watch_model(model: Any) -> Watched:
    """Weak references, by name, to modules of `model` with arrays and to its biggest arrays.

    A module without arrays holds no memory, and may be mlx-lm's own: every mixture of experts
    shares one activation that is a default argument.
    """
    modules = [
        (name or "model", weakref.ref(module))
        for name, module in model.named_modules()
        if tree_flatten(module.parameters())
    ]
    arrays: list[tuple[str, mx.array]] = tree_flatten(model.parameters())
    arrays.sort(key=lambda named: named[1].nbytes, reverse=True)
    return modules + [(name, weakref.ref(array)) for name, array in arrays[:WATCHED_ARRAYS]]


def names_alive(watched: Watched) -> tuple[str, ...]:
    """Names of what is still referenced from somewhere; call it after a garbage collection."""
    return tuple(name for name, reference in watched if reference() is not None)


class Unloading:
    """What a model held, taken down before it goes; None: nothing was loaded."""

    def __init__(self, model: Any | None) -> None:
        self._watched = [] if model is None else watch_model(model)
        self._active = int(mx.get_active_memory())
        self._footprint = footprint_bytes()

    def report(self) -> Unloaded:
        """Once nobody holds it any more: gives memory back, and says how much came back."""
        give_back()
        mx.reset_peak_memory()
        active_before, active_after = self._active, int(mx.get_active_memory())
        return Unloaded(
            active_before=active_before,
            active_after=active_after,
            footprint_before=self._footprint,
            footprint_after=settled_footprint(active_before - active_after, self._footprint),
            leaked=names_alive(self._watched),
        )
