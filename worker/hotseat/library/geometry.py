"""Finds the KV geometry of a model by building it lazily. Must not bring weights into memory.

The only file of the library that runs model code, and it evaluates nothing.
"""

from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import msgspec
from mlx.utils import tree_flatten
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, RotatingKVCache, make_prompt_cache
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.utils import get_total_parameters

from hotseat.library.folder import refusing, words_of
from hotseat.protocol.model import FloatType, LayerSpec, StateSpec
from hotseat.protocol.model_files import list_files
from hotseat.protocol.residence import WeightParts
from hotseat.worker.model.building import build_model
from hotseat.worker.model.caches import leaves, new_caches
from hotseat.worker.streaming.parts import measure_parts

_DTYPES: Final[dict[Any, FloatType]] = {
    mx.float32: "float32",
    mx.float16: "float16",
    mx.bfloat16: "bfloat16",
}
_REASONS: Final = {
    "ChunkedKVCache": "chunked attention, whose batches mlx-lm cannot form",
    "QuantizedKVCache": "quantised KV, whose batches mlx-lm cannot form",
    "ConcatenateKVCache": "attention without a growing buffer",
}
_SERVED: Final = (KVCache, RotatingKVCache, ArraysCache)
_EXPERT_LAYERS: Final = (SwitchLinear, QuantizedSwitchLinear)
_ROW_LENGTHS: Final = (2, 5)
_OF_CONTENT: Final = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OSError)
"""What mlx-lm raises over a model it does not know; anything else is a defect."""


class Geometry(msgspec.Struct, frozen=True, kw_only=True):
    """What the built model tells. `layers` is empty when `unfit_reason` is not."""

    layers: tuple[LayerSpec, ...]
    kv_dtype: FloatType
    batches: bool
    parameters: int
    loaded_bytes: int
    """Of the weights that the model keeps; its files may hold more, or less in another form."""
    experts: int
    quantisation: str
    model_context_tokens: int
    vocab_size: int
    unfit_reason: str
    parts: WeightParts


def measure_geometry(folder: Path) -> Geometry:
    """Builds the model of `folder` with lazy weights and reads shapes; model_unavailable if not."""
    remedy = "use a model that this mlx-lm supports"
    with refusing(folder, "mlx-lm cannot build it", remedy, _OF_CONTENT):
        model, _config = build_model(folder)
        caches = make_prompt_cache(model)
        parts = measure_parts(model, [folder / name for name in list_files(folder).weights])
    unfit = _unfit_caches(caches)
    layers: tuple[LayerSpec, ...] = ()
    dtype = _weights_dtype(model)
    batches = False
    if not unfit:
        try:
            layers, dtype = _read_layers(model, caches)
            _try_rows(model, _ROW_LENGTHS[:1])
            batches = _batches(model)
        except _UnfitGeometry as finding:
            layers, unfit = (), str(finding)
    return Geometry(
        layers=layers,
        kv_dtype=dtype,
        batches=batches,
        parameters=int(get_total_parameters(model)),
        loaded_bytes=sum(int(array.nbytes) for _, array in tree_flatten(model.parameters())),
        experts=_experts(model),
        quantisation=_quantisation_label(model),
        model_context_tokens=_built_context(model),
        vocab_size=_vocab_size(model),
        unfit_reason=unfit,
        parts=parts,
    )


def _experts(model: Any) -> int:
    """Experts of the layer that has most; their weights are stacked along the first axis."""
    layers = (one for one in model.modules() if isinstance(one, _EXPERT_LAYERS))
    return max((int(layer.weight.shape[0]) for layer in layers), default=0)


class _UnfitGeometry(Exception):  # noqa: N818 - a finding about the model, not a failure
    """The model was built but its KV cannot be served; the text says why."""


def _unfit_caches(caches: list[Any]) -> str:
    """Empty if every cache is of a kind the engine serves."""
    refused: dict[str, int] = {}
    flat = leaves(caches)
    for cache in flat:
        kind = type(cache)
        name = kind.__name__
        if kind is RotatingKVCache and cache.keep:
            name = f"RotatingKVCache that keeps its first {cache.keep} tokens"
        elif kind in _SERVED:
            continue
        refused[name] = refused.get(name, 0) + 1
    if not refused:
        return ""
    kinds = ", ".join(
        f"{name}{f' ({_REASONS[name]})' if name in _REASONS else ''} in {count} of {len(flat)} "
        "caches"
        for name, count in refused.items()
    )
    return (
        f"needs {kinds}; this version keeps plain and sliding-window attention and recurrent "
        "state exactly (KVCache, RotatingKVCache, ArraysCache, lists of them)"
    )


def _read_layers(model: Any, caches: list[Any]) -> tuple[tuple[LayerSpec, ...], FloatType]:
    """Shapes and dtypes of the caches after lazy tokens; nothing is evaluated."""
    _feed(model, caches, 1, 1)
    early = [_state_specs(cache, number) for number, cache in enumerate(leaves(caches))]
    _feed(model, caches, 1, max(_ROW_LENGTHS))
    layers = []
    dtypes = set()
    for number, (cache, group) in enumerate(zip(leaves(caches), _groups(caches), strict=True)):
        if isinstance(cache, ArraysCache):
            states = _state_specs(cache, number)
            if states != early[number]:
                raise _UnfitGeometry(f"the recurrent state of cache {number} grows with the tokens")
            layers.append(LayerSpec(kind="state", states=states, group=group))
            continue
        if cache.keys is None or cache.values is None:
            raise _UnfitGeometry(f"cache {number} stays empty: the layer shares another one's KV")
        if not (cache.keys.shape[-1] and cache.values.shape[-1]):
            raise _UnfitGeometry(f"cache {number} keeps keys without values, or the reverse")
        dtypes |= {cache.keys.dtype, cache.values.dtype}
        window = cache.max_size if type(cache) is RotatingKVCache else 0
        layers.append(
            LayerSpec(
                kind="window" if window else "full",
                kv_heads=int(cache.keys.shape[1]),
                k_dim=int(cache.keys.shape[-1]),
                v_dim=int(cache.values.shape[-1]),
                window=int(window),
                group=group,
            )
        )
    if not dtypes:
        return tuple(layers), _weights_dtype(model)
    if len(dtypes) != 1 or not dtypes <= set(_DTYPES):
        raise _UnfitGeometry(f"KV of dtypes {sorted(map(str, dtypes))}; one float type is needed")
    return tuple(layers), _DTYPES[dtypes.pop()]


def _state_specs(cache: Any, number: int) -> tuple[StateSpec, ...]:
    """Arrays of a recurrent layer; none for another."""
    if not isinstance(cache, ArraysCache):
        return ()
    specs = []
    for slot, array in enumerate(cache.cache):
        if array is None or array.ndim < 2 or array.shape[0] != 1:  # noqa: PLR2004 - batch and one
            raise _UnfitGeometry(f"slot {slot} of the recurrent cache {number} holds no state")
        if array.dtype not in _DTYPES:
            raise _UnfitGeometry(
                f"slot {slot} of the recurrent cache {number} holds {array.dtype}, not floats"
            )
        specs.append(StateSpec(shape=tuple(array.shape[1:]), dtype=_DTYPES[array.dtype]))
    return tuple(specs)


def _groups(caches: list[Any]) -> list[int | None]:
    """Which list each leaf stands in. Raises _UnfitGeometry for lists in lists."""
    groups: list[int | None] = []
    for number, cache in enumerate(caches):
        if not isinstance(cache, CacheList):
            groups.append(None)
            continue
        if any(isinstance(one, CacheList) for one in cache.caches):
            raise _UnfitGeometry(f"cache {number} is a list of lists of caches")
        groups += [number] * len(cache.caches)
    return groups


def _batches(model: Any) -> bool:
    """True if rows of unlike lengths can share a step."""
    try:
        _try_rows(model, _ROW_LENGTHS)
    except _UnfitGeometry:
        return False
    return True


def _try_rows(model: Any, lengths: tuple[int, ...]) -> None:
    """Builds a batched step lazily, as the batch generator does. Raises _UnfitGeometry."""
    try:
        rows = []
        for length in lengths:
            row = new_caches(model)
            _feed(model, row, 1, length)
            rows.append(row)
        batch = [caches[0].merge(list(caches)) for caches in zip(*rows, strict=True)]
        _feed(model, batch, len(lengths), 1)
        for cache in batch:
            cache.extract(len(lengths) - 1)
    except Exception as error:
        # Whatever a model's code does not expect of a batch.
        raise _UnfitGeometry(
            f"its code does not run in mlx-lm's batch generator ({words_of(error)})"
        ) from error


def _feed(model: Any, caches: list[Any], rows: int, tokens: int) -> Any:
    return model(mx.zeros((rows, tokens), dtype=mx.int32), cache=caches)


def _vocab_size(model: Any) -> int:
    """How many ids the model may draw, those of a padded vocabulary included; 0 if not known."""
    try:
        return int(_feed(model, make_prompt_cache(model), 1, 1).shape[-1])
    except Exception:  # noqa: BLE001 - code that does not run is told of where caches are read
        return 0


def _weights_dtype(model: Any) -> FloatType:
    """Commonest float type of the parameters, by size."""
    sizes: dict[Any, int] = {}
    for _, value in tree_flatten(model.parameters()):
        if value.dtype in _DTYPES:
            sizes[value.dtype] = sizes.get(value.dtype, 0) + value.size
    return _DTYPES[max(sizes, key=lambda dtype: sizes[dtype])] if sizes else "float32"


def _quantisation_label(model: Any) -> str:
    """For people: "4-bit g32", "mixed 4/8-bit g32" or the dtype of the weights."""
    found = {
        (int(module.bits), int(module.group_size), str(getattr(module, "mode", "affine")))
        for _, module in model.named_modules()
        if hasattr(module, "bits") and hasattr(module, "group_size")
    }
    if not found:
        return _weights_dtype(model)
    bits = "/".join(str(value) for value in sorted({entry[0] for entry in found}))
    groups = "/".join(str(value) for value in sorted({entry[1] for entry in found}))
    modes = sorted({entry[2] for entry in found} - {"affine"})
    mixed = "mixed " if len(found) > 1 else ""
    return f"{mixed}{bits}-bit g{groups}{''.join(f' {mode}' for mode in modes)}"


def _built_context(model: Any) -> int:
    """The context that the model was built for; 0 if its code knows none.

    Configurations of models for images and text leave it out where the default is meant.
    """
    for part in (model, getattr(model, "language_model", None)):
        value = getattr(getattr(part, "args", None), "max_position_embeddings", None)
        if isinstance(value, int) and value > 0:
            return value
    return 0
