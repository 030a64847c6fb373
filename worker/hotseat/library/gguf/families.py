"""The config.json that mlx-lm needs, out of what a GGUF file says of its architecture.

One function for each family. Must not know tensors' names, tokenizers or quantisation. Field names
are those of transformers' own table (a test compares them); what that table lacks is ours: rotary
scaling, biases, experts' widths, and the constants that a file does not hold.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec
import numpy as np

from hotseat.library.gguf.file import GgufFile, Value

Floats = Literal["float32", "float16", "bfloat16"]


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """How models of one GGUF architecture are written.

    `half` is the 16-bit type its quantised form computes in. `offset_norms`: the file adds 1 to
    norms. `rotary_pairs`: its rotary heads lie in pairs instead of halves.
    """

    config: dict[str, Any]
    half: Floats
    offset_norms: bool = False
    rotary_pairs: bool = False


class UnsupportedLayout(Exception):  # noqa: N818 - the text is a finding about the file
    """The file holds something this version cannot express in MLX; the text says what."""


ROPE_FACTORS: Final = "rope_freqs.weight"
LONG_FACTORS: Final = "rope_factors_long.weight"
SHORT_FACTORS: Final = "rope_factors_short.weight"
_LLAMA3_LOW: Final = 1.0
_LLAMA3_HIGH: Final = 4.0
_LLAMA3_ORIGINAL: Final = 8192
"""Constants of Llama 3.1 to 3.3; a file holds only the factors computed from them."""
_LARGEST_GEMMA: Final = {"gemma2": 46, "gemma3": 62}
"""Layers of the 27B models, whose queries are scaled in another way; no file says so."""
_LONG_GEMMA: Final = 131072
_EPSILON: Final = {"gemma3_text": 1e-6}
"""Where a file may leave it out."""
_MOST: Final = 2**24
"""Of any count: a context of 16 million tokens is the longest that is stated anywhere."""
_LARGEST: Final = 1e12
"""Of any other number; the largest rotary base that is used is 1e8 or so."""
_UNSCALED: Final = ("none", "")


def read_family(gguf: GgufFile) -> Family:
    """Raises `UnsupportedLayout` for other architectures and for what mlx-lm cannot compute."""
    architecture = str(gguf.metadata.get("general.architecture", "none"))
    reader = _READERS.get(architecture)
    if reader is None:
        raise UnsupportedLayout(
            f"architecture {architecture!r}; supported are {', '.join(SUPPORTED)}"
        )
    return reader(_Facts(gguf, architecture))


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

    def count(self, key: str, default: int | None = None) -> int:
        value = self.integer(key, default)
        if not 1 <= value <= _MOST:
            raise UnsupportedLayout(f"{self.prefix}.{key} is {value}, not between 1 and {_MOST}")
        return value

    def layers(self) -> int:
        """As many as the file has tensors for; a model of more would be built for ever."""
        value, most = self.count("block_count"), len(self.gguf.tensors)
        if value > most:
            raise UnsupportedLayout(f"{value} layers, with {most} tensors for them")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Floats are stored in 32 bits: the shortest decimal that means the same is taken."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UnsupportedLayout(f"{self.prefix}.{key} is {value!r}, not one number")
        if not 0 <= value <= _LARGEST:
            raise UnsupportedLayout(f"{self.prefix}.{key} is {value}, not within 0 and {_LARGEST}")
        return float(str(np.float32(value)))

    def text(self, key: str, default: str) -> str:
        return str(self._value(key, default))

    def lacks(self, key: str) -> bool:
        return f"{self.prefix}.{key}" not in self.gguf.metadata

    def has(self, tensor: str) -> bool:
        return tensor in self.gguf.tensors

    def floats(self, tensor: str) -> np.ndarray:
        if self.gguf.tensors[tensor].kind.name != "F32":
            raise UnsupportedLayout(f"{tensor} is not of type F32")
        return self.gguf.read(tensor).view(np.float32).reshape(-1)

    def _value(self, key: str, default: Value | None) -> Value:
        value = self.gguf.metadata.get(f"{self.prefix}.{key}", default)
        if value is None:
            raise UnsupportedLayout(f"{self.prefix}.{key} is missing")
        return value


def _base_config(facts: _Facts, model_type: str) -> dict[str, Any]:
    heads = facts.count("attention.head_count")
    hidden = facts.count("embedding_length")
    head_dim = facts.count("attention.key_length", hidden // heads)
    if facts.integer("attention.value_length", head_dim) != head_dim:
        raise UnsupportedLayout(f"keys of {head_dim} and values of another length")
    embedding = facts.gguf.tensors.get("token_embd.weight")
    if embedding is None:
        raise UnsupportedLayout("tensor token_embd.weight is missing")
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": facts.layers(),
        "num_attention_heads": heads,
        "num_key_value_heads": facts.count("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": facts.number("attention.layer_norm_rms_epsilon", _EPSILON.get(model_type)),
        "vocab_size": embedding.shape[0],
        "max_position_embeddings": facts.count("context_length"),
        "tie_word_embeddings": not facts.has("output.weight"),
    }


def _whole_heads(facts: _Facts, model_type: str) -> dict[str, Any]:
    """The base of a model all of whose dimensions rotate, with one feed-forward width."""
    config = _base_config(facts, model_type)
    head_dim = config["head_dim"]
    rotary = facts.count("rope.dimension_count", head_dim)
    if rotary != head_dim:
        raise UnsupportedLayout(f"head of {head_dim} of which {rotary} rotate")
    return config | {"intermediate_size": facts.count("feed_forward_length")}


def _plain_heads(facts: _Facts, config: dict[str, Any]) -> dict[str, Any]:
    """For models whose code takes the head's length from the hidden size."""
    expected = config["hidden_size"] // config["num_attention_heads"]
    if config["head_dim"] != expected:
        raise UnsupportedLayout(
            f"{facts.prefix} with heads of {config['head_dim']} instead of {expected}"
        )
    return {key: value for key, value in config.items() if key != "head_dim"}


def _llama(facts: _Facts) -> Family:
    experts = facts.count("expert_count") if facts.integer("expert_count", 0) else 0
    config = _whole_heads(facts, "mixtral" if experts else "llama")
    theta = facts.number("rope.freq_base", 10000.0)
    config |= {"rope_theta": theta}
    if experts:
        _refuse_scaling(facts)
        config = _plain_heads(facts, config) | {
            "num_local_experts": experts,
            "num_experts_per_tok": facts.count("expert_used_count"),
        }
        return Family(config=config, half="bfloat16", rotary_pairs=True)
    biases = [name for name in facts.gguf.tensors if name.endswith(".bias")]
    config |= {
        "rope_scaling": _llama_scaling(facts, config["head_dim"], theta),
        "attention_bias": any(".attn_" in name for name in biases),
        "mlp_bias": any(".ffn_" in name for name in biases),
    }
    return Family(config=config, half="float16", rotary_pairs=True)


def _qwen2(facts: _Facts) -> Family:
    """Its activations overflow float16."""
    config = _plain_heads(facts, _whole_heads(facts, "qwen2"))
    config |= {
        "rope_theta": facts.number("rope.freq_base", 1000000.0),
        "rope_scaling": _scaling(facts),
    }
    return Family(config=config, half="bfloat16")


def _qwen3(facts: _Facts) -> Family:
    config = _whole_heads(facts, "qwen3")
    config |= {
        "rope_theta": facts.number("rope.freq_base", 1000000.0),
        "rope_scaling": _scaling(facts),
    }
    return Family(config=config, half="float16")


def _qwen2moe(facts: _Facts) -> Family:
    _refuse_scaling(facts)
    config = _plain_heads(facts, _whole_heads(facts, "qwen2_moe"))
    config |= _experts(facts) | {
        "shared_expert_intermediate_size": facts.count("expert_shared_feed_forward_length"),
        "rope_theta": facts.number("rope.freq_base", 1000000.0),
    }
    return Family(config=config, half="bfloat16")


def _qwen3moe(facts: _Facts) -> Family:
    _refuse_scaling(facts)
    config = _whole_heads(facts, "qwen3_moe")
    config |= _experts(facts) | {
        "rope_theta": facts.number("rope.freq_base", 1000000.0),
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
    }
    return Family(config=config, half="bfloat16")


def _experts(facts: _Facts) -> dict[str, Any]:
    return {
        "num_experts": facts.count("expert_count"),
        "num_experts_per_tok": facts.count("expert_used_count"),
        "moe_intermediate_size": facts.count("expert_feed_forward_length"),
    }


def _gemma2(facts: _Facts) -> Family:
    """Activations of Gemma overflow float16, hence bfloat16."""
    _refuse_scaling(facts)
    config = _whole_heads(facts, "gemma2")
    config |= {
        "rope_theta": facts.number("rope.freq_base", 10000.0),
        "query_pre_attn_scalar": _query_scalar(facts, config),
        "attn_logit_softcapping": facts.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": facts.number("final_logit_softcapping", 30.0),
    }
    return Family(config=config, half="bfloat16", offset_norms=True)


def _gemma3(facts: _Facts) -> Family:
    """The text part; Ollama's own converter spells some fields in another way or leaves them out.

    What it leaves out is what all models of the family have: the epsilon, and eightfold contexts of
    those that were made for 128k.
    """
    is_ollamas = facts.lacks("attention.layer_norm_rms_epsilon")
    config = _whole_heads(facts, "gemma3_text")
    theta = facts.number("rope.global.freq_base", 1000000.0)
    local = facts.number("rope.local.freq_base", 10000.0)
    config |= {
        "rope_theta": facts.number("rope.freq_base", theta),
        "rope_local_base_freq": facts.number("rope.freq_base_swa", local),
        "query_pre_attn_scalar": _query_scalar(facts, config),
        "sliding_window": facts.count("attention.sliding_window"),
        "sliding_window_pattern": facts.count("attention.sliding_window_pattern", 6),
        "rope_scaling": _scaling(facts, "linear"),
    }
    if is_ollamas and config["max_position_embeddings"] >= _LONG_GEMMA:
        config["rope_scaling"] = {"rope_type": "linear", "type": "linear", "factor": 8.0}
    return Family(config=config, half="bfloat16", offset_norms=True)


def _query_scalar(facts: _Facts, config: Mapping[str, Any]) -> int:
    """By what queries are scaled; the largest model of a family is the one exception."""
    largest = config["num_hidden_layers"] == _LARGEST_GEMMA[facts.prefix]
    hidden: int = config["hidden_size"]
    heads: int = config["num_attention_heads"]
    head_dim: int = config["head_dim"]
    return hidden // heads if largest else head_dim


def _phi3(facts: _Facts) -> Family:
    """Phi 3, 3.5 and 4: long contexts by factors for each frequency, which the file holds."""
    config = _plain_heads(facts, _base_config(facts, "phi3"))
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    rotary = facts.count("rope.dimension_count", head_dim)
    config |= {
        "intermediate_size": facts.count("feed_forward_length"),
        "rope_theta": facts.number("rope.freq_base", 10000.0),
        "partial_rotary_factor": rotary / head_dim,
        "original_max_position_embeddings": facts.count(
            "rope.scaling.original_context_length", config["max_position_embeddings"]
        ),
    }
    if int(head_dim * config["partial_rotary_factor"]) != rotary:
        raise UnsupportedLayout(f"head of {head_dim} of which {rotary} rotate")
    if facts.has(LONG_FACTORS) and facts.has(SHORT_FACTORS):
        factors = {"long_factor": LONG_FACTORS, "short_factor": SHORT_FACTORS}
        found = {field: facts.floats(tensor).tolist() for field, tensor in factors.items()}
        if any(len(values) != rotary // 2 for values in found.values()):
            raise UnsupportedLayout(f"{LONG_FACTORS} without one factor for each frequency")
        config["rope_scaling"] = {"type": "longrope", **found}
    else:
        _refuse_scaling(facts)
    return Family(config=config, half="bfloat16")


def _gpt_oss(facts: _Facts) -> Family:
    config = _whole_heads(facts, "gpt_oss")
    layers = config["num_hidden_layers"]
    kinds = ("sliding_attention", "full_attention")
    config |= {
        "intermediate_size": facts.count("expert_feed_forward_length", config["intermediate_size"]),
        "num_local_experts": facts.count("expert_count"),
        "num_experts_per_tok": facts.count("expert_used_count"),
        "sliding_window": facts.count("attention.sliding_window"),
        "layer_types": [kinds[layer % len(kinds)] for layer in range(layers)],
        "rope_theta": facts.number("rope.freq_base", 150000.0),
        "rope_scaling": _scaling(facts),
    }
    return Family(config=config, half="bfloat16")


_READERS: Final[Mapping[str, Callable[[_Facts], Family]]] = {
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "gpt-oss": _gpt_oss,
    "llama": _llama,
    "phi3": _phi3,
    "qwen2": _qwen2,
    "qwen2moe": _qwen2moe,
    "qwen3": _qwen3,
    "qwen3moe": _qwen3moe,
}
SUPPORTED: Final = tuple(sorted(_READERS))


def _refuse_scaling(facts: _Facts) -> None:
    """For models whose code in mlx-lm takes no scaled context."""
    if _scaling(facts) is not None:
        kind = facts.text("rope.scaling.type", "")
        raise UnsupportedLayout(
            f"{facts.prefix} with a context that {kind} scales, which mlx-lm does not compute; "
            "its unscaled form can be imported"
        )


def _scaling(facts: _Facts, *only: str) -> dict[str, Any] | None:
    """Linear or YaRN scaling of the rotary frequencies; None without."""
    kind = facts.text("rope.scaling.type", "none")
    factor = facts.number("rope.scaling.factor", 1.0)
    if kind in _UNSCALED or factor == 1.0:
        return None
    known = only or ("linear", "yarn")
    if kind not in known:
        raise UnsupportedLayout(f"rope scaling {kind!r}; supported are {', '.join(known)}")
    scaling: dict[str, Any] = {"rope_type": kind, "type": kind, "factor": factor}
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = facts.count(
            "rope.scaling.original_context_length"
        )
    return scaling


def _llama_scaling(facts: _Facts, head_dim: int, theta: float) -> dict[str, Any] | None:
    """Linear or YaRN, or Llama 3's: recognised by its factors, which are stored as a tensor."""
    if not facts.has(ROPE_FACTORS):
        return _scaling(facts)
    found = facts.floats(ROPE_FACTORS)
    factor = float(found.max())
    expected = _llama3_factors(head_dim, theta, factor)
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-3):
        raise UnsupportedLayout(f"{ROPE_FACTORS} holds factors that are not Llama 3's")
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
