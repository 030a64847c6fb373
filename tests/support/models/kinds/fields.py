"""Fields of config.json as families share them, made small."""

from typing import Any, Final

from tests.support.models.tiny_models import HEAD_DIM, HEADS, HIDDEN

CONTEXT: Final = 4096
WINDOW: Final = 64

USUAL: Final[dict[str, Any]] = {
    "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "head_dim": HEAD_DIM,
    "vocab_size": 512,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "layer_norm_eps": 1e-5,
    "norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "use_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS: Final[dict[str, Any]] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "num_shared_experts": 1,
    "n_shared_experts": 1,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "first_k_dense_replace": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.0,
    "n_group": 1,
    "topk_group": 1,
}
LATENT: Final[dict[str, Any]] = {
    "kv_lora_rank": 24,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "head_dim": 8,
}
INDEX: Final[dict[str, Any]] = {"index_head_dim": 16, "index_n_heads": 2, "index_topk": 64}
WINDOWED: Final[dict[str, Any]] = {
    "num_hidden_layers": 4,
    "sliding_window": WINDOW,
    "sliding_window_pattern": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
LINEAR: Final[dict[str, Any]] = {
    "num_hidden_layers": 4,
    "full_attention_interval": 2,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "partial_rotary_factor": 0.5,
    "rope_parameters": {
        "type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "mrope_section": [2, 1, 1],
    },
}
MAMBA: Final[dict[str, Any]] = {
    "mamba_n_heads": HEADS,
    "mamba_d_head": 32,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_proj_bias": False,
    "mamba_conv_bias": True,
}
SCALES: Final[dict[str, Any]] = {
    "logits_scaling": 1.0,
    "attention_multiplier": 0.25,
    "embedding_multiplier": 1.0,
    "residual_multiplier": 0.5,
}
CONVOLVED: Final[dict[str, Any]] = {
    "layer_types": ["conv", "full_attention"],
    "conv_bias": False,
    "conv_L_cache": 3,
    "block_dim": HIDDEN,
    "block_ff_dim": 2 * HIDDEN,
    "block_multiple_of": 16,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
    "num_dense_layers": 1,
    "use_expert_bias": True,
}
GEMMA: Final[dict[str, Any]] = {"query_pre_attn_scalar": HEAD_DIM}
CROSS: Final[dict[str, Any]] = {
    "moe_topk": 2,
    "num_shared_expert": 1,
    "use_mixed_mlp_moe": True,
    "use_qk_norm": True,
    "use_cla": True,
    "cla_share_factor": 2,
    "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0},
}
CHUNKED: Final[dict[str, Any]] = {
    "num_hidden_layers": 4,
    "attention_chunk_size": WINDOW,
    "interleave_moe_layer_step": 1,
    "intermediate_size_mlp": HIDDEN,
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
    "rope_scaling": None,
    "use_qk_norm": False,
}
MINICPM: Final[dict[str, Any]] = {"scale_emb": 1.0, "dim_model_base": HIDDEN, "scale_depth": 1.0}
PLAIN_ROTARY: Final[dict[str, Any]] = {"rope_type": "default", "rope_theta": 10000.0}
