"""What a model's weights are made of, and which parts could be read as they are needed.

Looks at a lazily built model and at headers of its files; evaluates nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache

from hotseat.protocol.residence import CHOSEN_FIELDS, WeightParts
from hotseat.worker.streaming.experts import experts_of, switches_of
from hotseat.worker.streaming.places import NotStreamableError, Place, find_places, places_of


def measure_parts(model: Any, files: Sequence[Path]) -> WeightParts:
    """Bytes of the parts of a model that was built lazily. Raises OSError, ValueError."""
    layers: Sequence[Any] = getattr(model, "layers", None) or ()
    sizes = tuple(_size(layer) for layer in layers)
    unusual = _unusual(model, layers)
    places = find_places(files)
    names = {id(module): name for name, module in model.named_modules()}
    switches = switches_of(model)
    return WeightParts(
        layers=sizes,
        outside=_size(model) - sum(sizes),
        layers_refused=unusual
        or _refused(
            lambda: [places_of(layer, names.get(id(layer), ""), places) for layer in layers]
        ),
        experts=tuple(_size(module) for _, module in switches),
        expert_count=_count(switches, places),
        chosen=_chosen(model),
        experts_refused=_refused(lambda: experts_of(model, places)),
    )


def _unusual(model: Any, layers: Sequence[Any]) -> str:
    """Why layers cannot be hooked: each has to be called once for a token, as a whole."""
    if not layers:
        return "it has no list of layers"
    if len({id(layer) for layer in layers}) < len(layers):
        return "a layer of it stands in several places"
    calls = dict.fromkeys((id(layer) for layer in layers), 0)

    def counting(base: type) -> type:
        def call(self: Any, *arguments: Any, **options: Any) -> Any:
            calls[id(self)] += 1
            return base.__call__(self, *arguments, **options)

        return type(base.__name__, (base,), {"__call__": call})

    bases = [type(layer) for layer in layers]
    counted = {base: counting(base) for base in set(bases)}
    try:
        for layer, base in zip(layers, bases, strict=True):
            layer.__class__ = counted[base]
        model(mx.zeros((1, 1), mx.int32), cache=make_prompt_cache(model))
    except Exception as error:  # noqa: BLE001 - whatever its code does not expect
        return f"its code does not run by itself ({type(error).__name__})"
    finally:
        for layer, base in zip(layers, bases, strict=True):
            layer.__class__ = base
    if set(calls.values()) != {1}:
        return "its code does not call each of its layers once"
    return ""


def _refused(look: Callable[[], object]) -> str:
    try:
        look()
    except NotStreamableError as error:
        return str(error)
    return ""


def _size(module: Any) -> int:
    return sum(int(array.nbytes) for _, array in tree_flatten(module.parameters()))


def _count(switches: Sequence[tuple[str, Any]], places: Mapping[str, Place]) -> int:
    """Experts of the first layer that has some."""
    for name, module in switches:
        for key, _ in tree_flatten(module.parameters()):
            place = places.get(f"{name}.{key}")
            return place.shape[0] if place is not None else 0
    return 0


def _chosen(model: Any) -> int:
    for part in (model, getattr(model, "language_model", None)):
        arguments = getattr(part, "args", None)
        for name in CHOSEN_FIELDS:
            value = getattr(arguments, name, None)
            if isinstance(value, int):
                return value
    return 0
