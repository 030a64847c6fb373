"""Tiny models of the families that GGUF files hold: MLX configuration, and what a file says of it.

Names and metadata stand here as llama.cpp's converter writes them, independent of the maps that
importing uses.
"""

from typing import Any, Literal

import gguf
import mlx.core as mx
import numpy as np

from tests.support.models import tiny_models

GgufKind = Literal[
    "llama",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen2moe",
    "qwen3moe",
    "gemma2",
    "gemma3",
    "phi3",
    "gpt-oss",
]

_BASE: dict[str, Any] = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 16384,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_YARN = {
    "rope_type": "yarn",
    "type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 4096,
}
_OWN: dict[str, dict[str, Any]] = {
    "qwen2": {"model_type": "qwen2", "rope_scaling": _YARN},
    "qwen2moe": {"model_type": "qwen2_moe", "shared_expert_intermediate_size": 64, **_EXPERTS},
    "qwen3moe": {
        "model_type": "qwen3_moe",
        "head_dim": 32,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        **_EXPERTS,
    },
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma2": {
        "model_type": "gemma2",
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "attn_logit_softcapping": 40.0,
        "final_logit_softcapping": 20.0,
        "tie_word_embeddings": True,
    },
    "phi3": {
        "model_type": "phi3",
        "partial_rotary_factor": 0.75,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {
            "type": "longrope",
            "long_factor": [1.0, 1.5, 2.0, 2.5, 3.0, 4.0],
            "short_factor": [1.0, 1.0, 1.0, 1.1, 1.2, 1.3],
        },
    },
    "gpt-oss": {
        "model_type": "gpt_oss",
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "intermediate_size": 32,
        "sliding_window": 64,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_scaling": _YARN,
    },
}

_ATTENTION = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.qkv_proj": "attn_qkv",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_DENSE = _ATTENTION | {
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate_up_proj": "ffn_up",
}
_GEMMA = _DENSE | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_QWEN_EXPERTS = _ATTENTION | {
    "mlp.gate": "ffn_gate_inp",
    "mlp.switch_mlp.gate_proj": "ffn_gate_exps",
    "mlp.switch_mlp.up_proj": "ffn_up_exps",
    "mlp.switch_mlp.down_proj": "ffn_down_exps",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}
_MIXTRAL = _ATTENTION | {
    f"block_sparse_moe.{name.removeprefix('mlp.')}": part
    for name, part in _QWEN_EXPERTS.items()
    if name.startswith("mlp.")
}
_GPT_OSS = _ATTENTION | {
    "post_attention_layernorm": "post_attention_norm",
    "self_attn": "attn_sinks",
    "mlp.router": "ffn_gate_inp",
    "mlp.experts.gate_proj": "ffn_gate_exps",
    "mlp.experts.up_proj": "ffn_up_exps",
    "mlp.experts.down_proj": "ffn_down_exps",
}
_PARTS = {
    "gemma2": _GEMMA,
    "gemma3": _GEMMA,
    "qwen2moe": _QWEN_EXPERTS,
    "qwen3moe": _QWEN_EXPERTS,
    "mixtral": _MIXTRAL,
    "gpt-oss": _GPT_OSS,
}
_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def tiny_source(
    kind: GgufKind, seed: int = 0, *, width: int = 64
) -> tuple[dict[str, Any], dict[str, mx.array]]:
    """MLX config and float32 weights that a tiny GGUF file of this kind holds."""
    config = _BASE | _OWN[kind] if kind in _OWN else tiny_models.tiny_config(kind)
    if kind == "gemma3":
        config |= {"sliding_window_pattern": 6, "num_hidden_layers": 6}
    if width != config["hidden_size"]:
        config |= {"hidden_size": width, "intermediate_size": width, "num_hidden_layers": 1}
        config |= {"head_dim": width // config["num_attention_heads"]}
    return config, tiny_models.tiny_weights(config, seed=seed)


def architecture_of(kind: GgufKind) -> str:
    """What a file calls this kind."""
    return "llama" if kind == "mixtral" else kind


def stored_tensor(
    name: str, array: np.ndarray, config: dict[str, Any], kind: GgufKind
) -> tuple[str, np.ndarray]:
    """Name and values as a file has them."""
    module, _, suffix = name.rpartition(".")
    if module in _TOP:
        target = _TOP[module]
    else:
        _, _, layer, part = module.split(".", 3)
        target = f"blk.{layer}.{_PARTS.get(kind, _DENSE)[part]}"
    if kind in ("gemma2", "gemma3") and "norm" in module:
        array = array + np.float32(1)
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    key = heads.get(module.rpartition(".")[2])
    if architecture_of(kind) == "llama" and key is not None:
        count = config[key]
        array = (
            array.reshape(count, 2, array.shape[0] // count // 2, *array.shape[1:])
            .swapaxes(1, 2)
            .reshape(array.shape)
        )
    if target.endswith("shexp") and array.shape[0] == 1:
        array = array[0]
    suffix = "weight" if suffix == "sinks" else suffix
    return f"{target}.{suffix}", np.ascontiguousarray(array)


def write_shape(writer: gguf.GGUFWriter, config: dict[str, Any], kind: GgufKind) -> None:
    """Metadata of the architecture."""
    head_dim = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    if "head_dim" in config:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_string("general.license", "mit")
    if "sliding_window" in config:
        writer.add_sliding_window(config["sliding_window"])
    experts = config.get("num_experts") or config.get("num_local_experts")
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
        width = config.get("moe_intermediate_size", config["intermediate_size"])
        writer.add_expert_feed_forward_length(width)
    if kind == "qwen2moe":
        writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])
    if kind == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    _write_scaling(writer, config, kind, head_dim)


def _write_scaling(
    writer: gguf.GGUFWriter, config: dict[str, Any], kind: GgufKind, head_dim: int
) -> None:
    scaling = config.get("rope_scaling")
    if kind == "phi3":
        writer.add_rope_dimension_count(int(head_dim * config["partial_rotary_factor"]))
        writer.add_rope_scaling_orig_ctx_len(config["original_max_position_embeddings"])
        for form in ("long", "short"):
            factors = np.array(scaling[f"{form}_factor"], np.float32)
            writer.add_tensor(f"rope_factors_{form}.weight", factors)
    elif scaling:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(scaling["factor"])
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
