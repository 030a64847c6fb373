"""Finds the KV geometry of a model by building it lazily. Must not bring weights into memory.

The only file of the library that runs model code, and it evaluates nothing.
"""

from pathlib import Path
from typing import Any, Final, Literal

import mlx.core as mx
import msgspec
from mlx.utils import tree_flatten
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache
from mlx_lm.utils import get_total_parameters, load_model

from hotseat.library.folder import unavailable
from hotseat.protocol.model import LayerSpec

KvDtype = Literal["float32", "float16", "bfloat16"]
_DTYPES: Final[dict[Any, KvDtype]] = {
    mx.float32: "float32",
    mx.float16: "float16",
    mx.bfloat16: "bfloat16",
}
_REASONS: Final = {
    "ArraysCache": "recurrent state",
    "CacheList": "several caches per layer",
    "ChunkedKVCache": "chunked attention",
    "QuantizedKVCache": "quantised KV",
    "ConcatenateKVCache": "attention without a growing buffer",
}


class Geometry(msgspec.Struct, frozen=True, kw_only=True):
    """What the built model tells. `layers` is empty when `unfit_reason` is not."""

    layers: tuple[LayerSpec, ...]
    kv_dtype: KvDtype
    parameters: int
    quantisation: str
    model_context_tokens: int
    vocab_size: int
    unfit_reason: str


def measure_geometry(folder: Path) -> Geometry:
    """Builds the model of `folder` with lazy weights and reads shapes; model_unavailable if not."""
    try:
        model, config = load_model(folder, lazy=True, trust_remote_code=False)
        caches = make_prompt_cache(model)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise unavailable(
            folder,
            f"mlx-lm cannot build it ({reason})",
            "use a model that this mlx-lm supports",
            reason=reason,
        ) from error
    unfit = _unfit_caches(caches)
    layers: tuple[LayerSpec, ...] = ()
    dtype = _weights_dtype(model)
    if not unfit:
        try:
            layers, dtype = _read_layers(model, caches)
        except _UnfitGeometry as finding:
            unfit = str(finding)
    return Geometry(
        layers=layers,
        kv_dtype=dtype,
        parameters=int(get_total_parameters(model)),
        quantisation=_quantisation_label(model),
        model_context_tokens=_argument(model, "max_position_embeddings"),
        vocab_size=_argument(model, "vocab_size") or int(config.get("vocab_size") or 0),
        unfit_reason=unfit,
    )


class _UnfitGeometry(Exception):  # noqa: N818 - a finding about the model, not a failure
    """The model was built but its KV cannot be served; the text says why."""


def _unfit_caches(caches: list[Any]) -> str:
    """Empty if every cache is of a kind the engine serves."""
    refused: dict[str, int] = {}
    for cache in caches:
        kind = type(cache)
        name = kind.__name__
        if kind is RotatingKVCache and cache.keep:
            name = f"RotatingKVCache that keeps its first {cache.keep} tokens"
        elif kind is KVCache or kind is RotatingKVCache:
            continue
        refused[name] = refused.get(name, 0) + 1
    if not refused:
        return ""
    kinds = ", ".join(
        f"{name}{f' ({_REASONS[name]})' if name in _REASONS else ''} in {count} of {len(caches)} "
        "layers"
        for name, count in refused.items()
    )
    return (
        f"needs {kinds}; this version serves models whose layers all use plain or "
        "sliding-window attention (KVCache, RotatingKVCache)"
    )


def _read_layers(model: Any, caches: list[Any]) -> tuple[tuple[LayerSpec, ...], KvDtype]:
    """Shapes and dtype of the caches after one lazy token; nothing is evaluated."""
    model(mx.zeros((1, 1), dtype=mx.int32), cache=caches)
    layers = []
    dtypes = set()
    for number, cache in enumerate(caches):
        if cache.keys is None or cache.values is None:
            raise _UnfitGeometry(f"cache {number} stays empty: the layer shares another one's KV")
        dtypes |= {cache.keys.dtype, cache.values.dtype}
        window = cache.max_size if type(cache) is RotatingKVCache else 0
        layers.append(
            LayerSpec(
                kind="window" if window else "full",
                kv_heads=int(cache.keys.shape[1]),
                k_dim=int(cache.keys.shape[-1]),
                v_dim=int(cache.values.shape[-1]),
                window=int(window),
            )
        )
    if len(dtypes) != 1 or not dtypes <= set(_DTYPES):
        raise _UnfitGeometry(f"KV of dtypes {sorted(map(str, dtypes))}; one float type is needed")
    return tuple(layers), _DTYPES[dtypes.pop()]


def _weights_dtype(model: Any) -> KvDtype:
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


def _argument(model: Any, name: str) -> int:
    value = getattr(getattr(model, "args", None), name, None)
    return value if isinstance(value, int) and value > 0 else 0
