"""Architectures that fewer people use, or that came lately."""

from typing import Final

from tests.support.models.kinds.architecture import Architecture
from tests.support.models.kinds.fields import (
    CONTEXT,
    EXPERTS,
    LATENT,
    LINEAR,
    MINICPM,
    PLAIN_ROTARY,
    WINDOW,
    WINDOWED,
)

FURTHER: Final = (
    Architecture(
        kind="kimi_k25",
        models="Kimi K2.5",
        fields=EXPERTS | LATENT,
        nested="deepseek_v3",
        calls="kimi_k2",
    ),
    Architecture(
        kind="mistral4",
        models="Mistral 4",
        fields=EXPERTS
        | LATENT
        | {
            "rope_parameters": {
                "type": "default",
                "rope_theta": 10000.0,
                "llama_4_scaling_beta": 0.1,
                "original_max_position_embeddings": CONTEXT,
            }
        },
        calls="mistral",
    ),
    Architecture(
        kind="step3p5",
        models="Step 3.5 Flash",
        fields=WINDOWED
        | {
            "num_attention_groups": 2,
            "moe_num_experts": 4,
            "moe_top_k": 2,
            "moe_intermediate_size": 32,
            "share_expert_dim": 32,
            "moe_layers_enum": "1,2,3",
        },
    ),
    Architecture(
        kind="afmoe", models="Trinity", fields=EXPERTS | WINDOWED | {"num_dense_layers": 1}
    ),
    Architecture(
        kind="laguna",
        models="Laguna",
        fields=EXPERTS
        | WINDOWED
        | {
            "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
            "rope_parameters": {
                "full_attention": PLAIN_ROTARY,
                "sliding_attention": PLAIN_ROTARY,
            },
        },
    ),
    Architecture(
        kind="solar_open", models="Solar Open", fields=EXPERTS | {"partial_rotary_factor": 1.0}
    ),
    Architecture(
        kind="olmo_hybrid",
        models="OLMo hybrid",
        fields=LINEAR
        | {
            "layer_types": ["linear_attention", "full_attention"] * 2,
            "linear_allow_neg_eigval": True,
        },
    ),
    Architecture(
        kind="exaone", models="EXAONE 3.5", fields={"num_layers": 2, "layer_norm_epsilon": 1e-5}
    ),
    Architecture(kind="minicpm", models="MiniCPM", fields=MINICPM),
    Architecture(
        kind="minicpm3",
        models="MiniCPM 3",
        fields=LATENT
        | MINICPM
        | {
            "rope_scaling": {
                "type": "longrope",
                "original_max_position_embeddings": 1024,
                "short_factor": [1.0] * 4,
                "long_factor": [2.0] * 4,
            }
        },
    ),
    Architecture(kind="deepseek", models="DeepSeek MoE", fields=EXPERTS),
    Architecture(kind="glm", models="GLM 4 before 0414", fields={"partial_rotary_factor": 0.5}),
    Architecture(
        kind="nemotron",
        models="Minitron",
        fields={"hidden_act": "relu2", "partial_rotary_factor": 0.5},
    ),
    Architecture(kind="internlm2", models="InternLM 2"),
    Architecture(kind="helium", models="Helium"),
    Architecture(
        kind="recurrent_gemma",
        models="RecurrentGemma",
        fields={
            "conv1d_width": 4,
            "logits_soft_cap": 30.0,
            "num_hidden_layers": 3,
            "num_key_value_heads": 1,
            "attention_window_size": WINDOW,
            "block_types": ["recurrent", "recurrent", "attention"],
        },
    ),
    Architecture(
        kind="mamba",
        models="Mamba, Falcon Mamba",
        fields={"state_size": 16, "conv_kernel": 4, "use_conv_bias": True, "time_step_rank": 4},
    ),
    Architecture(
        kind="gpt_neox",
        models="Pythia",
        fields={"rotary_pct": 0.5, "rotary_emb_base": 10000, "use_parallel_residual": True},
    ),
)
