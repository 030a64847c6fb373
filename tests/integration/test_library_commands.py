"""Commands about the models of a home, as processes and without a daemon."""

import json
import os
import subprocess

import pytest
from tests.support.daemons.commands import HOTSEAT
from tests.support.models.tiny_models import make_tiny


@pytest.fixture
def machine(tmp_path):
    """A user's folder with a model that LM Studio fetched, and half of another one."""
    made = make_tiny(tmp_path / "user/.lmstudio/models/o/Tiny-1B", "llama")
    half = tmp_path / "user/.lmstudio/models/o/Half-1B"
    half.mkdir()
    (half / "config.json").write_bytes((made / "config.json").read_bytes())
    return tmp_path


def call(machine, *args):
    env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    env |= {"HOME": str(machine / "user"), "HOTSEAT_HOME": str(machine / "home")}
    done = subprocess.run(
        [*HOTSEAT, *args], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, json.loads(done.stdout), done.stderr


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
