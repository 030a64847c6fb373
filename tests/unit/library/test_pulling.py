"""Repositories are fetched by the hub's own client: whole, resumed, or refused with the way out."""

import json

import huggingface_hub
import pytest
from huggingface_hub import constants
from tests.support.models.found_places import gguf_head
from tests.support.models.tiny_gguf import write_tiny_gguf
from tests.support.models.tiny_models import make_tiny
from tests.support.peers.hub_server import COMMIT, hub_server

from hotseat.library import pulling
from hotseat.library.importing import import_model
from hotseat.library.pulling import Wanted, plan_pull, pull
from hotseat.protocol.errors import HotseatError

REPOSITORY = "mlx-community/Tiny-1B-4bit"


def quiet(_phase, _percent):
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = make_tiny(tmp_path_factory.mktemp("source") / "tiny", "llama")
    (folder / "modeling_own.py").write_text("raise SystemExit")
    (folder / "README.md").write_text("# Tiny")
    return folder


@pytest.fixture
def hub(source, tmp_path, monkeypatch):
    """A hub with one repository, and an empty cache."""
    with hub_server() as server:
        server.repositories[REPOSITORY] = source
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield server


def cache_of(tmp_path):
    return tmp_path / "hub" / f"models--{REPOSITORY.replace('/', '--')}"


def test_plan_tells_sizes_and_leaves_nothing_behind(hub, source, tmp_path):
    plan = plan_pull(Wanted.parse(REPOSITORY))
    fetched = [file for file in source.iterdir() if file.suffix not in (".py", ".md")]
    assert plan.revision == COMMIT
    assert plan.files == len(fetched)
    assert plan.size_bytes == plan.missing_bytes == sum(file.stat().st_size for file in fetched)
    assert plan.record.weights_bytes == (source / "model.safetensors").stat().st_size
    assert (plan.licence, plan.record.architecture) == ("apache-2.0", "llama")
    assert not (tmp_path / "hub").exists()
    assert set(hub.sent) == {"config.json"}


def test_fetched_model_is_registered_with_its_revision(hub, tmp_path):
    told = []
    pulled = pull(Wanted.parse(f"{REPOSITORY}@v1"), lambda *step: told.append(step))
    snapshot = cache_of(tmp_path) / "snapshots" / COMMIT
    assert pulled.path == str(snapshot)
    assert not list(snapshot.glob("*.py"))
    assert (cache_of(tmp_path) / "refs/v1").read_text() == COMMIT
    assert told[-1] == (f"fetching {REPOSITORY}", 100.0)
    record = import_model(snapshot, tmp_path / "home", None, quiet)
    assert (record.name, record.source.repository) == ("Tiny-1B-4bit", REPOSITORY)
    assert record.source.revision == COMMIT
    assert plan_pull(Wanted.parse(REPOSITORY)).missing_bytes == 0


@pytest.fixture
def impatient(monkeypatch):
    """The client tries again at once, and notes what it has in small steps."""
    monkeypatch.setattr("time.sleep", lambda _s: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)


def test_connection_that_breaks_is_gone_on_from(hub, source, tmp_path, impatient):
    weights = (source / "model.safetensors").read_bytes()
    hub.breaks_after = len(weights) * 2 // 5
    path = pull(Wanted.parse(REPOSITORY), quiet).path
    assert (tmp_path / path / "model.safetensors").read_bytes() == weights
    assert hub.sent["model.safetensors"] < len(weights) + 3 * 4096
    assert sum(asked.startswith("bytes=") for _, _, asked in hub.requests) == 2


def test_later_try_keeps_the_files_that_are_whole(hub, source, tmp_path, impatient):
    hub.breaks_after = 0
    with pytest.raises(HotseatError) as caught:
        pull(Wanted.parse(REPOSITORY), quiet)
    assert caught.value.facts["reason"] == "unreachable"
    assert "files that are whole are kept" in caught.value.message
    assert not list(cache_of(tmp_path).rglob("*.incomplete"))
    assert plan_pull(Wanted.parse(REPOSITORY)).missing_bytes == (
        (source / "model.safetensors").stat().st_size
    )
    hub.breaks_after, before = None, hub.sent["tokenizer.json"]
    pull(Wanted.parse(REPOSITORY), quiet)
    assert hub.sent["tokenizer.json"] == before


@pytest.mark.parametrize(
    ("asked", "reason", "words"),
    [
        ("nobody/Nothing", "not_found", "check the name"),
        (f"{REPOSITORY}@v9", "revision", "'v9'"),
        ("gated/Model", "gated", "accept its terms on"),
        ("packed/Model-GGUF", "unsupported", "hotseat pull packed/Model-GGUF --file m.gguf"),
        ("other/Weights", "unsupported", "safetensors"),
        ("other/Code", "unsupported", "code of its own"),
    ],
)
def test_repository_that_cannot_be_used_is_refused_with_the_way_out(
    hub, source, tmp_path, asked, reason, words
):
    packed, other, code = (tmp_path / name for name in ("packed", "other", "code"))
    for folder in (packed, other, code):
        folder.mkdir()
    (packed / "m.gguf").write_bytes(b"GGUF")
    (other / "pytorch_model.bin").write_bytes(b"x")
    (code / "config.json").write_text(json.dumps({"model_type": "x", "auto_map": {"A": "m.B"}}))
    (code / "model.safetensors").write_bytes(b"x")
    hub.repositories |= {
        "gated/Model": source,
        "packed/Model-GGUF": packed,
        "other/Weights": other,
        "other/Code": code,
    }
    hub.gated.add("gated/Model")
    with pytest.raises(HotseatError) as caught:
        plan_pull(Wanted.parse(asked))
    assert (caught.value.code, caught.value.facts["reason"]) == ("model_unavailable", reason)
    assert words in caught.value.message
    assert not (tmp_path / "hub").exists()


def test_names_that_lead_out_of_the_repository_are_refused(hub):
    hub.extra = ["../../evil.json"]
    with pytest.raises(HotseatError, match="outside of itself"):
        plan_pull(Wanted.parse(REPOSITORY))


@pytest.mark.parametrize("name", ["", "a/b/c", "a b", "../x"])
def test_name_that_is_none_is_an_invalid_request(hub, name):
    with pytest.raises(HotseatError) as caught:
        plan_pull(Wanted.parse(name))
    assert caught.value.code in ("invalid_request", "model_unavailable")


def test_full_disk_is_told_before_anything_is_fetched(hub, tmp_path, monkeypatch):
    usage = pulling.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(pulling.shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    with pytest.raises(HotseatError) as caught:
        pull(Wanted.parse(REPOSITORY), quiet)
    assert caught.value.code == "disk_full"
    assert "model.safetensors" not in hub.sent


@pytest.fixture
def packed(hub, tmp_path):
    """A repository of GGUF files: one whole, one in parts, one whose parts are not all there."""
    folder = tmp_path / "packed"
    folder.mkdir()
    write_tiny_gguf(folder / "Tiny-F32.gguf", "qwen3")
    write_tiny_gguf(folder / "Tiny-split.gguf", "qwen3", split_max_tensors=12)
    (folder / "Cut-00001-of-00002.gguf").write_bytes(b"GGUF")
    (folder / "mmproj-Tiny.gguf").write_bytes(b"GGUF")
    hub.repositories["packed/Tiny-GGUF"] = folder
    return folder


def test_repository_of_gguf_files_is_refused_with_their_sizes_and_the_command(hub, packed):
    with pytest.raises(HotseatError) as caught:
        plan_pull(Wanted.parse("packed/Tiny-GGUF"))
    text = caught.value.message
    assert "Tiny-F32.gguf (1 MiB)" in text and "Tiny-split-00001-of-00003.gguf (1 MiB)" in text
    assert "mmproj" not in text and "Cut" not in text
    assert "hotseat pull packed/Tiny-GGUF --file Tiny-F32.gguf" in text


@pytest.mark.parametrize(("name", "parts"), [("Tiny-F32", 1), ("Tiny-split", 3)])
def test_one_gguf_file_is_planned_by_its_head_then_fetched_and_imported(
    hub, packed, tmp_path, name, parts
):
    file = f"{name}.gguf" if parts == 1 else f"{name}-00001-of-00003.gguf"
    wanted = Wanted.parse("packed/Tiny-GGUF", file)
    plan = plan_pull(wanted)
    sizes = [part.stat().st_size for part in packed.glob(f"{name}*")]
    assert (plan.files, plan.size_bytes, plan.missing_bytes) == (parts, sum(sizes), sum(sizes))
    assert (plan.record.name, plan.record.architecture) == (name, "qwen3")
    assert len(plan.record.layers) == 2
    assert not (tmp_path / "hub").exists()
    hub.sent.clear()
    pulled = pull(wanted, quiet)
    assert pulled.path.endswith(f"{COMMIT}/{file}")
    assert {sent for sent in hub.sent if sent.endswith(".gguf")} == {
        part.name for part in packed.glob(f"{name}*")
    }
    record = import_model(pulled.path, tmp_path / "home", None, quiet)
    assert (record.name, record.source.kind, record.source.revision) == (name, "gguf", COMMIT)
    assert record.source.repository == "packed/Tiny-GGUF"


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("Cut-00001-of-00002.gguf", "no whole GGUF model of the name"),
        ("*.gguf", "no whole GGUF model of the name"),
        ("falcon.gguf", "of kind falcon; convertible are"),
    ],
)
def test_file_that_cannot_be_used_is_refused_before_it_is_fetched(hub, packed, file, words):
    (packed / "falcon.gguf").write_bytes(gguf_head("falcon"))
    with pytest.raises(HotseatError, match=words) as caught:
        plan_pull(Wanted.parse("packed/Tiny-GGUF", file))
    assert caught.value.code == "model_unavailable"
