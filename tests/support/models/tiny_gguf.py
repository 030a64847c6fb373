"""Writes tiny GGUF files out of the same random weights that `tiny_models` makes for MLX."""

import functools
import io
import json
from pathlib import Path
from typing import Any, Literal

import gguf
import mlx.core as mx
import numpy as np
import sentencepiece

from tests.support.models import tiny_models

GgufKind = Literal["llama", "gemma3", "qwen3"]

_PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_GEMMA_PARTS = _PARTS | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def tiny_source(kind: GgufKind, seed: int = 0) -> tuple[dict[str, Any], dict[str, mx.array]]:
    """MLX config and float32 weights that a tiny GGUF file of this kind holds."""
    config = tiny_models.tiny_config(kind)
    if kind == "gemma3":
        config |= {"sliding_window_pattern": 6, "num_hidden_layers": 6}
    return config, tiny_models.tiny_weights(config, seed=seed)


def write_tiny_gguf(
    path: Path,
    kind: GgufKind,
    *,
    seed: int = 0,
    quantise: gguf.GGMLQuantizationType | None = None,
    change: Any = None,
) -> Path:
    """A GGUF file of a random model; `change` gets the writer before it is closed."""
    config, weights = tiny_source(kind, seed)
    writer = gguf.GGUFWriter(str(path), kind)
    _write_shape(writer, config)
    if kind == "gemma3":
        write_spm_vocabulary(writer, config["vocab_size"])
    else:
        write_bpe_vocabulary(writer, config["vocab_size"])
    for name, value in weights.items():
        target, array = _stored(name, np.array(value), config, kind)
        if quantise is not None and array.ndim == 2:
            packed = gguf.quants.quantize(array, quantise)
            writer.add_tensor(target, packed, raw_dtype=quantise)
        else:
            writer.add_tensor(target, array)
    if change is not None:
        change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_string("general.license", "mit")
    if "sliding_window" in config:
        writer.add_sliding_window(config["sliding_window"])


def _stored(
    name: str, array: np.ndarray, config: dict[str, Any], kind: GgufKind
) -> tuple[str, np.ndarray]:
    """Name and values as llama.cpp's converter stores them."""
    module, _, suffix = name.rpartition(".")
    if module in _TOP:
        target = _TOP[module]
    else:
        _, _, layer, part = module.split(".", 3)
        target = f"blk.{layer}.{(_GEMMA_PARTS if kind == 'gemma3' else _PARTS)[part]}"
    if kind == "gemma3" and "norm" in module:
        array = array + np.float32(1)
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    key = heads.get(module.rpartition(".")[2])
    if kind == "llama" and key is not None:
        count = config[key]
        array = (
            array.reshape(count, 2, array.shape[0] // count // 2, array.shape[1])
            .swapaxes(1, 2)
            .reshape(array.shape)
        )
    return f"{target}.{suffix}", np.ascontiguousarray(array)


def write_bpe_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """The byte-level vocabulary of `tiny_models`, as llama.cpp names it."""
    table = json.loads(tiny_models._tokenizer_json(size))["model"]
    tokens = sorted(table["vocab"], key=table["vocab"].get)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([control if t in tiny_models.SPECIALS else normal for t in tokens])
    writer.add_token_merges([" ".join(pair) for pair in table["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(tiny_models.CHATML)


@functools.lru_cache(maxsize=4)
def spm_model(size: int) -> bytes:
    """A real sentencepiece BPE model with byte fallback and user-defined runs of spaces."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(tiny_models._CORPUS.splitlines()),
        model_writer=made,
        model_type="bpe",
        vocab_size=size,
        byte_fallback=True,
        hard_vocab_limit=True,
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        allow_whitespace_only_pieces=True,
        user_defined_symbols=["\u2581\u2581", "\u2581\u2581\u2581\u2581", "<b>"],
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    return made.getvalue()


def write_spm_vocabulary(writer: gguf.GGUFWriter, size: int, *, add_space: bool = False) -> None:
    """The vocabulary of `spm_model` the way llama.cpp's converter stores Gemma's."""
    model = sentencepiece.SentencePieceProcessor(model_proto=spm_model(size))
    tokens, scores, kinds = [], [], []
    for number in range(model.vocab_size()):
        piece = model.id_to_piece(number)
        kind = gguf.TokenType.NORMAL
        if model.is_unknown(number) or model.is_control(number):
            kind = gguf.TokenType.CONTROL
        elif model.is_byte(number):
            kind = gguf.TokenType.BYTE
        elif piece in ("\u2581\u2581", "\u2581\u2581\u2581\u2581", "<b>"):
            kind, piece = gguf.TokenType.USER_DEFINED, piece.replace("\u2581", " ")
        tokens.append(piece)
        scores.append(model.get_score(number))
        kinds.append(kind)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(add_space)
