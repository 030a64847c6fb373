"""Loading: progress, and a typed reason for everything that can be wrong with a model."""

import json
import os
from pathlib import Path

import msgspec
import pytest
from tests.support.engine.engine_harness import make_engine, tiny_record
from tests.support.models.tiny_models import make_tiny

from hotseat.protocol.limits import GIB
from hotseat.protocol.link_orders import Load, Warm
from hotseat.protocol.link_reports import Failed, Loaded, LoadProgress, Warmed
from hotseat.protocol.residence import Residence
from hotseat.worker.model import loading
from hotseat.worker.model.caches import new_caches


@pytest.fixture
def record(tmp_path):
    return tiny_record(tmp_path, "llama")


def load(record, tmp_path, residence=None) -> list:
    sent = []
    engine = make_engine(sent.append)
    engine.handle(
        Load(
            record=record,
            kv_dir=str(tmp_path / "kv"),
            kv_budget_bytes=GIB,
            cache_limit_bytes=GIB,
            memory_limit_bytes=GIB,
            residence=residence,
        )
    )
    engine.handle(Warm())
    engine.close()
    return sent


def rewritten(record, name: str, data: bytes):
    """The record as if it had been registered with this content."""
    path = Path(record.path) / name
    path.write_bytes(data)
    found = path.stat()
    files = tuple(
        msgspec.structs.replace(entry, size_bytes=found.st_size, mtime_ns=found.st_mtime_ns)
        if entry.name == name
        else entry
        for entry in record.files
    )
    return msgspec.structs.replace(record, files=files)


def test_load_reports_progress_up_to_the_total_then_loaded_then_warmed(record, tmp_path):
    sent = load(record, tmp_path)
    progress = [message for message in sent if isinstance(message, LoadProgress)]
    assert progress[-1].bytes_done == progress[-1].bytes_total > 0
    assert [type(m) for m in sent if not isinstance(m, LoadProgress)] == [Loaded, Warmed]
    assert next(m for m in sent if isinstance(m, Loaded)).active_bytes >= progress[-1].bytes_total


@pytest.mark.parametrize(
    ("residence", "runs"),
    [
        (None, True),
        (Residence(mode="layers", streamed=(1,)), False),
        (Residence(mode="experts", slots=2), True),
    ],
)
def test_no_token_is_run_where_it_would_read_layers_from_the_disk(
    tmp_path, monkeypatch, residence, runs
):
    asked = []
    monkeypatch.setattr(loading, "new_caches", lambda model: asked.append(1) or new_caches(model))
    sent = load(tiny_record(tmp_path, "mixtral"), tmp_path, residence)
    assert isinstance(sent[-1], Warmed)
    assert bool(asked) == runs


def test_file_changed_since_registration_is_refused_before_loading(record, tmp_path):
    path = Path(record.path) / "model.safetensors"
    os.utime(path, ns=(1, 1))
    (failed, warm) = load(record, tmp_path)
    assert (failed.during, failed.code, failed.permanent) == ("load", "model_unavailable", True)
    assert failed.facts["file"] == str(path)
    assert warm.during == "warm"


def test_missing_file_is_refused_by_name(record, tmp_path):
    (Path(record.path) / "tokenizer.json").unlink()
    failed = load(record, tmp_path)[0]
    assert failed.code == "model_unavailable"
    assert "tokenizer.json" in failed.message


@pytest.mark.parametrize(
    "name",
    [
        "chat_template.jinja",
        "additional_chat_templates/tool_use.jinja",
        "special_tokens_map.json",
        "model-00002-of-00002.safetensors",
    ],
)
def test_file_that_came_since_registration_is_refused_before_it_is_mixed_in(record, tmp_path, name):
    path = Path(record.path) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"{}")
    failed = load(record, tmp_path)[0]
    assert (failed.code, failed.permanent) == ("model_unavailable", True)
    assert failed.facts["file"] == str(path)
    assert "was not there" in failed.message


def test_file_that_is_no_part_of_a_model_changes_nothing(record, tmp_path):
    (Path(record.path) / "README.md").write_text("about it")
    assert isinstance(load(record, tmp_path)[-1], Warmed)


@pytest.mark.parametrize("damage", ["cut", "garbage", "foreign"])
def test_damaged_weights_are_a_typed_failure(record, tmp_path, damage):
    path = Path(record.path) / "model.safetensors"
    data = path.read_bytes()
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "garbage":
        data = b"\xff" * len(data)
    else:
        data = (make_tiny(tmp_path / "other", "gemma3") / "model.safetensors").read_bytes()
    failed = load(rewritten(record, "model.safetensors", data), tmp_path)[0]
    assert isinstance(failed, Failed)
    assert (failed.code, failed.permanent) == ("model_unavailable", True)


def test_cache_kind_that_cannot_be_served_is_refused(record, tmp_path):
    folder = make_tiny(tmp_path / "mamba", "mamba2")
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "mamba2"
    foreign = msgspec.structs.replace(record, path=str(folder), files=())
    failed = load(foreign, tmp_path)[0]
    assert failed.code == "model_unfit"
    assert failed.permanent


def test_code_in_a_model_folder_is_not_run(record, tmp_path):
    config = json.loads((Path(record.path) / "config.json").read_text())
    trap = Path(record.path) / "trap.py"
    marker = tmp_path / "ran"
    trap.write_text(f"open({str(marker)!r}, 'w')")
    data = json.dumps(config | {"model_file": "trap.py"}).encode()
    failed = load(rewritten(record, "config.json", data), tmp_path)[0]
    assert failed.code == "model_unavailable"
    assert not marker.exists()
