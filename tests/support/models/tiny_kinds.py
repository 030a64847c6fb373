"""config.json fields of tiny models whose layers are not plain attention."""

from typing import Any

HIDDEN = 64
HEADS = 4
HEAD_DIM = 16

_SSM = {
    "mamba_chunk_size": 16,
    "mamba_d_conv": 4,
    "mamba_d_head": HEAD_DIM,
    "mamba_d_ssm": HEADS * HEAD_DIM,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_n_heads": HEADS,
}

_DEEPSEEK = {
    "num_hidden_layers": 2,
    "intermediate_size": 2 * HIDDEN,
    "moe_intermediate_size": HIDDEN,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "greedy",
    "first_k_dense_replace": 1,
    "kv_lora_rank": 24,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
}

EXPERTS: dict[str, dict[str, Any]] = {
    "mixtral": {
        "model_type": "mixtral",
        "num_hidden_layers": 2,
        "intermediate_size": HIDDEN,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "rope_theta": 10000.0,
    },
}

LATENT: dict[str, dict[str, Any]] = {
    "deepseek_v2": _DEEPSEEK
    | {
        "model_type": "deepseek_v2",
        "rope_scaling": {
            "type": "yarn",
            "factor": 4.0,
            "mscale": 1.0,
            "mscale_all_dim": 0.707,
            "original_max_position_embeddings": 4096,
        },
    },
    "deepseek_v32": _DEEPSEEK
    | {"model_type": "deepseek_v32", "index_head_dim": 16, "index_n_heads": 2, "index_topk": 64}
    | {"topk_method": "noaux_tc"},
}

RECURRENT: dict[str, dict[str, Any]] = {
    "lfm2": {
        "model_type": "lfm2",
        "num_hidden_layers": 2,
        "layer_types": ["conv", "full_attention"],
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": HIDDEN,
        "block_ff_dim": 2 * HIDDEN,
        "block_multiple_of": 16,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
    },
    "falcon_h1": _SSM
    | {
        "model_type": "falcon_h1",
        "num_hidden_layers": 2,
        "head_dim": HEAD_DIM,
        "intermediate_size": 2 * HIDDEN,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    "mamba2": {
        "model_type": "mamba2",
        "num_heads": HEADS,
        "head_dim": 2 * HEAD_DIM,
        "intermediate_size": 2 * HIDDEN,
        "state_size": 16,
        "num_hidden_layers": 2,
        "layer_norm_epsilon": 1e-5,
        "conv_kernel": 4,
        "n_groups": 1,
        "use_bias": False,
        "use_conv_bias": True,
        "tie_word_embeddings": False,
        "time_step_limit": [0.0, 100.0],
        "time_step_rank": "auto",
    },
}


def griffin(window: int) -> dict[str, Any]:
    """recurrent_gemma: recurrent layers beside sliding windows."""
    return {
        "model_type": "recurrent_gemma",
        "attention_bias": False,
        "conv1d_width": 4,
        "intermediate_size": 2 * HIDDEN,
        "logits_soft_cap": 30.0,
        "num_hidden_layers": 3,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_window_size": window,
        "block_types": ["recurrent", "recurrent", "attention"],
    }


def chunked(base: dict[str, Any], chunk: int) -> dict[str, Any]:
    """llama4: chunked attention, which cannot be served."""
    text = base | {
        "model_type": "llama4_text",
        "attention_bias": False,
        "attention_chunk_size": chunk,
        "head_dim": HEAD_DIM,
        "interleave_moe_layer_step": 1,
        "intermediate_size": HIDDEN,
        "intermediate_size_mlp": HIDDEN,
        "num_experts_per_tok": 1,
        "num_hidden_layers": 4,
        "num_local_experts": 2,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "use_qk_norm": False,
    }
    return {"model_type": "llama4", "text_config": text}
