"""Which tensor of a GGUF file becomes which array of the MLX model, and how its rows are stored.

Names come from the `gguf` package's own map, applied to the parameters of the model that mlx-lm
builds from the configuration; there is no table of names here. Must not know tokenizers or
quantisation. A tensor that nothing asks for, and a parameter that no tensor has, make the import
fail: a model that lacks a part would answer nonsense.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from gguf.constants import MODEL_ARCH_NAMES
from gguf.tensor_mapping import TensorNameMap, get_tensor_name_map
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes

from hotseat.library.folder import words_of
from hotseat.library.gguf.families import (
    LONG_FACTORS,
    ROPE_FACTORS,
    SHORT_FACTORS,
    Family,
    Floats,
    UnsupportedLayout,
    read_family,
)
from hotseat.library.gguf.file import GgufFile, TensorInfo

Transform = Literal["none", "rope_rows", "norm_offset"]

_READ_APART: Final = frozenset({ROPE_FACTORS, LONG_FACTORS, SHORT_FACTORS})
"""Tensors that the configuration is made from."""
_OF_IMAGES: Final = ("v.", "mm.")
"""An encoder of images in the same file: hotseat takes text."""
_SUFFIXES: Final = (".weight", ".bias")
_STACKS: Final = {"block_sparse_moe": "mlp", "switch_mlp": "experts"}
"""What mlx-lm calls stacked experts, by the name that they have elsewhere."""
_ROUTERS: Final = ("ffn_gate_inp", "ffn_gate_inp_shexp")
_HEAD: Final = "lm_head.weight"
_TIES_BY_ABSENCE: Final = "gemma3_text"
"""Its code builds an output layer and drops it where the weights have none."""
_LISTED: Final = 3
_OF_CONTENT: Final = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
)
"""What mlx-lm raises over fields that make no model."""


class TensorPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor on its way to the parameter `target`, which has `shape`.

    `rope_rows` undoes the row order of `heads` rotary heads; `norm_offset` takes the 1 off that the
    file adds to a norm's weight. `quantisable`: the module can hold codes. `router`: it chooses
    experts, which few bits would change.
    """

    source: str
    target: str
    shape: tuple[int, ...]
    quantisable: bool
    router: bool = False
    transform: Transform = "none"
    heads: int = 0

    @property
    def module(self) -> str:
        """The part of the model that has this parameter."""
        return self.target.rpartition(".")[0]


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """A model to be written; `half` is the 16-bit type its quantised form computes in."""

    config: dict[str, Any]
    tensors: tuple[TensorPlan, ...]
    half: Floats


def plan_layout(gguf: GgufFile) -> Layout:
    """Raises `UnsupportedLayout` for other architectures, parts that are missing or unknown."""
    family = read_family(gguf)
    config = {key: value for key, value in family.config.items() if value is not None}
    tensors = _plan_tensors(gguf, family, _parameters(config))
    return Layout(config=config, tensors=tensors, half=family.half)


class _Parameter(msgspec.Struct, frozen=True):
    """A parameter of the built model; `quantisable` if its module can hold codes instead."""

    name: str
    shape: tuple[int, ...]
    quantisable: bool


def _parameters(config: dict[str, Any]) -> list[_Parameter]:
    """Of the model that mlx-lm builds; nothing of it is evaluated."""
    try:
        model_class, arguments = _get_classes(config)
        model = model_class(arguments.from_dict(config))
    except _OF_CONTENT as error:
        raise UnsupportedLayout(f"mlx-lm cannot build it ({words_of(error)})") from error
    hold_codes = {name for name, module in model.named_modules() if hasattr(module, "to_quantized")}
    return [
        _Parameter(
            name,
            tuple(value.shape),
            name.endswith(".weight") and name.rpartition(".")[0] in hold_codes,
        )
        for name, value in tree_flatten(model.parameters())
    ]


def _plan_tensors(
    gguf: GgufFile, family: Family, parameters: list[_Parameter]
) -> tuple[TensorPlan, ...]:
    names = _names(gguf, family)
    plans, missing = [], []
    for parameter in parameters:
        source = _source_of(names, parameter.name)
        if source is not None and (tensor := gguf.tensors.get(source)) is not None:
            plans.append(_plan(tensor, parameter, family))
        elif parameter.name != _HEAD or family.config["model_type"] != _TIES_BY_ABSENCE:
            missing.append(source or parameter.name)
    used = {plan.source for plan in plans} | _READ_APART
    unknown = sorted(
        name for name in gguf.tensors if name not in used and not name.startswith(_OF_IMAGES)
    )
    if unknown:
        raise UnsupportedLayout(
            f"{len(unknown)} tensors of unknown meaning: {', '.join(unknown[:_LISTED])}"
        )
    if missing:
        raise UnsupportedLayout(
            f"{len(missing)} tensors are missing: {', '.join(missing[:_LISTED])}"
        )
    order = {name: position for position, name in enumerate(gguf.tensors)}
    return tuple(sorted(plans, key=lambda plan: order[plan.source]))


def _names(gguf: GgufFile, family: Family) -> TensorNameMap:
    architecture = gguf.metadata["general.architecture"]
    kinds = {name: kind for kind, name in MODEL_ARCH_NAMES.items()}
    layers: int = family.config["num_hidden_layers"]
    return get_tensor_name_map(kinds[str(architecture)], layers)


def _source_of(names: TensorNameMap, parameter: str) -> str | None:
    """What the file calls a parameter; None if the map has nothing like it."""
    for ours, theirs in _STACKS.items():
        parameter = parameter.replace(f".{ours}.", f".{theirs}.")
    found: str | None = names.get_name(parameter, try_suffixes=_SUFFIXES)
    if found is None or found.endswith(_SUFFIXES):
        return found
    return f"{found}.weight"


def _plan(tensor: TensorInfo, parameter: _Parameter, family: Family) -> TensorPlan:
    part = tensor.name.removeprefix("blk.").partition(".")[2].rpartition(".")[0]
    flat = tuple(length for length in tensor.shape if length != 1)
    if flat != tuple(length for length in parameter.shape if length != 1):
        raise UnsupportedLayout(
            f"tensor {tensor.name} has the shape {tensor.shape}, {parameter.shape} is expected"
        )
    heads = _heads(part, family.config) if family.rotary_pairs else 0
    plan = TensorPlan(
        source=tensor.name,
        target=parameter.name,
        shape=parameter.shape,
        quantisable=parameter.quantisable,
        router=part in _ROUTERS,
        transform="rope_rows" if heads else "none",
        heads=heads,
    )
    if family.offset_norms and parameter.name.rpartition(".")[0].endswith("norm"):
        return msgspec.structs.replace(plan, transform="norm_offset")
    return plan


def _heads(part: str, config: Mapping[str, Any]) -> int:
    keys = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
    return int(config[keys[part]]) if part in keys else 0
