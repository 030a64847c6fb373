"""Importing GGUF files: the weights mean the same afterwards."""

import shutil
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from mlx_lm.utils import load_model, load_tokenizer
from tests.support.models import tiny_gguf

from hotseat.library.gguf.file import open_gguf
from hotseat.library.gguf.forms import Wish
from hotseat.library.importing import import_model, plan_import
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.model import ModelRecord


def quiet(_phase: str, _percent: float) -> None:
    """Progress that nobody watches."""


def imported(tmp_path: Path, source: Path, name: str = "tiny") -> ModelRecord:
    return import_model(source, tmp_path / "home", name, quiet)


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
    assert "gemma3, gpt-oss, llama" in caught.value.message


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


def test_record_says_the_asked_width_and_which_types_lost_precision(tmp_path):
    kind = GGMLQuantizationType.Q8_0
    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "qwen2", quantise=kind)
    said = []
    record = import_model(
        source,
        tmp_path / "home",
        "m",
        lambda phase, _percent: said.append(phase),
        wish=Wish.of(4, 32, keep=False),
    )
    assert record.quantisation == "4-bit g32, re-quantised from Q8_0"
    (told,) = (phase for phase in said if phase.startswith("converting "))
    assert "Q8_0 -> 4-bit g32, error" in told and "used in place" in told
    assert said.index(told) < said.index("convert")


def test_plan_of_a_file_writes_nothing_and_a_folder_needs_none(tmp_path):
    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "qwen2")
    plan = plan_import(source, tmp_path / "home", None, Wish())
    assert (plan.architecture, plan.has_template) == ("qwen2", True)
    assert plan.size_bytes == plan.stored_bytes
    assert not (tmp_path / "home").exists()
    with pytest.raises(HotseatError, match="used in place"):
        plan_import(tmp_path, tmp_path / "home", None, Wish())


def test_group_size_without_a_width_is_an_invalid_request():
    with pytest.raises(HotseatError, match="give --bits") as caught:
        Wish.of(None, 64, keep=False)
    assert caught.value.code == "invalid_request"


def test_disk_that_is_too_small_for_the_result_is_told_before_any_work(tmp_path, monkeypatch):
    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "qwen2")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=60_000_000))
    said = []
    with pytest.raises(HotseatError) as caught:
        import_model(source, tmp_path / "home", "m", lambda phase, _percent: said.append(phase))
    assert caught.value.code == "disk_full"
    assert caught.value.facts["needed_bytes"] > 60_000_000
    assert said == []
    assert [entry.name for entry in (tmp_path / "home/models").iterdir()] == [".import.lock"]
