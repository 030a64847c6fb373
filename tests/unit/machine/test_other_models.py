"""Models of Ollama and LM Studio: asked for by their names, unloaded, and never waited for long."""

import json
import stat
import sys
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.peers.fake_ollama import FakeOllama

from hotseat.protocol.limits import GIB
from hotseat.supervisor.machine.figures import LoadedElsewhere
from hotseat.supervisor.machine.other_models import (
    LmStudio,
    Ollama,
    loaded_elsewhere,
    ollama_port,
    unload_elsewhere,
)


def test_models_of_ollama_are_named_with_the_command_that_unloads_them():
    with FakeOllama(("llama3:8b", 6 * GIB), ("odd name", GIB)) as server:
        found = Ollama(server.server_port).loaded()
    assert found[0] == LoadedElsewhere(
        program="Ollama", model="llama3:8b", size_bytes=6 * GIB, command="ollama stop llama3:8b"
    )
    assert found[1].command == "ollama stop 'odd name'"
    assert server.asked == ["/api/ps"]


def test_unloaded_models_are_those_that_are_gone():
    with FakeOllama(("a", GIB), ("b", 2 * GIB)) as server:
        gone = unload_elsewhere([Ollama(server.server_port)])
        assert {model.model for model in gone} == {"a", "b"}
        assert server.models == {}
        assert unload_elsewhere([Ollama(server.server_port)]) == []


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>", b"[]", b'{"models": 3}', b'{"models": [{"size": 1}]}', b"\xff" * 100],
)
def test_nonsense_is_no_models(answer):
    with FakeOllama(answer=answer) as server:
        assert Ollama(server.server_port).loaded() == []


@given(st.binary(max_size=200))
def test_no_answer_ends_a_look(answer):
    program = Ollama(1)
    program._ask = lambda *_: answer
    assert isinstance(program.loaded(), list)


@pytest.mark.parametrize("name", ["", "-a", "a\x1b[2Jb", "a\nb"])
def test_name_that_is_no_name_is_left_out(name):
    with FakeOllama((name, GIB), ("fine", GIB)) as server:
        assert [model.model for model in Ollama(server.server_port).loaded()] == ["fine"]


def test_program_that_is_not_there_or_elsewhere_has_no_models():
    with FakeOllama() as server:
        port = server.server_port
    assert Ollama(port).loaded() == []
    assert Ollama(None).loaded() == []


@pytest.mark.parametrize(
    ("address", "port"),
    [
        (None, 11_434),
        ("", 11_434),
        ("127.0.0.1:12000", 12_000),
        ("http://localhost:12000", 12_000),
        ("[::]", 11_434),
        (":12000", 12_000),
        ("studio.lan:11434", None),
        ("127.0.0.1:nonsense", 11_434),
    ],
)
def test_port_is_that_of_the_users_ollama_if_it_is_here(address, port):
    assert ollama_port(address) == port


LMS = """#!{python}
import json, pathlib, sys, time
state = pathlib.Path(__file__).with_name("loaded.json")
loaded = json.loads(state.read_text())
pathlib.Path(__file__).with_name("asked").open("a").write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1:] == ["ps", "--json"]:
    print(json.dumps(loaded))
elif sys.argv[1] == "unload":
    state.write_text(json.dumps([one for one in loaded if one["identifier"] != sys.argv[2]]))
"""


@pytest.fixture
def studio(tmp_path, monkeypatch):
    """A home with `lms` where LM Studio puts it, which no PATH of a service names."""
    folder = tmp_path / ".lmstudio" / "bin"
    folder.mkdir(parents=True)
    program = folder / "lms"
    program.write_text(LMS.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    rows = [
        {"identifier": "qwen/qwen3-4b", "modelKey": "qwen/qwen3-4b", "sizeBytes": 3 * GIB},
        {"identifier": "far", "sizeBytes": 9 * GIB, "deviceIdentifier": "another-mac"},
    ]
    (folder / "loaded.json").write_text(json.dumps(rows))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return tmp_path


def own_name():
    """A process that runs for sure: this one, by the name the system has for it."""
    return psutil.Process().name()


def asked(home):
    found = home / ".lmstudio" / "bin" / "asked"
    return found.read_text().splitlines() if found.exists() else []


def test_models_of_lm_studio_are_named_and_unloaded_those_of_other_macs_are_not(studio):
    program = LmStudio(studio, [own_name()])
    assert program.loaded() == [
        LoadedElsewhere(
            program="LM Studio",
            model="qwen/qwen3-4b",
            size_bytes=3 * GIB,
            command="lms unload qwen/qwen3-4b",
        )
    ]
    assert [model.model for model in unload_elsewhere([program])] == ["qwen/qwen3-4b"]
    assert program.loaded() == []
    assert "unload qwen/qwen3-4b" in asked(studio)


def test_lm_studio_that_does_not_run_is_not_started_to_ask_it(studio):
    assert LmStudio(studio, ["no process of this name"]).loaded() == []
    assert asked(studio) == []


def test_command_that_hangs_is_given_up(studio, monkeypatch):
    program = studio / ".lmstudio" / "bin" / "lms"
    program.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    monkeypatch.setattr("hotseat.supervisor.machine.other_models._LMS_ASK_S", 0.2)
    began = time.monotonic()
    assert LmStudio(studio, [own_name()]).loaded() == []
    assert time.monotonic() - began < 10.0


def test_largest_comes_first_whoever_has_it(studio):
    with FakeOllama(("small", GIB), ("large", 5 * GIB)) as server:
        programs = [Ollama(server.server_port), LmStudio(studio, [own_name()])]
        names = [model.model for model in loaded_elsewhere(programs)]
    assert names == ["large", "qwen/qwen3-4b", "small"]
