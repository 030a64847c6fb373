"""The first layers of a model with random weights, made of its configuration alone.

They have the shapes, the types and the quantisation of the real ones, so that they take the same
kernels; of the vocabulary there is a part. Reads no weight file; must not know records' files
beyond `config.json`, requests or the seat.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import _get_classes, load_config
from msgspec import structs

from hotseat.protocol.model import LayerSpec, ModelRecord
from hotseat.worker.model.caches import layer_kinds

VOCAB_TOKENS: Final = 8_192
"""Reductions over more than 4,096 numbers take a kernel of their own, whatever the number."""
ALIGNMENT: Final = 64
"""Of what is cut off, so that a row of logits ends as the real one does within a tile."""
_COUNTS: Final = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")
_DENSE_BEFORE: Final = ("first_k_dense_replace", "num_dense_layers")
"""Layers that stand before the first one with experts."""
_EVERY: Final = ("decoder_sparse_step", "interleave_moe_layer_step")
"""Each so-manieth layer has experts."""
_BY_LAYER: Final = ("layer", "block_types")
"""Parts of names of lists that have an entry for each layer."""
_MEAN_EXPONENT: Final = 120
"""Of scales that are powers of two: 2 ** -7."""
_SCALE: Final = 0.02


class NoLayerError(Exception):
    """This model's layers cannot be had one by one."""


def build_first_layers(record: ModelRecord, limit_bytes: int) -> Any:
    """An mlx module with a layer of each kind that the model has; lazy.

    Raises NoLayerError when they are not those of the record or need more than `limit_bytes`, and
    whatever mlx-lm raises for a configuration it cannot follow.
    """
    config = load_config(Path(record.path))
    count = layers_wanted(record.layers, config)
    cut = cut_config(config, count)
    model_class, arguments_class = _get_classes(config=cut)
    model = model_class(arguments_class.from_dict(cut))
    _quantise(model, cut)
    _randomise(model, record)
    model.eval()
    kinds = layer_kinds(make_prompt_cache(model))
    if kinds != [layer.kind for layer in record.layers[: len(kinds)]] or not kinds:
        raise NoLayerError(f"{count} of its layers keep {', '.join(kinds) or 'nothing'}")
    size = sum(int(array.nbytes) for _, array in tree_flatten(model.parameters()))
    if size > limit_bytes:
        raise NoLayerError(f"{count} of its layers are {size} bytes; {limit_bytes} may be taken")
    return model


def layers_wanted(layers: tuple[LayerSpec, ...], config: Mapping[str, Any]) -> int:
    """How many layers there are up to the first of the last kind that comes."""
    seen: set[LayerSpec] = set()
    entries = wanted = 0
    group = None
    for layer in layers:
        entries += layer.group is None or layer.group != group
        group = layer.group
        kind = structs.replace(layer, group=None)
        if kind not in seen:
            seen.add(kind)
            wanted = entries
    text = config.get("text_config")
    said = {**config, **text} if isinstance(text, dict) else config
    dense = max((_number(said.get(name)) for name in _DENSE_BEFORE), default=0)
    every = max((_number(said.get(name)) for name in _EVERY), default=0)
    return min(max(wanted, dense + 1, every, 1), max(entries, 1))


def cut_config(config: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The configuration of a model of the first `count` layers and a part of the vocabulary."""
    whole = next((config[name] for name in _COUNTS if isinstance(config.get(name), int)), None)
    cut: dict[str, Any] = {}
    for name, value in config.items():
        if name == "text_config" and isinstance(value, dict):
            cut[name] = cut_config(value, count)
        elif name in _COUNTS and isinstance(value, int):
            cut[name] = min(value, count)
        elif name == "vocab_size" and isinstance(value, int):
            cut[name] = min(value, VOCAB_TOKENS + value % ALIGNMENT)
        elif isinstance(value, list) and len(value) == whole and _is_by_layer(name):
            cut[name] = value[:count]
        else:
            cut[name] = value
    return cut


def _is_by_layer(name: str) -> bool:
    return any(part in name for part in _BY_LAYER)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _quantise(model: Any, config: Mapping[str, Any]) -> None:
    """As mlx-lm's load does it, but for the names of weights, which stand in files."""
    quantisation = config.get("quantization")
    if quantisation is None:
        if config.get("quantization_config"):
            raise NoLayerError("its quantisation is converted when it is loaded")
        return
    group_size = quantisation["group_size"]

    def choose(path: str, module: Any) -> Any:
        if path in quantisation:
            return quantisation[path]
        return hasattr(module, "to_quantized") and module.weight.shape[-1] % group_size == 0

    nn.quantize(
        model,
        group_size=group_size,
        bits=quantisation["bits"],
        mode=quantisation.get("mode", "affine"),
        class_predicate=choose,
    )


def _randomise(model: Any, record: ModelRecord) -> None:
    """Takes the place of what building drew, of which nothing is computed then."""
    dtype = getattr(mx, record.kv_dtype)
    casts: Callable[[str], bool] = getattr(model, "cast_predicate", lambda _: True)
    key = mx.random.key(0)
    drawn = [
        (name, _random(array, dtype if casts(name) else array.dtype, key))
        for name, array in tree_flatten(model.parameters())
    ]
    model.update(tree_unflatten(drawn))


def _random(array: mx.array, dtype: mx.Dtype, key: mx.array) -> mx.array:
    """One row, again and again: to draw all would take twice the memory for a moment."""
    row: mx.array
    shape = array.shape[-1:]
    if array.dtype == mx.uint8:
        row = mx.full(shape, _MEAN_EXPONENT, mx.uint8)
    elif mx.issubdtype(array.dtype, mx.floating):
        row = mx.random.normal(shape, dtype, scale=_SCALE, key=key)
    else:
        row = mx.random.randint(0, 2**31 - 1, shape, mx.uint32, key).astype(array.dtype)
    return mx.contiguous(mx.broadcast_to(row, array.shape))
