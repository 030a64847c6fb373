"""Writes tiny GGUF files out of the same random weights that `tiny_models` makes for MLX."""

import functools
import io
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import sentencepiece

from tests.support.models import tiny_models
from tests.support.models.gguf_families import (
    GgufKind,
    architecture_of,
    stored_tensor,
    tiny_source,
    write_shape,
)


def write_tiny_gguf(
    path: Path,
    kind: GgufKind,
    *,
    seed: int = 0,
    quantise: gguf.GGMLQuantizationType | None = None,
    change: Any = None,
    split_max_tensors: int = 0,
) -> Path:
    """A GGUF file of a random model; `change` gets the writer before it is closed."""
    config, weights = tiny_source(kind, seed)
    writer = gguf.GGUFWriter(str(path), architecture_of(kind), split_max_tensors=split_max_tensors)
    write_shape(writer, config, kind)
    if kind in ("gemma2", "gemma3"):
        write_spm_vocabulary(writer, config["vocab_size"])
    else:
        write_bpe_vocabulary(writer, config["vocab_size"])
    for name, value in weights.items():
        target, array = stored_tensor(name, np.array(value), config, kind)
        if quantise is not None and array.ndim == 2:
            packed = gguf.quants.quantize(array, quantise)
            writer.add_tensor(target, packed, raw_dtype=quantise)
        else:
            writer.add_tensor(target, array)
    if change is not None:
        change(writer)
    finish(writer)
    return path


def finish(writer: gguf.GGUFWriter) -> None:
    """Writes what a writer was told."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


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
