"""Models of Ollama's store: blob, parameters and name; the store stays as it was."""

import hashlib
import json
from pathlib import Path

import pytest
from tests.support.models import tiny_gguf
from tests.support.models.tiny_models import CHATML

from hotseat.library import __main__ as command
from hotseat.library.importing import import_model
from hotseat.library.ollama_store import entries, find_stored
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Sampling

PARAMETERS = {
    "temperature": 0.6,
    "top_p": 0.9,
    "top_k": 20,
    "repeat_penalty": 1.1,
    "num_ctx": 4096,
    "num_keep": 24,
    "stop": ["<|im_start|>", "<|im_end|>", "two words"],
}
KIND = "application/vnd.ollama.image."


def quiet(_phase, _percent):
    """Progress that nobody watches."""


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def put(store, data: bytes, kind: str) -> dict:
    digest = hashlib.sha256(data).hexdigest()
    (store / "blobs").mkdir(parents=True, exist_ok=True)
    (store / "blobs" / f"sha256-{digest}").write_bytes(data)
    return {"mediaType": f"{KIND}{kind}", "digest": f"sha256:{digest}", "size": len(data)}


def stored(store, place="registry.ollama.ai/library/qwen3/8b", change=None, **layers) -> Path:
    """A model as `ollama pull` leaves it."""
    store.mkdir(exist_ok=True)
    source = tiny_gguf.write_tiny_gguf(store / "fresh", "qwen3", change=change)
    made = [put(store, source.read_bytes(), "model")]
    source.unlink()
    texts = {"template": "{{ .Prompt }}", "license": "\n  Apache License\nVersion 2.0"} | layers
    made += [put(store, text.encode(), kind) for kind, text in texts.items()]
    manifest = store / "manifests" / place
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": made}))
    return manifest


def checksums(store):
    return {
        str(file.relative_to(store)): (
            hashlib.sha256(file.read_bytes()).hexdigest(),
            file.stat().st_mtime_ns,
        )
        for file in store.rglob("*")
        if file.is_file()
    }


def imported(asked, store, home, **options):
    found = find_stored(asked, store)
    return import_model(found.blob, home, found.name, quiet, stated=found.stated, **options)


def test_parameters_become_the_sampling_and_the_store_stays_as_it_was(store, tmp_path):
    stored(store, params=json.dumps(PARAMETERS))
    before = checksums(store)
    record = imported("qwen3:8b", store, tmp_path / "home")
    assert checksums(store) == before
    sampling = record.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.6, 0.9, 20)
    assert sampling.repetition_penalty == 1.1
    assert (record.name, record.context_tokens) == ("qwen3:8b", 4096)
    assert {1, 2} <= set(record.eos_token_ids)
    assert record.source.licence == "mit"
    written = (Path(record.path) / "chat_template.jinja").read_text()
    assert written == CHATML


def test_context_that_is_asked_for_goes_before_the_stores_and_never_above_the_models(
    store, tmp_path
):
    stored(store, params=json.dumps(PARAMETERS | {"num_ctx": 10**6}))
    assert imported("qwen3:8b", store, tmp_path / "home").context_tokens == 16384
    asked = imported("qwen3:8b", store, tmp_path / "home", context_tokens=512)
    assert asked.context_tokens == 512


def test_parameters_that_make_no_sense_are_left_out(store, tmp_path):
    strange = {"temperature": "hot", "top_k": -5, "top_p": 7, "stop": 3, "num_ctx": True}
    stored(store, params=json.dumps(strange | {"min_p": 0.1}))
    record = imported("qwen3:8b", store, tmp_path / "home")
    assert record.sampling == Sampling(min_p=0.1)
    assert record.context_tokens == 16384


def test_licence_is_the_files_own_else_the_title_of_the_stores(store, tmp_path):
    def forget(writer):
        del writer.kv_data[0]["general.license"]

    stored(store, change=forget)
    record = imported("qwen3:8b", store, tmp_path / "home")
    assert record.source.licence == "Apache License"


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ("llama3.2", "registry.ollama.ai/library/llama3.2/latest"),
        ("me/mine:v1", "registry.ollama.ai/me/mine/v1"),
        ("hf.co/bartowski/Q-GGUF:Q4_K_M", "hf.co/bartowski/Q-GGUF/Q4_K_M"),
    ],
)
def test_names_are_those_that_ollama_takes_and_discovery_tells(store, asked, place):
    stored(store, place)
    assert find_stored(asked, store).blob.is_file()
    (entry,) = entries(store)
    assert entry.asked == (asked if ":" in asked else f"{asked}:latest")
    assert find_stored(entry.asked, store).name == entry.name


@pytest.mark.parametrize("asked", ["", "../../x", "a/../b:c", "a/b/c/d", "a:b:c", "a:..", "/etc"])
def test_name_that_is_none_is_refused(store, asked):
    with pytest.raises(HotseatError) as caught:
        find_stored(asked, store)
    assert caught.value.code == "invalid_request"


def test_model_that_is_not_there_is_told_with_those_that_are(store):
    stored(store)
    with pytest.raises(HotseatError, match="here are qwen3:8b; fetch it with `ollama pull x`"):
        find_stored("x", store)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"adapter": "lora"}, "with an adapter"),
        ({"params": "[1, 2]"}, "parameters are not readable"),
    ],
)
def test_layers_that_cannot_be_taken_are_refused_with_the_way_out(store, layers, words):
    stored(store, **layers)
    with pytest.raises(HotseatError, match=words) as caught:
        find_stored("qwen3:8b", store)
    assert caught.value.code == "model_unavailable"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "manifest is not readable"),
        ('{"layers": []}', "names no model"),
        ("[" * 5000, "manifest is not readable"),
    ],
)
def test_damaged_manifest_says_how_to_fetch_it_again(store, text, words):
    manifest = stored(store)
    manifest.write_text(text)
    with pytest.raises(HotseatError, match=words) as caught:
        find_stored("qwen3:8b", store)
    assert "`ollama pull qwen3:8b`" in caught.value.message


def test_blob_that_is_missing_or_short_says_how_to_fetch_it_again(store):
    stored(store)
    blob = find_stored("qwen3:8b", store).blob
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(HotseatError, match="not whole"):
        find_stored("qwen3:8b", store)


def test_import_command_takes_the_name_and_says_whose_template_it_is(store, tmp_path, monkeypatch):
    stored(store)
    monkeypatch.setenv("OLLAMA_MODELS", str(store))
    words = ["import", "ollama:qwen3:8b", "--home", str(tmp_path / "home")]
    phases = []
    line = command._import(
        command._parser().parse_args(words), lambda phase, _percent: phases.append(phase)
    )
    assert line.record.name == "qwen3:8b"
    assert any("from Ollama's store" in phase for phase in phases)
