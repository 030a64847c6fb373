"""The architectures of mlx-lm that people use most, with the models that they are known by."""

from typing import Final

from tests.support.models.kinds.architecture import Architecture
from tests.support.models.kinds.fields import (
    CHUNKED,
    CONTEXT,
    CONVOLVED,
    CROSS,
    EXPERTS,
    GEMMA,
    INDEX,
    LATENT,
    LINEAR,
    MAMBA,
    SCALES,
    WINDOWED,
)
from tests.support.models.kinds.further import FURTHER
from tests.support.models.tiny_models import HEAD_DIM, HEADS, HIDDEN

ARCHITECTURES: Final = (
    Architecture(kind="llama", models="Llama 3, SmolLM2, Mistral 7B", calls="llama"),
    Architecture(
        kind="mistral3",
        models="Mistral Small 3, Magistral",
        nested="mistral",
        calls="mistral",
    ),
    Architecture(
        kind="ministral3",
        models="Ministral 3, Devstral 2",
        fields={
            "layer_types": ["full_attention"] * 2,
            "rope_parameters": {
                "type": "default",
                "rope_theta": 10000.0,
                "llama_4_scaling_beta": 0.1,
                "original_max_position_embeddings": CONTEXT,
            },
        },
        calls="mistral",
    ),
    Architecture(kind="mixtral", models="Mixtral", fields=EXPERTS, calls="mistral"),
    Architecture(kind="qwen2", models="Qwen 2, 2.5", calls="json_tools"),
    Architecture(kind="qwen2_moe", models="Qwen 1.5/2 MoE", fields=EXPERTS, calls="json_tools"),
    Architecture(kind="qwen2_vl", models="Qwen 2/2.5-VL", nested="qwen2", calls="json_tools"),
    Architecture(kind="qwen3", models="Qwen 3", calls="json_tools", reasons=True),
    Architecture(
        kind="qwen3_moe", models="Qwen 3 MoE", fields=EXPERTS, calls="json_tools", reasons=True
    ),
    Architecture(
        kind="qwen3_vl", models="Qwen 3-VL", nested="qwen3", calls="json_tools", reasons=True
    ),
    Architecture(
        kind="qwen3_next",
        models="Qwen 3 Next, Coder Next",
        fields=EXPERTS | LINEAR,
        calls="qwen3_coder",
        reasons=True,
    ),
    Architecture(
        kind="qwen3_5",
        models="Qwen 3.5",
        fields=LINEAR,
        nested="qwen3_5_text",
        calls="qwen3_coder",
        reasons=True,
    ),
    Architecture(
        kind="qwen3_5_moe",
        models="Qwen 3.5 MoE",
        fields=EXPERTS | LINEAR,
        nested="qwen3_5_moe_text",
        calls="qwen3_coder",
        reasons=True,
    ),
    Architecture(kind="gemma", models="Gemma 1"),
    Architecture(kind="gemma2", models="Gemma 2", fields=GEMMA),
    Architecture(
        kind="gemma3_text",
        models="Gemma 3 (1B, 270M)",
        fields=GEMMA | WINDOWED,
        calls="function_gemma",
    ),
    Architecture(
        kind="gemma3",
        models="Gemma 3 (4B to 27B)",
        fields=GEMMA | WINDOWED,
        nested="gemma3_text",
    ),
    Architecture(
        kind="gemma3n",
        models="Gemma 3n",
        fields=WINDOWED
        | {
            "query_pre_attn_scalar": HEAD_DIM,
            "rope_local_base_freq": 10000.0,
            "final_logit_softcapping": 30.0,
            "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
            "hidden_size_per_layer_input": 16,
            "altup_num_inputs": 4,
            "altup_coef_clip": 120.0,
            "altup_correct_scale": True,
            "altup_active_idx": 0,
            "laurel_rank": 8,
            "num_kv_shared_layers": 2,
            "vocab_size_per_layer_input": 512,
            "intermediate_size": [128] * 4,
        },
        nested="gemma3n_text",
    ),
    Architecture(
        kind="gemma4",
        models="Gemma 4",
        fields=WINDOWED
        | {
            "global_head_dim": 32,
            "hidden_size_per_layer_input": 16,
            "vocab_size_per_layer_input": 512,
            "num_kv_shared_layers": 2,
            "final_logit_softcapping": 30.0,
            "tie_word_embeddings": True,
        },
        nested="gemma4_text",
        calls="gemma4",
        reasons=True,
    ),
    Architecture(kind="phi", models="Phi 1.5, 2", fields={"partial_rotary_factor": 0.5}),
    Architecture(kind="phi3", models="Phi 3, Phi 4", calls="phi", reasons=True),
    Architecture(
        kind="phimoe",
        models="Phi 3.5 MoE",
        fields=EXPERTS
        | {
            "original_max_position_embeddings": 1024,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0] * 8,
                "long_factor": [2.0] * 8,
                "short_mscale": 1.0,
                "long_mscale": 1.2,
            },
        },
    ),
    Architecture(
        kind="gpt_oss",
        models="gpt-oss",
        fields=EXPERTS | WINDOWED | {"intermediate_size": HIDDEN},
        calls="harmony",
        reasons=True,
    ),
    Architecture(
        kind="deepseek_v2",
        models="DeepSeek V2, Coder V2",
        fields=EXPERTS
        | LATENT
        | {
            "topk_method": "greedy",
            "rope_scaling": {
                "type": "yarn",
                "factor": 4.0,
                "mscale": 1.0,
                "mscale_all_dim": 0.707,
                "original_max_position_embeddings": 1024,
            },
        },
    ),
    Architecture(
        kind="deepseek_v3",
        models="DeepSeek V3, R1, Kimi K2",
        fields=EXPERTS | LATENT,
        calls="deepseek",
        reasons=True,
    ),
    Architecture(
        kind="deepseek_v32",
        models="DeepSeek V3.2",
        fields=EXPERTS | LATENT | INDEX,
        calls="deepseek_plain",
        reasons=True,
    ),
    Architecture(kind="glm4", models="GLM 4 0414", fields={"partial_rotary_factor": 0.5}),
    Architecture(
        kind="glm4_moe",
        models="GLM 4.5 to 4.7",
        fields=EXPERTS | {"partial_rotary_factor": 0.5, "use_qk_norm": True, "rope_scaling": None},
        calls="glm47",
        reasons=True,
    ),
    Architecture(
        kind="glm4_moe_lite",
        models="GLM 4.7 Flash",
        fields=EXPERTS | LATENT,
        calls="glm47",
        reasons=True,
    ),
    Architecture(kind="lfm2", models="LFM2, LFM2.5", fields=CONVOLVED, calls="pythonic"),
    Architecture(kind="lfm2_moe", models="LFM2 MoE", fields=EXPERTS | CONVOLVED, calls="pythonic"),
    Architecture(
        kind="falcon_h1",
        models="Falcon H1",
        fields=MAMBA | {"mamba_d_ssm": 4 * 32, "mamba_chunk_size": 16},
    ),
    Architecture(kind="granite", models="Granite 3", fields=SCALES, calls="granite"),
    Architecture(
        kind="granitemoe", models="Granite 3 MoE", fields=SCALES | EXPERTS, calls="granite"
    ),
    Architecture(
        kind="granitemoehybrid",
        models="Granite 4",
        fields=SCALES
        | EXPERTS
        | MAMBA
        | {"layer_types": ["mamba", "attention"], "shared_intermediate_size": 64},
        calls="json_tools",
    ),
    Architecture(
        kind="mamba2",
        models="Mamba 2, Codestral Mamba",
        fields={
            "num_heads": HEADS,
            "head_dim": 32,
            "state_size": 16,
            "layer_norm_epsilon": 1e-5,
            "conv_kernel": 4,
            "n_groups": 1,
            "use_conv_bias": True,
            "time_step_limit": [0.0, 100.0],
            "time_step_rank": "auto",
        },
        dropped=("num_attention_heads", "num_key_value_heads"),
    ),
    Architecture(
        kind="nemotron_h",
        models="Nemotron Nano 2, 3",
        fields=EXPERTS
        | {
            "num_hidden_layers": 4,
            "hybrid_override_pattern": ["M", "*", "E", "-"],
            "mamba_num_heads": HEADS,
            "mamba_head_dim": 32,
            "mamba_proj_bias": False,
            "ssm_state_size": 16,
            "conv_kernel": 4,
            "n_groups": 1,
            "layer_norm_epsilon": 1e-5,
            "use_conv_bias": True,
            "moe_shared_expert_intermediate_size": 32,
            "time_step_limit": [0.0, 100.0],
        },
        calls="qwen3_coder",
        reasons=True,
    ),
    Architecture(kind="olmo2", models="OLMo 2"),
    Architecture(kind="olmo3", models="OLMo 3", fields=WINDOWED, reasons=True),
    Architecture(kind="olmoe", models="OLMoE", fields=EXPERTS),
    Architecture(kind="cohere", models="Command R", calls="command"),
    Architecture(kind="cohere2", models="Command R7B, A", fields=WINDOWED, calls="command"),
    Architecture(kind="smollm3", models="SmolLM3", calls="json_tools", reasons=True),
    Architecture(
        kind="exaone4",
        models="EXAONE 4",
        fields=WINDOWED | {"sliding_window_pattern": "LG", "rope_scaling": None},
        calls="json_tools",
        reasons=True,
    ),
    Architecture(
        kind="hunyuan_v1_dense",
        models="Hunyuan dense",
        fields={"rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0}},
    ),
    Architecture(kind="ernie4_5", models="ERNIE 4.5"),
    Architecture(
        kind="ernie4_5_moe",
        models="ERNIE 4.5 MoE",
        fields={
            "moe_num_experts": 4,
            "moe_layer_start_index": 1,
            "moe_intermediate_size": 32,
            "moe_k": 2,
            "moe_num_shared_experts": 1,
        },
    ),
    Architecture(kind="seed_oss", models="Seed-OSS", reasons=True),
    Architecture(kind="bailing_moe", models="Ling, Ring", fields=EXPERTS, calls="json_tools"),
    Architecture(
        kind="minimax",
        models="MiniMax M2",
        fields=EXPERTS | {"shared_intermediate_size": 64, "rotary_dim": 8},
        calls="minimax_m2",
        reasons=True,
    ),
    Architecture(
        kind="kimi_linear",
        models="Kimi Linear",
        fields=EXPERTS
        | LATENT
        | {
            "model_max_length": CONTEXT,
            "num_experts_per_token": 2,
            "head_dim": HEAD_DIM,
            "linear_attn_config": {
                "kda_layers": [1],
                "full_attn_layers": [2],
                "num_heads": HEADS,
                "head_dim": HEAD_DIM,
                "short_conv_kernel_size": 4,
            },
        },
        calls="kimi_k2",
    ),
    Architecture(kind="starcoder2", models="StarCoder 2", fields={"norm_epsilon": 1e-5}),
    Architecture(
        kind="stablelm",
        models="StableLM 2",
        fields={"use_qkv_bias": False, "partial_rotary_factor": 0.5},
    ),
    Architecture(kind="internlm3", models="InternLM 3"),
    Architecture(kind="mimo", models="MiMo 7B", fields={"num_nextn_predict_layers": 1}),
    Architecture(
        kind="jamba",
        models="Jamba",
        fields=EXPERTS
        | MAMBA
        | {
            "attn_layer_offset": 1,
            "attn_layer_period": 2,
            "expert_layer_offset": 1,
            "expert_layer_period": 2,
        },
    ),
    Architecture(
        kind="rwkv7",
        models="RWKV 7",
        fields={
            "a_low_rank_dim": 8,
            "v_low_rank_dim": 8,
            "gate_low_rank_dim": 8,
            "decay_low_rank_dim": 8,
        },
    ),
    Architecture(
        kind="qwen3_vl_moe",
        models="Qwen 3-VL MoE",
        fields=EXPERTS,
        nested="qwen3_moe",
        calls="json_tools",
        reasons=True,
    ),
    Architecture(
        kind="glm_moe_dsa",
        models="GLM 5",
        fields=EXPERTS
        | LATENT
        | INDEX
        | {
            "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
            "topk_method": "noaux_tc",
            "scoring_func": "sigmoid",
            "moe_layer_freq": 1,
        },
        calls="glm47",
        reasons=True,
    ),
    Architecture(kind="hunyuan", models="Hunyuan MoE", fields=EXPERTS | CROSS),
    Architecture(
        kind="apertus",
        models="Apertus",
        fields={"post_norm": False, "qk_norm": True},
    ),
    Architecture(kind="dots1", models="dots.llm1", fields=EXPERTS),
    Architecture(
        kind="llama4",
        models="Llama 4",
        fields=CHUNKED,
        nested="llama4_text",
    ),
    *FURTHER,
)
