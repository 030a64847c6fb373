"""Importing GGUF files: the weights mean the same afterwards."""

from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from mlx_lm.utils import _get_classes, load_model, load_tokenizer
from tests.support.models import tiny_gguf

from hotseat.library.gguf import weights
from hotseat.library.gguf.file import open_gguf
from hotseat.library.importing import import_model
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.model import ModelRecord

TOKENS = mx.array([[1, 7, 300, 42, 99, 5, 250, 17, 3, 11]])


def quiet(_phase: str, _percent: float) -> None:
    """Progress that nobody watches."""


def imported(tmp_path: Path, source: Path, name: str = "tiny") -> ModelRecord:
    return import_model(source, tmp_path / "home", name, quiet)


def logits(folder: str | Path) -> mx.array:
    model, _ = load_model(Path(folder))
    return model(TOKENS)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "qwen3"])
def test_float_file_gives_the_logits_of_the_same_weights_built_directly(tmp_path, kind):
    config, weights = tiny_gguf.tiny_source(kind, seed=3)
    model_class, arguments = _get_classes(config)
    direct = model_class(arguments.from_dict(config))
    direct.load_weights(list(weights.items()))
    record = imported(tmp_path, tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", kind, seed=3))
    assert mx.allclose(logits(record.path), direct(TOKENS), rtol=1e-5, atol=1e-5)
    assert record.quantisation == "float32"
    assert record.source.licence == "mit"


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
def test_codes_are_those_that_mlx_reads_from_the_file(tmp_path, kind):
    quantisation = GGMLQuantizationType[kind]
    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "qwen3", quantise=quantisation)
    record = imported(tmp_path, source)
    theirs = mx.load(str(source))
    ours = mx.load(str(Path(record.path) / "model.safetensors"))
    for suffix in ("weight", "scales", "biases"):
        left, right = (
            ours[f"model.layers.0.mlp.up_proj.{suffix}"],
            theirs[f"blk.0.ffn_up.{suffix}"],
        )
        assert mx.array_equal(left, right.astype(left.dtype))
    assert record.quantisation == f"{kind[1]}-bit g32"


@pytest.mark.parametrize("kind", sorted(weights._UNPACKERS, key=lambda k: k.name))
def test_kept_codes_mean_what_the_reference_decoder_says(kind):
    items, block_bytes = GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(kind.value)
    raw = rng.integers(0, 256, (8, 4 * block_bytes), dtype=np.uint8)
    halves = 2 if kind.name[-2:] in ("_1", "_K") else 1
    blocks = raw.reshape(8, -1, block_bytes)
    scales = rng.normal(0, 0.05, (*blocks.shape[:2], halves)).astype("<f2")
    blocks[..., : 2 * halves] = scales.view(np.uint8)
    expected = gguf.quants.dequantize(raw, kind)
    made = weights.convert_matrix(raw, kind, "float32")
    decoded = mx.dequantize(
        made.arrays["weight"],
        made.arrays["scales"],
        made.arrays["biases"],
        group_size=32,
        bits=made.bits,
    )
    assert decoded.shape == (8, 4 * items)
    assert np.allclose(np.array(decoded), expected, rtol=1e-5, atol=1e-5)


def test_type_without_equal_is_quantised_again_with_enough_bits():
    kind = GGMLQuantizationType.Q6_K
    rng = np.random.default_rng(6)
    raw = rng.integers(0, 256, (8, 2, 210), dtype=np.uint8)
    raw[..., 208:] = rng.normal(0, 0.001, (8, 2, 1)).astype("<f2").view(np.uint8)
    raw = raw.reshape(8, -1)
    expected = gguf.quants.dequantize(raw, kind)
    made = weights.convert_matrix(raw, kind, "float32")
    found = mx.dequantize(*made.arrays.values(), group_size=32, bits=made.bits)
    assert (made.requantised, made.bits) == (True, 8)
    assert np.abs(np.array(found) - expected).max() < np.abs(expected).max() / 100


def test_rows_of_rotary_heads_are_put_back_in_order():
    rows = np.arange(32)
    stored = rows.reshape(2, 2, 8).swapaxes(1, 2).reshape(-1)
    assert (stored[weights.rope_order(32, 2)] == rows).all()


def test_untied_and_tied_outputs_are_told_apart(tmp_path):
    def tie(writer):
        del writer.tensors[0]["output.weight"]

    source = tiny_gguf.write_tiny_gguf(tmp_path / "tied.gguf", "llama", change=tie)
    record = imported(tmp_path, source)
    model, config = load_model(Path(record.path))
    assert config["tie_word_embeddings"] is True
    assert "lm_head" not in model


def test_llama3_context_scaling_is_recognised_by_its_factors(tmp_path):
    def scale(writer):
        head = np.arange(0, 16, 2) / 16
        waves = 2 * np.pi * 10000.0**head
        factors = np.where(waves > 8192, 32.0, 1.0)
        middle = (waves <= 8192) & (waves >= 2048)
        smooth = (8192 / waves - 1) / 3
        factors = np.where(middle, 1 / ((1 - smooth) / 32 + smooth), factors)
        writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))

    source = tiny_gguf.write_tiny_gguf(tmp_path / "l3.gguf", "llama", change=scale)
    _, config = load_model(Path(imported(tmp_path, source).path))
    assert config["rope_scaling"]["rope_type"] == "llama3"
    assert config["rope_scaling"]["factor"] == pytest.approx(32.0)


def test_foreign_rope_factors_are_refused(tmp_path):
    source = tiny_gguf.write_tiny_gguf(
        tmp_path / "m.gguf",
        "llama",
        change=lambda w: w.add_tensor("rope_freqs.weight", np.full(8, 3, np.float32)),
    )
    with pytest.raises(HotseatError, match="rope_freqs"):
        imported(tmp_path, source)


def test_unknown_architecture_is_named_with_what_is_supported(tmp_path):
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "falcon")
    writer.add_context_length(64)
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(HotseatError) as caught:
        imported(tmp_path, tmp_path / "m.gguf")
    assert caught.value.code == "model_unavailable"
    assert "'falcon'" in caught.value.message
    assert "gemma3, llama, qwen3" in caught.value.message


def test_tensor_of_unknown_meaning_is_refused(tmp_path):
    source = tiny_gguf.write_tiny_gguf(
        tmp_path / "m.gguf",
        "llama",
        change=lambda w: w.add_tensor("blk.0.attn_sinks.weight", np.zeros(4, np.float32)),
    )
    with pytest.raises(HotseatError, match=r"attn_sinks"):
        imported(tmp_path, source)


def test_unknown_pre_tokenizer_is_refused_by_name(tmp_path):
    def rename(writer):
        del writer.kv_data[0]["tokenizer.ggml.pre"]
        writer.add_tokenizer_pre("exotic")

    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "llama", change=rename)
    with pytest.raises(HotseatError, match="'exotic'"):
        imported(tmp_path, source)


@pytest.mark.parametrize("kept", [3, 20, 200, 9_000, -1])
def test_file_cut_short_is_refused_as_damaged(tmp_path, kept):
    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "llama")
    source.write_bytes(source.read_bytes()[:kept])
    with pytest.raises(HotseatError) as caught:
        imported(tmp_path, source)
    assert caught.value.code == "model_unavailable"
    assert not list((tmp_path / "home" / "models").glob("[!.]*"))


def test_header_agrees_with_the_reference_reader(tmp_path):
    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "gemma3")
    ours, theirs = open_gguf(source), gguf.GGUFReader(source)
    assert set(ours.metadata) == {k for k in theirs.fields if not k.startswith("GGUF.")}
    for key, value in ours.metadata.items():
        assert value == theirs.fields[key].contents()
    for tensor in theirs.tensors:
        info = ours.tensors[tensor.name]
        assert info.shape == tuple(int(n) for n in tensor.shape[::-1])
        assert (info.kind, info.offset) == (tensor.tensor_type, tensor.data_offset)


def test_tokenizer_of_the_file_is_usable_with_its_template(tmp_path):
    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "llama")
    record = imported(tmp_path, source)
    assert record.template.mode == "exact"
    # eos of the file is <|endoftext|>; <|im_end|> ends a turn because the template writes it.
    assert record.eos_token_ids == (0, 2)
    assert load_tokenizer(Path(record.path)).has_chat_template
