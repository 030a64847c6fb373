"""Tokenizers made from GGUF vocabularies: right ids, exact round trips."""

import functools
from pathlib import Path

import gguf
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlx_lm.tokenizer_utils import load
from tests.support.models import tiny_gguf, tiny_models
from tokenizers import Tokenizer
from transformers.integrations.gguf.gguf_tokenizer_mapping import (
    GGUF_PRE_TOKENIZER_SPLITS,
    convert_gguf_tokenizer,
)

from hotseat.library.gguf.file import GgufFile, open_gguf
from hotseat.library.gguf.tokenizer import (
    build_tokenizer,
    end_token_ids,
    read_vocabulary,
    write_tokenizer,
)

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"), max_size=40
) | st.lists(
    st.sampled_from(["the ", "Paris", "  ", "    ", "\n", "\t", "1024", "é", "🙂", "<b>", "seat"])
).map("".join)


def vocabulary_file(folder: Path, family: str, **changes: object) -> GgufFile:
    """A GGUF file with a vocabulary and one tensor."""
    path = folder / f"{family}.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    if family == "llama":
        tiny_gguf.write_spm_vocabulary(writer, 512, **changes)
    else:
        tiny_gguf.write_bpe_vocabulary(writer, 512)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return open_gguf(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("vocabularies")


@functools.lru_cache(maxsize=2)
def spm_pair(folder: Path) -> tuple[Tokenizer, sentencepiece.SentencePieceProcessor]:
    made = build_tokenizer(read_vocabulary(vocabulary_file(folder, "llama")))
    return made, sentencepiece.SentencePieceProcessor(model_proto=tiny_gguf.spm_model(512))


@functools.lru_cache(maxsize=2)
def bpe_pair(folder: Path) -> tuple[Tokenizer, Tokenizer]:
    made = build_tokenizer(read_vocabulary(vocabulary_file(folder, "gpt2")))
    return made, Tokenizer.from_str(tiny_models._tokenizer_json(512))


@settings(max_examples=150)
@given(text=TEXTS)
@example(text="Paris is the capital of France, 65536 tokens.\n\n    def render(messages): <b>x")
def test_sentencepiece_vocabulary_gives_the_ids_of_sentencepiece(folder, text):
    made, reference = spm_pair(folder)
    ids = made.encode(text, add_special_tokens=False).ids
    assert ids == reference.encode(text)
    assert made.decode(ids, skip_special_tokens=False) == text


@settings(max_examples=100)
@given(text=TEXTS)
def test_byte_level_vocabulary_gives_the_ids_of_its_own_tokenizer(folder, text):
    made, reference = bpe_pair(folder)
    ids = made.encode(text, add_special_tokens=False).ids
    assert ids == reference.encode(text, add_special_tokens=False).ids
    assert made.decode(ids, skip_special_tokens=False) == text


def test_bos_is_added_once_and_only_with_special_tokens(folder, tmp_path):
    write_tokenizer(tmp_path, read_vocabulary(vocabulary_file(folder, "llama")), 1024)
    tokenizer = load(tmp_path)
    with_bos = tokenizer.encode("seat")
    assert with_bos == [2, *tokenizer.encode("seat", add_special_tokens=False)]


def test_loaded_tokenizer_streams_text_byte_for_byte(folder, tmp_path):
    text = "x the  seat — 日本 🙂\n\n    <b>token</b>"
    for family in ("llama", "gpt2"):
        target = tmp_path / family
        target.mkdir()
        write_tokenizer(target, read_vocabulary(vocabulary_file(folder, family)), 1024)
        tokenizer = load(target)
        detokenizer = tokenizer.detokenizer
        assert "Naive" not in type(detokenizer).__name__
        for token in tokenizer.encode(text, add_special_tokens=False):
            detokenizer.add_token(token)
        detokenizer.finalize()
        assert detokenizer.text == text


def test_dummy_prefix_of_older_vocabularies_is_kept(folder, tmp_path):
    gguf_file = vocabulary_file(folder, "llama", add_space=True)
    made = build_tokenizer(read_vocabulary(gguf_file))
    tokens = made.encode("seat", add_special_tokens=False).tokens
    assert "".join(tokens) == "\u2581seat"
    assert made.decode(made.encode("seat", add_special_tokens=False).ids) == "seat"


def test_control_tokens_are_found_whole_in_text(folder):
    made = build_tokenizer(read_vocabulary(vocabulary_file(folder, "gpt2")))
    assert made.encode("a<|im_end|>", add_special_tokens=False).ids[-1] == 2


@pytest.mark.parametrize(
    ("pre", "text", "pieces"),
    [
        ("smollm", "x 12", ["x", "\u0120", "1", "2"]),
        ("llama-bpe", "x 1234", ["x", "\u0120", "123", "4"]),
        ("qwen2", "x 12", ["x", "\u0120", "1", "2"]),
        ("gpt-2", "x 12", ["x", "\u012012"]),
    ],
)
def test_each_pre_tokenizer_splits_digits_its_own_way(folder, pre, text, pieces):
    gguf_file = vocabulary_file(folder, "gpt2")
    gguf_file.metadata["tokenizer.ggml.pre"] = pre
    made = build_tokenizer(read_vocabulary(gguf_file))
    assert [piece for piece, _ in made.pre_tokenizer.pre_tokenize_str(text)] == pieces


@pytest.mark.parametrize("pre", sorted(GGUF_PRE_TOKENIZER_SPLITS))
def test_known_pre_tokenizers_split_as_transformers_does(folder, pre):
    text = "It's HTTPServer2Go, DON'T\n\n  you KNOW 12345 \u65e5\u672c...//x\t\t \u00e9tat "
    gguf_file = gpt2_file(folder)
    gguf_file.metadata["tokenizer.ggml.pre"] = pre
    table = {"tokenizer_type": "gpt2", "pre_tokenizer_type": pre}
    keys = {"tokens": "tokens", "merges": "merges"}
    table |= {name: gguf_file.metadata[f"tokenizer.ggml.{key}"] for name, key in keys.items()}
    theirs, _ = convert_gguf_tokenizer("qwen2", table)
    made = build_tokenizer(read_vocabulary(gguf_file))
    assert made.pre_tokenizer.pre_tokenize_str(text) == theirs.pre_tokenizer.pre_tokenize_str(text)


@functools.lru_cache(maxsize=1)
def gpt2_file(folder):
    return vocabulary_file(folder, "gpt2")


@pytest.mark.parametrize(("pre", "expected"), [("gpt-4o", ["The"]), ("qwen2", ["T", "he"])])
def test_whole_words_are_taken_first_where_the_model_learnt_that(folder, pre, expected):
    """A word that no merges lead to: taken whole, or left in the pieces that merges make."""
    gguf_file = vocabulary_file(folder, "gpt2")
    gguf_file.metadata["tokenizer.ggml.pre"] = pre
    gguf_file.metadata["tokenizer.ggml.tokens"][-1] = "The"
    gguf_file.metadata["tokenizer.ggml.merges"] = ["h e"]
    made = build_tokenizer(read_vocabulary(gguf_file))
    assert made.encode("The", add_special_tokens=False).tokens == expected


def test_ends_of_harmony_are_those_of_a_turn_not_of_its_messages(folder):
    marks = ["<|return|>", "<|end|>", "<|call|>", "<|start|>"]
    gguf_file = vocabulary_file(folder, "gpt2")
    tokens, kinds = (
        gguf_file.metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type")
    )
    tokens[-4:], kinds[-4:] = marks, [3] * 4
    gguf_file.metadata["tokenizer.chat_template"] = "<|start|>x<|end|><|return|>"
    gguf_file.metadata["tokenizer.ggml.eos_token_id"] = 508
    ends = end_token_ids(read_vocabulary(gguf_file))
    assert [tokens[token] for token in ends] == ["<|return|>", "<|call|>"]
