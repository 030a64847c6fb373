"""What lies on a machine is found with its state and its cost, and no weight is read for it."""

import json
import os
from pathlib import Path

import pytest
from tests.support.models import found_places as places
from tests.support.models.real_shapes import CONFIGS, write_headers

from hotseat.library.configuration import text_table
from hotseat.library.discovery import discovering
from hotseat.library.discovery import places as known_places
from hotseat.library.discovery.discovering import discover
from hotseat.library.discovery.looking import Spot, look_at_folder
from hotseat.library.discovery.shape import estimate_layers
from hotseat.library.geometry import measure_geometry
from hotseat.protocol.limits import GIB, MIB

FOLDERS, ENTRIES = 100, 40
PER_MODEL_BYTES = 48 * 1024


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Empty places, each where the variables and constants say."""
    monkeypatch.setattr(discovering, "hub_cache", lambda: tmp_path / "hub")
    monkeypatch.setattr(discovering, "LM_STUDIO", (str(tmp_path / "studio"),))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    for name in ("hub", "studio", "ollama", "fresh"):
        (tmp_path / name).mkdir()
    return tmp_path


def found(*roots):
    return {model.name: model for model in discover(roots).models}


def test_every_place_is_looked_into(machine):
    places.in_hub(machine / "hub", "mlx-community/Hub-8B", places.mlx_folder(machine / "fresh/a"))
    places.mlx_folder(machine / "studio/publisher/Studio-8B", shards=3)
    places.gguf_file(machine / "studio/other/Pack-GGUF/pack-q4.gguf")
    blob = places.in_ollama(machine / "ollama", "qwen3", "8b")
    places.mlx_folder(machine / "mine/deep/Own-8B")
    models = found(machine / "mine")
    assert {(name, model.place, model.kind, model.fault) for name, model in models.items()} == {
        ("Hub-8B", "hub cache", "MLX", ""),
        ("Studio-8B", "LM Studio", "MLX", ""),
        ("pack-q4", "LM Studio", "GGUF", ""),
        ("qwen3:8b", "Ollama", "GGUF", ""),
        ("Own-8B", "folder", "MLX", ""),
    }
    assert models["Hub-8B"].owner == "mlx-community"
    assert (models["qwen3:8b"].path, models["qwen3:8b"].source) == (str(blob), "ollama:qwen3:8b")
    record = models["Studio-8B"].record
    assert (record.architecture, record.quantisation) == ("llama", "4-bit g64")
    assert (record.context_tokens, record.kv_bytes_per_token) == (8192, 131072)
    assert record.weights_bytes == pytest.approx(GIB, rel=0.01)
    assert record.parameters == pytest.approx(2 * GIB, rel=0.01)


def break_index(folder):
    (folder / "model-00002-of-00003.safetensors").unlink()


def cut_short(folder):
    with (folder / "model-00001-of-00003.safetensors").open("r+b") as stream:
        stream.truncate(1000)


def take_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def edit(**changes):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return change


def other_weights(folder):
    for file in folder.glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("harm", "fault", "words"),
    [
        (break_index, "incomplete", "1 of 3 weight files"),
        (cut_short, "incomplete", "header promises"),
        (take_tokenizer, "incomplete", "no tokenizer"),
        (other_weights, "unsupported", "no weights"),
        (edit(model_type="no_such_kind"), "unsupported", "no_such_kind"),
        (edit(model_type="x", auto_map={"AutoModel": "m.M"}), "unsupported", "code of its own"),
        (edit(model_file="m.py"), "unsupported", "code of its own"),
        (edit(quantization_config={"quant_method": "hqq"}), "unsupported", "hqq"),
    ],
)
def test_folder_that_cannot_be_used_says_why(tmp_path, harm, fault, words):
    folder = places.mlx_folder(tmp_path / "m", 8 * MIB, shards=3)
    harm(folder)
    model = look_at_folder(Spot(name="m", place="folder", source=folder), folder)
    assert (model.fault, model.record) == (fault, None)
    assert words in model.reason


def test_download_that_broke_off_is_incomplete(machine):
    fresh = places.mlx_folder(machine / "fresh/a", 8 * MIB)
    (fresh / "model.safetensors").unlink()
    places.in_hub(machine / "hub", "o/Half", fresh)
    blobs = machine / "hub/models--o--Half/blobs"
    (blobs / "abc.incomplete").write_bytes(b"x")
    (machine / "hub/models--o--Begun/blobs").mkdir(parents=True)
    models = found()
    assert models["Half"].fault == models["Begun"].fault == "incomplete"
    assert "1 downloads are not finished; `hotseat pull o/Half`" in models["Half"].reason


def test_leftover_of_a_download_harms_no_whole_model(machine):
    places.in_hub(machine / "hub", "o/Whole", places.mlx_folder(machine / "fresh/a"))
    (machine / "hub/models--o--Whole/blobs/abc.incomplete").write_bytes(b"x")
    assert found()["Whole"].fault == ""


def test_gguf_parts_are_one_model_and_name_what_is_missing(machine):
    folder = machine / "studio/o/Split"
    for number in (1, 2):
        places.gguf_file(folder / f"m-{number:05d}-of-00003.gguf", MIB)
    (model,) = discover(()).models
    assert (model.name, model.fault) == ("m-00001-of-00003", "incomplete")
    assert "1 of 3 parts are missing: m-00003-of-00003.gguf" in model.reason
    places.gguf_file(folder / "m-00003-of-00003.gguf", MIB)
    (model,) = discover(()).models
    assert (model.fault, model.size_bytes) == ("", 3 * MIB)


def test_folder_that_cannot_be_read_keeps_no_other_back(machine, monkeypatch):
    for name in ("closed", "open"):
        places.mlx_folder(machine / "studio/o" / name, MIB)
    look = known_places.look_at_folder

    def denied(spot, folder, unfinished):
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return look(spot, folder, unfinished)

    monkeypatch.setattr(known_places, "look_at_folder", denied)
    models = found()
    assert models["open"].fault == ""
    assert (models["closed"].fault, models["closed"].reason) == (
        "incomplete",
        "not readable (Permission denied)",
    )


def test_pipes_and_large_tables_are_no_models(tmp_path):
    piped, large = (places.mlx_folder(tmp_path / name, MIB) for name in ("piped", "large"))
    (piped / "model.safetensors").unlink()
    os.mkfifo(piped / "model.safetensors")
    with (large / "config.json").open("r+b") as stream:
        stream.truncate(65 * MIB)
    for folder, words in ((piped, "no file"), (large, "no configuration")):
        model = look_at_folder(Spot(name="m", place="folder", source=folder), folder)
        assert model.fault == "incomplete" and words in model.reason


def test_ollama_entries_that_lead_nowhere_are_incomplete(machine):
    store = machine / "ollama"
    places.in_ollama(store, "gone").unlink()
    with places.in_ollama(store, "short").open("r+b") as stream:
        stream.truncate(MIB)
    manifest = store / "manifests/registry.ollama.ai/library"
    places.in_ollama(store, "escaping")
    text = (manifest / "escaping/latest").read_text()
    (manifest / "escaping/latest").write_text(text.replace("sha256:", "sha256:../../"))
    places.in_ollama(store, "garbled")
    (manifest / "garbled/latest").write_text("[[[")
    models = found()
    assert {model.fault for model in models.values()} == {"incomplete"}
    assert "`ollama pull gone:latest`" in models["gone:latest"].reason
    assert f"{MIB} of {64 * MIB} bytes" in models["short:latest"].reason
    assert "names no model" in models["escaping:latest"].reason
    assert "not readable" in models["garbled:latest"].reason


def test_gguf_of_another_kind_is_named_with_those_that_can_be_converted(machine):
    places.gguf_file(machine / "studio/o/M/bert.gguf", architecture="bert")
    model = found()["bert"]
    assert model.fault == "unsupported"
    assert "bert" in model.reason and "llama" in model.reason


def test_place_without_models_and_root_that_is_a_model(machine):
    assert discover(()).models == ()
    folder = places.mlx_folder(machine / "Own")
    assert found(folder)["Own"].path == str(folder)


@pytest.mark.parametrize("name", CONFIGS)
def test_estimated_layers_are_those_of_the_built_model(tmp_path, name):
    folder = write_headers(tmp_path / name, name)
    (folder / "tokenizer.json").write_text("{}")
    measured = measure_geometry(folder)
    record = look_at_folder(Spot(name=name, place="folder", source=folder), folder).record
    assert [
        (layer.kind, layer.kv_heads, layer.k_dim, layer.v_dim, layer.window)
        for layer in record.layers
    ] == [
        (layer.kind, layer.kv_heads, layer.k_dim, layer.v_dim, layer.window)
        for layer in measured.layers
    ]
    assert record.kv_dtype == measured.kv_dtype
    assert record.parameters == pytest.approx(measured.parameters, rel=0.05)
    assert record.quantisation == measured.quantisation


def test_latent_and_listed_layers_are_estimated():
    latent = {"num_hidden_layers": 2, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    assert [(x.kv_heads, x.k_dim, x.v_dim) for x in estimate_layers(latent)] == [(1, 512, 64)] * 2
    mixed = {
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "head_dim": 64,
        "full_attention_interval": 4,
    }
    assert [layer.kind for layer in estimate_layers(mixed)] == ["state"] * 3 + ["full"]
    assert estimate_layers({"num_hidden_layers": -1}) == estimate_layers({}) == ()
    assert estimate_layers(text_table({"text_config": {"num_layers": True}})) == ()


def bytes_read():
    """What this process has read by system calls, from any file."""
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


@pytest.mark.needs_linux("counts what was read by /proc/self/io")
def test_many_models_are_listed_without_reading_a_weight(machine):
    for number in range(FOLDERS):
        name = f"Many-{number}"
        if number % 2:
            made = places.mlx_folder(machine / f"fresh/{number}", 4 * GIB, shards=3)
            places.in_hub(machine / "hub", f"o/{name}", made)
        else:
            places.mlx_folder(machine / "studio/o" / name, 4 * GIB, shards=3)
    for number in range(ENTRIES):
        places.in_ollama(machine / "ollama", f"m{number}", size_bytes=GIB)
    discover(())  # modules are imported
    before = bytes_read()
    models = discover(()).models
    read = bytes_read() - before
    assert len(models) == FOLDERS + ENTRIES
    assert all(model.record is not None for model in models)
    assert read < len(models) * PER_MODEL_BYTES
