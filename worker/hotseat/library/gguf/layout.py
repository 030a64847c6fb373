"""What a GGUF architecture is called in MLX: configuration, tensor names, and how rows are stored.

Must not know tokenizers or quantisation. A tensor that no rule names makes the import fail: a
model that lacks a part would answer nonsense.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec
import numpy as np

from hotseat.library.gguf.file import GgufFile, Value

Transform = Literal["none", "rope_rows", "norm_offset"]
Floats = Literal["float32", "float16", "bfloat16"]


class TensorPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor on its way: `rope_rows` undoes the row order of `heads` rotary heads.

    `norm_offset` takes the 1 off that the file adds to a norm's weight.
    """

    source: str
    target: str
    transform: Transform = "none"
    heads: int = 0


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """A model to be written; `half` is the 16-bit type its quantised form computes in."""

    config: dict[str, Any]
    tensors: tuple[TensorPlan, ...]
    half: Floats


class UnsupportedLayout(Exception):  # noqa: N818 - the text is a finding about the file
    """The file holds something this version cannot express in MLX; the text says what."""


_LAYER_PARTS: Final = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
}
_LLAMA_PARTS: Final = {**_LAYER_PARTS, "ffn_norm": "post_attention_layernorm"}
_QWEN3_PARTS: Final = {
    **_LLAMA_PARTS,
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}
_GEMMA3_PARTS: Final = {
    **_LAYER_PARTS,
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_TOP_PARTS: Final = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER_NAME: Final = re.compile(r"blk\.(\d+)\.([a-z0-9_]+)\.(weight|bias)")
_TOP_NAME: Final = re.compile(r"([a-z0-9_]+)\.(weight|bias)")
_ROPE_FACTORS: Final = "rope_freqs.weight"
_LLAMA3_LOW: Final = 1.0
_LLAMA3_HIGH: Final = 4.0
_LLAMA3_ORIGINAL: Final = 8192
"""Constants of Llama 3.1 to 3.3; a file holds only the factors computed from them."""
_GEMMA3_27B_LAYERS: Final = 62


def plan_layout(gguf: GgufFile) -> Layout:
    """Raises `UnsupportedLayout` for other architectures, parts that are missing or unknown."""
    architecture = str(gguf.metadata.get("general.architecture", "none"))
    planner = _PLANNERS.get(architecture)
    if planner is None:
        raise UnsupportedLayout(
            f"architecture {architecture!r}; supported are {', '.join(SUPPORTED)}"
        )
    facts = _Facts(gguf, architecture)
    if facts.integer("expert_count", 0):
        raise UnsupportedLayout(f"{architecture} with experts; import an MLX conversion instead")
    return planner(facts)


class _Facts:
    """Typed access to the metadata of one architecture."""

    def __init__(self, gguf: GgufFile, architecture: str) -> None:
        self.gguf = gguf
        self.prefix = architecture

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise UnsupportedLayout(f"{self.prefix}.{key} is {value!r}, not one number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Floats are stored in 32 bits: the shortest decimal that means the same is taken."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UnsupportedLayout(f"{self.prefix}.{key} is {value!r}, not one number")
        return float(str(np.float32(value)))

    def text(self, key: str, default: str) -> str:
        return str(self._value(key, default))

    def _value(self, key: str, default: Value | None) -> Value:
        value = self.gguf.metadata.get(f"{self.prefix}.{key}", default)
        if value is None:
            raise UnsupportedLayout(f"{self.prefix}.{key} is missing")
        return value


def _base_config(facts: _Facts, model_type: str) -> dict[str, Any]:
    heads = facts.integer("attention.head_count")
    hidden = facts.integer("embedding_length")
    head_dim = facts.integer("attention.key_length", hidden // heads)
    rotary = facts.integer("rope.dimension_count", head_dim)
    if rotary != head_dim or facts.integer("attention.value_length", head_dim) != head_dim:
        raise UnsupportedLayout(
            f"head of {head_dim} with {rotary} rotary and other value dimensions"
        )
    embedding = facts.gguf.tensors.get("token_embd.weight")
    if embedding is None:
        raise UnsupportedLayout("tensor token_embd.weight is missing")
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": facts.integer("block_count"),
        "intermediate_size": facts.integer("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": facts.integer("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": facts.number("attention.layer_norm_rms_epsilon"),
        "vocab_size": embedding.shape[0],
        "max_position_embeddings": facts.integer("context_length"),
        "tie_word_embeddings": "output.weight" not in facts.gguf.tensors,
    }


def _plan_llama(facts: _Facts) -> Layout:
    config = _base_config(facts, "llama")
    biases = [name for name in facts.gguf.tensors if name.endswith(".bias")]
    theta = facts.number("rope.freq_base", 10000.0)
    config |= {
        "rope_theta": theta,
        "rope_scaling": _llama_scaling(facts, config["head_dim"], theta),
        "attention_bias": any(".attn_" in name for name in biases),
        "mlp_bias": any(".ffn_" in name for name in biases),
    }
    heads = {
        "attn_q": config["num_attention_heads"],
        "attn_k": config["num_key_value_heads"],
    }

    def finish(part: str, plan: TensorPlan) -> TensorPlan:
        if part in heads:
            return msgspec.structs.replace(plan, transform="rope_rows", heads=heads[part])
        return plan

    tensors = _plan_tensors(facts.gguf, _LLAMA_PARTS, finish)
    return Layout(config=config, tensors=tensors, half="float16")


def _plan_qwen3(facts: _Facts) -> Layout:
    config = _base_config(facts, "qwen3")
    if facts.text("rope.scaling.type", "none") != "none":
        raise UnsupportedLayout("qwen3 with a scaled context; import an MLX conversion instead")
    config |= {"rope_theta": facts.number("rope.freq_base", 1000000.0)}
    tensors = _plan_tensors(facts.gguf, _QWEN3_PARTS, lambda _part, plan: plan)
    return Layout(config=config, tensors=tensors, half="float16")


def _plan_gemma3(facts: _Facts) -> Layout:
    """Activations of Gemma 3 overflow float16, hence bfloat16."""
    config = _base_config(facts, "gemma3_text")
    # The file does not say by what queries are scaled; the largest model is the one exception.
    is_27b = config["num_hidden_layers"] == _GEMMA3_27B_LAYERS
    hidden_per_head = config["hidden_size"] // config["num_attention_heads"]
    config |= {
        "rope_theta": facts.number("rope.freq_base", 1000000.0),
        "rope_local_base_freq": facts.number("rope.freq_base_swa", 10000.0),
        "query_pre_attn_scalar": hidden_per_head if is_27b else config["head_dim"],
        "sliding_window": facts.integer("attention.sliding_window"),
        "sliding_window_pattern": facts.integer("attention.sliding_window_pattern", 6),
        "rope_scaling": _linear_scaling(facts),
    }

    def finish(part: str, plan: TensorPlan) -> TensorPlan:
        if part.endswith("norm"):
            return msgspec.structs.replace(plan, transform="norm_offset")
        return plan

    tensors = _plan_tensors(facts.gguf, _GEMMA3_PARTS, finish)
    return Layout(config=config, tensors=tensors, half="bfloat16")


_PLANNERS: Final[Mapping[str, Callable[[_Facts], Layout]]] = {
    "llama": _plan_llama,
    "gemma3": _plan_gemma3,
    "qwen3": _plan_qwen3,
}
SUPPORTED: Final = tuple(sorted(_PLANNERS))


def _plan_tensors(
    gguf: GgufFile,
    parts: Mapping[str, str],
    finish: Callable[[str, TensorPlan], TensorPlan],
) -> tuple[TensorPlan, ...]:
    plans, unknown = [], []
    for name in gguf.tensors:
        if name == _ROPE_FACTORS:
            continue
        if (layer := _LAYER_NAME.fullmatch(name)) and layer[2] in parts:
            part, target = layer[2], f"model.layers.{layer[1]}.{parts[layer[2]]}.{layer[3]}"
        elif (top := _TOP_NAME.fullmatch(name)) and top[1] in _TOP_PARTS:
            part, target = top[1], f"{_TOP_PARTS[top[1]]}.{top[2]}"
        else:
            unknown.append(name)
            continue
        plans.append(finish(part, TensorPlan(source=name, target=target)))
    if unknown:
        raise UnsupportedLayout(
            f"{len(unknown)} tensors of unknown meaning: {', '.join(unknown[:3])}"
        )
    return tuple(plans)


def _linear_scaling(facts: _Facts) -> dict[str, Any] | None:
    kind = facts.text("rope.scaling.type", "none")
    factor = facts.number("rope.scaling.factor", 1.0)
    if kind == "none" or factor == 1.0:
        return None
    if kind != "linear":
        raise UnsupportedLayout(f"rope scaling {kind!r}; supported are linear and Llama 3's")
    return {"rope_type": "linear", "type": "linear", "factor": factor}


def _llama_scaling(facts: _Facts, head_dim: int, theta: float) -> dict[str, Any] | None:
    """Linear scaling, or Llama 3's: recognised by its factors, which the file holds as a tensor."""
    if _ROPE_FACTORS not in facts.gguf.tensors:
        return _linear_scaling(facts)
    found = facts.gguf.read(_ROPE_FACTORS).view(np.float32).reshape(-1)
    factor = float(found.max())
    expected = _llama3_factors(head_dim, theta, factor)
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-3):
        raise UnsupportedLayout("rope_freqs.weight holds factors that are not Llama 3's")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": _LLAMA3_LOW,
        "high_freq_factor": _LLAMA3_HIGH,
        "original_max_position_embeddings": _LLAMA3_ORIGINAL,
    }


def _llama3_factors(head_dim: int, theta: float, factor: float) -> np.ndarray:
    """By how much each rotary frequency is slowed: 1 for fast ones, `factor` for slow ones."""
    wavelengths = 2 * math.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = (_LLAMA3_ORIGINAL / wavelengths - _LLAMA3_LOW) / (_LLAMA3_HIGH - _LLAMA3_LOW)
    between = 1 / ((1 - smooth) / factor + smooth)
    slow = wavelengths > _LLAMA3_ORIGINAL / _LLAMA3_LOW
    fast = wavelengths < _LLAMA3_ORIGINAL / _LLAMA3_HIGH
    factors = np.where(slow, factor, np.where(fast, 1.0, between))
    return factors.astype(np.float32)
