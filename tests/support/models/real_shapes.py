"""Folders with the configuration and weight headers of real models, and no weights.

Dimensions are those the makers publish; names and shapes of tensors are mlx-lm's own for them. The
weight files are sparse: they have the size of the real ones and take no room.
"""

import json
import struct
from pathlib import Path

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

FOUR_BITS = {"group_size": 64, "bits": 4}
_ITEM_BYTES = {"U32": 4, "BF16": 2}

TIED = {"gemma-3-12b"}
"""Published without a head of their own: the embedding serves as one."""

CONFIGS = {
    "llama-3.1-8b": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    },
    "qwen3-8b": {
        "model_type": "qwen3",
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": False,
    },
    "qwen2.5-14b": {
        "model_type": "qwen2",
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 48,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "vocab_size": 152064,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
    },
    "gemma-3-12b": {
        "model_type": "gemma3",
        "vocab_size": 262208,
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 3840,
            "intermediate_size": 15360,
            "num_hidden_layers": 48,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 256,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "rope_local_base_freq": 10000.0,
            "query_pre_attn_scalar": 256,
            "sliding_window": 1024,
            "sliding_window_pattern": 6,
            "vocab_size": 262208,
            "max_position_embeddings": 131072,
        },
    },
    "lfm2-1.2b": {
        "model_type": "lfm2",
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 65536,
        "max_position_embeddings": 128000,
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 2048,
        "block_ff_dim": 12288,
        "block_multiple_of": 256,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": True,
        "rope_theta": 1000000.0,
        "layer_types": [
            "full_attention" if number in (2, 5, 8, 10, 12, 14) else "conv" for number in range(16)
        ],
    },
}


def write_headers(folder: Path, name: str, *, quantised: bool = True) -> Path:
    """config.json and a sparse model.safetensors of a real model, 4-bit or bfloat16."""
    from mlx_lm.utils import _get_classes

    config = dict(CONFIGS[name])
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    if quantised:
        nn.quantize(model, **FOUR_BITS)
        config["quantization"] = FOUR_BITS
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    header, end = {}, 0
    for key, value in tree_flatten(model.parameters()):
        if name in TIED and "lm_head" in key:
            continue
        dtype = "U32" if value.dtype == mx.uint32 else "BF16"
        size = value.size * _ITEM_BYTES[dtype]
        header[key] = {
            "dtype": dtype,
            "shape": list(value.shape),
            "data_offsets": [end, end + size],
        }
        end += size
    header["__metadata__"] = {"format": "mlx"}
    data = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(data)) + data)
        stream.truncate(8 + len(data) + end)
    return folder
