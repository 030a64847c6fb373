"""Registering MLX folders in place: what the record says and what is refused."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import msgspec
import pytest
from mlx_lm.models.cache import KVCache, QuantizedKVCache
from tests.support.models import tiny_gguf, tiny_models

from hotseat.library import geometry, importing
from hotseat.library.importing import import_model
from hotseat.library.registering import stated_sampling
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Sampling
from hotseat.protocol.model import Capabilities, LayerSpec, ModelRecord, StateSpec


def quiet(_phase: str, _percent: float) -> None:
    """Progress that nobody watches."""


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path):
    return tiny_models.make_tiny(tmp_path / "tiny", "llama")


def refusal(folder: Path, home: Path) -> HotseatError:
    with pytest.raises(HotseatError) as caught:
        import_model(folder, home, "m", quiet)
    assert caught.value.code == "model_unavailable"
    assert not list((home / "models").glob("[!.]*"))
    return caught.value


def test_folder_is_registered_in_place(home, folder):
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    record = import_model(folder, home, "m", quiet, licence="mit")
    assert record.path == str(folder)
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    assert [file.name for file in (home / "models" / "m").iterdir()] == ["model.json"]
    stored = (home / "models" / "m" / "model.json").read_bytes()
    assert msgspec.json.decode(stored, type=ModelRecord) == record
    assert (record.source.kind, record.source.licence) == ("mlx", "mit")
    assert {file.name: file.size_bytes for file in record.files} == {
        file.name: file.stat().st_size for file in folder.iterdir()
    }


def test_models_stay_out_of_time_machine(home, folder, monkeypatch):
    """Like contexts: gigabytes that can be had again."""
    excluded = []
    monkeypatch.setattr(importing, "exclude_from_time_machine", excluded.append)
    import_model(folder, home, "m", quiet)
    assert excluded == [home / "models"]


FULL = LayerSpec(kind="full", kv_heads=2, k_dim=16, v_dim=16)
WINDOW = LayerSpec(kind="window", kv_heads=2, k_dim=16, v_dim=16, window=48)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        ("llama", (FULL, FULL, FULL)),
        ("qwen3", (FULL, FULL)),
        ("gemma3", (WINDOW, FULL, WINDOW, FULL)),
        ("gpt_oss", (WINDOW, FULL)),
    ],
)
def test_geometry_is_that_of_the_caches(home, kind, layers, dtype):
    record = tiny_models.register_tiny(home, "m", kind, dtype=dtype, window=48, context=4096)
    assert record.layers == layers
    assert record.kv_dtype == dtype
    assert record.unfit_reason == ""
    assert (record.context_tokens, record.vocab_size) == (4096, 512)
    assert record.eos_token_ids == (2,)
    assert record.quantisation == dtype


def test_model_of_chunked_attention_is_registered_as_unfit_with_the_cache_kind(home):
    record = tiny_models.register_tiny(home, "m", "llama4")
    assert "ChunkedKVCache (chunked attention" in record.unfit_reason
    assert "in 3 of 4 caches" in record.unfit_reason
    assert (home / "models" / "m" / "model.json").is_file()


def test_caches_of_quantised_numbers_are_refused_with_the_reason():
    reason = geometry._unfit_caches([KVCache(), QuantizedKVCache()])
    assert "QuantizedKVCache (quantised KV" in reason
    assert "in 1 of 2 caches" in reason


@pytest.mark.parametrize(
    ("kind", "cuts"),
    [
        ("llama", "tokens"),
        ("mixtral", "tokens"),
        ("deepseek_v2", "tokens"),
        ("deepseek_v32", "tokens"),
        ("gemma3", "blocks"),
        ("lfm2", "snapshots"),
        ("falcon_h1", "snapshots"),
        ("mamba2", "snapshots"),
        ("recurrent_gemma", "snapshots"),
    ],
)
def test_record_says_where_contexts_can_be_cut_and_that_rows_batch(home, kind, cuts):
    record = tiny_models.register_tiny(home, "m", kind)
    assert record.unfit_reason == ""
    assert record.capabilities == Capabilities(cuts=cuts, batches=True)


@pytest.mark.parametrize(("kind", "experts"), [("llama", 0), ("mixtral", 4), ("deepseek_v2", 4)])
def test_record_says_how_many_experts_a_layer_has(home, kind, experts):
    assert tiny_models.register_tiny(home, "m", kind).experts == experts


def test_record_says_how_many_heads_attention_has(home):
    assert tiny_models.register_tiny(home, "m", "qwen3").attention_heads == tiny_models.HEADS


def test_recurrent_state_is_counted_once_per_sequence_whatever_its_length(home):
    record = tiny_models.register_tiny(home, "m", "mamba2")
    conv, ssm = 3 * 160 * 4, 4 * 32 * 16 * 4
    assert record.state_bytes == 2 * (conv + ssm)
    assert (record.kv_bytes(1), record.kv_bytes(10_000)) == (record.state_bytes,) * 2
    assert record.kv_bytes_per_token == 0


def test_latent_attention_is_counted_with_its_two_widths(home):
    record = tiny_models.register_tiny(home, "m", "deepseek_v32")
    assert {(layer.k_dim, layer.v_dim) for layer in record.layers} == {(24, 8), (16, 16)}
    assert record.kv_bytes_per_token == 2 * (24 + 8 + 16 + 16) * 4


def test_caches_in_lists_are_described_one_by_one_with_their_list(home):
    record = tiny_models.register_tiny(home, "m", "falcon_h1")
    described = [(layer.kind, layer.group) for layer in record.layers]
    assert described == [("state", 0), ("full", 0), ("state", 1), ("full", 1)]


def test_state_of_a_half_precision_model_is_described_in_its_float_type(home):
    record = tiny_models.register_tiny(home, "m", "lfm2", dtype="bfloat16")
    assert record.kv_dtype == "bfloat16"
    assert record.layers[0].states == (StateSpec(shape=(2, 64), dtype="bfloat16"),)


def test_quantised_folder_is_described_for_people(home, tmp_path):
    config = tiny_models.tiny_config("llama")
    weights = {}
    for name, value in tiny_models.tiny_weights(config).items():
        if "norm" in name:
            weights[name] = value
            continue
        module = name.removesuffix(".weight")
        bits = 8 if module == "lm_head" else 4
        packed = mx.quantize(value, group_size=32, bits=bits)
        names = ("weight", "scales", "biases")
        weights |= {f"{module}.{part}": a for part, a in zip(names, packed, strict=True)}
    folder = tiny_models.make_tiny(tmp_path / "q", "llama")
    quantisation = {"group_size": 32, "bits": 4}
    (folder / "config.json").write_text(json.dumps(config | {"quantization": quantisation}))
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    record = import_model(folder, home, "q", quiet)
    assert record.quantisation == "mixed 4/8-bit g32"
    plain = sum(value.size for value in tiny_models.tiny_weights(config).values())
    assert record.parameters == plain


def test_registering_does_not_bring_weights_into_memory(home, tmp_path):
    folder = tiny_models.make_tiny(tmp_path / "wide", "llama", vocab=512)
    size = (folder / "model.safetensors").stat().st_size
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    import_model(folder, home, "wide", quiet)
    assert mx.get_peak_memory() - before < size / 10


def test_tag_is_the_same_for_a_copy_elsewhere(home, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config |= {"_name_or_path": "elsewhere", "transformers_version": "9"}
    (copy / "config.json").write_text(json.dumps(config))
    first, second = (import_model(f, home, f.name, quiet) for f in (folder, copy))
    assert first.tag == second.tag


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("weights", {"seed": 1}),
        ("template", {"template": "none"}),
        ("architecture", {"context": 8192}),
        ("kv", {"dtype": "bfloat16"}),
    ],
)
def test_tag_changes_with_each_part_and_the_part_tells_which(home, part, options):
    first = tiny_models.register_tiny(home, "a", "llama")
    second = tiny_models.register_tiny(home, "b", "llama", **options)
    assert first.tag != second.tag
    assert getattr(first.tag_parts, part) != getattr(second.tag_parts, part)
    same = ("quantisation", "tokenizer", "adapter")
    assert all(getattr(first.tag_parts, n) == getattr(second.tag_parts, n) for n in same)


def test_shorter_context_is_taken_and_a_longer_one_refused(home, folder):
    assert import_model(folder, home, "m", quiet, context_tokens=512).context_tokens == 512
    with pytest.raises(HotseatError, match="--context") as caught:
        import_model(folder, home, "m", quiet, context_tokens=1_000_000)
    assert caught.value.code == "invalid_request"


def test_model_type_that_mlx_lm_lacks_is_named(home, folder):
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "unheard_of"}
    (folder / "config.json").write_text(json.dumps(config))
    assert "unheard_of" in refusal(folder, home).message


def test_model_code_in_the_folder_is_never_run(home, folder, tmp_path):
    config = json.loads((folder / "config.json").read_text()) | {"model_file": "mine.py"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "mine.py" in refusal(folder, home).message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no weights"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_missing_file_is_named(home, folder, name, said):
    (folder / name).unlink()
    assert said in refusal(folder, home).message


def test_source_that_does_not_exist_is_named(home, tmp_path):
    with pytest.raises(HotseatError, match="no such file"):
        import_model(tmp_path / "x", home, None, quiet)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_damaged_json_is_named(home, folder, name):
    (folder / name).write_text('{"model_type": ')
    error = refusal(folder, home)
    assert name in error.message or "tokenizer cannot be opened" in error.message


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_weights_cut_short_are_refused(home, folder, kept):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    error = refusal(folder, home)
    assert "model.safetensors" in error.message
    assert "download this file again" in error.message


def test_weights_header_with_wrong_offsets_is_refused(home, folder):
    file = folder / "model.safetensors"
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = data[8 : 8 + length].replace(b"[512,64]", b"[512,65]")
    assert header != data[8 : 8 + length]
    file.write_bytes(data[:8] + header + data[8 + length :])
    assert "disagree" in refusal(folder, home).message


def test_missing_shard_of_the_index_is_named(home, folder):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    error = refusal(folder, home)
    assert error.facts["missing"] == ["model-00002-of-00002.safetensors"]


def test_weights_of_another_model_are_refused(home, folder):
    tensors = mx.load(str(folder / "model.safetensors"))
    tensors.pop("model.norm.weight")
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    assert "model.norm.weight" in refusal(folder, home).message


@pytest.mark.parametrize("name", ["../up", ".hidden", "a/b", ""])
def test_name_that_is_no_folder_name_is_refused(home, folder, name):
    with pytest.raises(HotseatError, match="no model name"):
        import_model(folder, home, name, quiet)


def test_name_is_made_from_the_source_if_none_is_given(home, tmp_path):
    folder = tiny_models.make_tiny(tmp_path / "My model (4bit)", "llama")
    assert import_model(folder, home, None, quiet).name == "My-model-4bit-"


def test_name_of_another_source_is_not_taken_over(home, folder, tmp_path):
    import_model(folder, home, "m", quiet)
    other = tiny_models.make_tiny(tmp_path / "other", "qwen3")
    with pytest.raises(HotseatError, match="belongs to"):
        import_model(other, home, "m", quiet)
    assert import_model(folder, home, "m", quiet).architecture == "llama"


class StopHereError(Exception):
    """Ends an import from its progress callback."""


@pytest.mark.parametrize("phase", ["convert", "tokenizer", "inspect", "digest"])
def test_import_that_fails_half_way_leaves_nothing(home, tmp_path, phase):
    def stop(seen: str, _percent: float) -> None:
        if seen == phase:
            raise StopHereError

    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "llama")
    with pytest.raises(StopHereError):
        import_model(source, home, "m", stop)
    assert [entry.name for entry in (home / "models").iterdir()] == [".import.lock"]


def test_killed_import_leaves_no_model_and_the_next_one_clears_up(home, tmp_path):
    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "llama")
    command = [sys.executable, "-m", "hotseat.library", "import", str(source), "--home", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        for line in child.stdout:
            if b'"convert"' in line:
                os.kill(child.pid, signal.SIGSTOP)
                break
        leftovers = list((home / "models").glob(".import-*"))
        os.kill(child.pid, signal.SIGKILL)
    assert len(leftovers) == 1
    assert not list((home / "models").glob("[!.]*"))
    record = import_model(source, home, "m", quiet)
    assert not leftovers[0].exists()
    assert Path(record.path) == home / "models" / "m"


def test_model_moved_away_by_a_killed_import_comes_back(home, folder):
    import_model(folder, home, "m", quiet)
    (home / "models" / "m").rename(home / "models" / ".replaced-m")
    other = tiny_models.register_tiny(home, "other", "qwen3")
    assert (home / "models" / "m" / "model.json").is_file()
    assert other.name == "other"


@pytest.mark.parametrize(
    ("table", "stated"),
    [
        (None, Sampling()),
        ({"eos_token_id": 2}, Sampling()),
        ({"do_sample": False, "temperature": 0.6}, Sampling()),
        ({"do_sample": True, "top_k": 64}, Sampling(temperature=1.0, top_k=64)),
        ({"temperature": 0.6, "top_p": 0.95, "top_k": None}, Sampling(temperature=0.6, top_p=0.95)),
        (
            {"temperature": "warm", "min_p": 7, "repetition_penalty": 1.05, "seed": 3},
            Sampling(repetition_penalty=1.05),
        ),
    ],
)
def test_sampling_of_a_record_is_what_generation_config_states(table, stated):
    assert stated_sampling(table) == stated


def test_code_for_transformers_is_refused_only_where_nothing_else_could_load_the_model(
    home, folder
):
    config = json.loads((folder / "config.json").read_text())
    own = {"auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(config | own))
    assert import_model(folder, home.with_name("other"), "known", quiet).unfit_reason == ""
    (folder / "config.json").write_text(json.dumps(config | own | {"model_type": "mine"}))
    assert "modeling_mine" in refusal(folder, home).message
