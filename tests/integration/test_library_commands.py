"""Commands about the models of a home, as processes and without a daemon."""

import json
import os
import signal
import subprocess
import threading

import pytest
from tests.support.daemons.commands import HOTSEAT
from tests.support.models.tiny_models import make_tiny
from tests.support.peers.hub_server import COMMIT, hub_server

REPOSITORY = "o/Pulled-1B"


@pytest.fixture
def machine(tmp_path):
    """A user's folder with a model that LM Studio fetched, and half of another one."""
    made = make_tiny(tmp_path / "user/.lmstudio/models/o/Tiny-1B", "llama")
    half = tmp_path / "user/.lmstudio/models/o/Half-1B"
    half.mkdir()
    (half / "config.json").write_bytes((made / "config.json").read_bytes())
    return tmp_path


def environment(machine, **variables):
    env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return env | {"HOME": str(machine / "user"), "HOTSEAT_HOME": str(machine / "home")} | variables


def call(machine, *args, **variables):
    env = environment(machine, **variables)
    done = subprocess.run(
        [*HOTSEAT, *args], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.fixture
def hub(machine):
    with hub_server() as server:
        server.repositories[REPOSITORY] = machine / "user/.lmstudio/models/o/Tiny-1B"
        yield server


def snapshot(folder):
    return {
        str(file): (file.stat().st_mtime_ns, file.stat().st_size)
        for file in sorted(folder.rglob("*"))
    }


def test_discovered_models_are_registered_where_they_lie(machine):
    before = snapshot(machine / "user")
    code, view, _ = call(machine, "models", "--discover", "--register", "--json")
    assert code == 0
    assert [(one["name"], one["state"]) for one in view["models"]] == [
        ("Half-1B", "incomplete"),
        ("Tiny-1B", "new"),
    ]
    assert [(one["name"], one["error"]) for one in view["registered"]] == [("Tiny-1B", "")]
    assert snapshot(machine / "user") == before
    assert [file.name for file in (machine / "home/models/Tiny-1B").iterdir()] == ["model.json"]
    view = call(machine, "models", "--discover", "--json")[1]
    assert [one["registered_as"] for one in view["models"]] == [[], ["Tiny-1B"]]


def test_repository_is_fetched_from_a_mirror_and_registered(machine, hub):
    code, record, _ = call(machine, "pull", f"{REPOSITORY}@v1", "--json", HF_ENDPOINT=hub.url)
    assert (code, record["name"], record["source"]["licence"]) == (0, "Pulled-1B", "apache-2.0")
    assert (record["source"]["repository"], record["source"]["revision"]) == (REPOSITORY, COMMIT)
    assert "/.cache/huggingface/hub/models--o--Pulled-1B/" in record["path"]


def test_interrupted_fetch_leaves_no_partial_file(machine, hub):
    hub.stalls = threading.Event()
    process = subprocess.Popen(
        [*HOTSEAT, "pull", REPOSITORY],
        env=environment(machine, HF_ENDPOINT=hub.url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert hub.stalled.wait(30)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    hub.stalls.set()
    assert not list((machine / "user/.cache").rglob("*.incomplete"))
    assert not list((machine / "home/models").glob("*"))
