"""Commands about one model of a home: show, rename, verify, rm."""

import asyncio
import hashlib
import io
import json
import os
import shutil

import msgspec
import pytest
import structlog
from tests.support.models.records import model_record, turn_commit

from hotseat.cli.main import run
from hotseat.protocol.discovery import ENDPOINT_VARIABLE
from hotseat.protocol.model import FileDigest, ModelRecord, ModelSource
from hotseat.supervisor.catalogue.session_files import list_revisions, session_digest
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.machine.locks import InstanceLock
from hotseat.supervisor.settings.home import Home

NAME = "Qwen3-8B-4bit"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with one copy that hotseat made, one model in place, and a session of each."""
    home = Home(tmp_path / "home")
    home.create()
    monkeypatch.setenv("HOTSEAT_HOME", str(home.root))
    monkeypatch.delenv(ENDPOINT_VARIABLE, raising=False)
    put(home.models_dir / NAME, home.models_dir / NAME, "gguf")
    put(home.models_dir / "placed", tmp_path / "theirs", "mlx", tag="b" * 32)
    asyncio.run(hold_sessions(home))
    yield home
    structlog.reset_defaults()  # commands without a daemon log to stderr of their process


def put(folder, weights, kind, **changes):
    for path in (folder, weights):
        path.mkdir(exist_ok=True)
    file = weights / "model.safetensors"
    file.write_bytes(b"weights")
    digest = FileDigest(
        name=file.name,
        size_bytes=7,
        mtime_ns=file.stat().st_mtime_ns,
        blake2b=hashlib.blake2b(b"weights", digest_size=16).hexdigest(),
    )
    source = ModelSource(kind=kind, path="/source.gguf" if kind == "gguf" else str(weights))
    record = model_record(folder.name, path=str(weights), files=(digest,), source=source, **changes)
    (folder / "model.json").write_bytes(msgspec.json.encode(record))


async def hold_sessions(home):
    catalogue = await Catalogue.open(home.catalogue, home.sessions_dir)
    for session in ("one", "two", ".hidden"):
        await catalogue.commit_turn(turn_commit([1, 2, 3], session=session, model=NAME))
    await catalogue.commit_turn(turn_commit([1], session="one", model="placed", tag="b" * 32))
    await catalogue.close()


async def sessions_of(home, model):
    catalogue = await Catalogue.open(home.catalogue, home.sessions_dir)
    try:
        return sorted(one.name for one in await catalogue.session_summaries(model))
    finally:
        await catalogue.close()


def call(capsys, *args):
    code = run([*args, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def record_in(folder):
    return msgspec.json.decode((folder / "model.json").read_bytes(), type=ModelRecord)


def test_show_tells_identity_place_and_what_is_stored(home, capsys):
    code, facts, err = call(capsys, "models", "show", "qwen3:8b")
    assert (code, facts["name"], facts["sessions"]) == (0, NAME, 2)
    assert (facts["is_copy"], facts["used_by"]) == (True, "")
    assert facts["tag_parts"]["weights"] == "w"
    assert f"qwen3:8b: {NAME}" in err
    put(home.models_dir / "again", home.root.parent / "theirs", "mlx", tag="c" * 32)
    facts = call(capsys, "models", "show", "placed")[1]
    assert (facts["is_copy"], facts["also_registered_as"]) == (False, ["again"])
    run(["models", "show", "placed"])
    out = capsys.readouterr().out
    assert "also called   again" in out and "ends with" in out


def test_show_of_a_name_that_means_several_or_none_says_what_is_near(home, capsys):
    put(home.models_dir / "Qwen3-8B-8bit", home.root.parent / "q", "mlx")
    code, answer, _ = call(capsys, "models", "show", "qwen3:8b")
    assert (code, answer["error"]["code"]) == (4, "unknown_model")


def test_renamed_model_keeps_its_files_and_sessions(home, capsys):
    code, answer, _ = call(capsys, "models", "rename", NAME, "qwen")
    assert (code, answer) == (0, {"renamed": NAME, "to": "qwen", "sessions": 2})
    record = record_in(home.models_dir / "qwen")
    assert (record.name, record.path) == ("qwen", str(home.models_dir / "qwen"))
    assert asyncio.run(sessions_of(home, "qwen")) == [".hidden", "one", "two"]
    assert asyncio.run(sessions_of(home, NAME)) == []
    files = list_revisions(home.sessions_dir)
    expected = {("qwen", "one"), ("qwen", "two"), ("placed", "one")}
    assert set(files) == {session_digest(*key) for key in expected}
    assert call(capsys, "models", "show", "qwen")[1]["state"] == "ready"


def test_model_in_place_is_renamed_without_touching_its_folder(home, capsys):
    theirs = home.root.parent / "theirs"
    before = {file.name: file.stat().st_mtime_ns for file in theirs.iterdir()}
    assert call(capsys, "models", "rename", "placed", "mine")[0] == 0
    assert {file.name: file.stat().st_mtime_ns for file in theirs.iterdir()} == before
    assert record_in(home.models_dir / "mine").path == str(theirs)


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        (NAME, "placed", "invalid_request", "taken"),
        (NAME, "no/name", "invalid_request", "no model name"),
        ("nothing", "x", "unknown_model", "no model is registered"),
    ],
)
def test_rename_that_cannot_be_leaves_all_as_it_was(home, capsys, old, new, code, words):
    before = sorted(path.name for path in home.models_dir.iterdir())
    error = call(capsys, "models", "rename", old, new)[1]["error"]
    assert error["code"] == code and words in error["message"]
    assert sorted(path.name for path in home.models_dir.iterdir()) == before
    assert asyncio.run(sessions_of(home, NAME)) == [".hidden", "one", "two"]


def test_rename_is_refused_under_a_daemon_and_over_sessions_of_a_model_that_is_gone(home, capsys):
    lock = InstanceLock(home.lock_file)
    lock.acquire()
    error = call(capsys, "models", "rename", NAME, "x")[1]["error"]
    lock.release()
    assert error["code"] == "already_running" and "hotseat stop" in error["message"]
    shutil.rmtree(home.models_dir / "placed")
    error = call(capsys, "models", "rename", NAME, "placed")[1]["error"]
    assert error["code"] == "session_conflict" and "sessions rm placed" in error["message"]
    assert (home.models_dir / NAME).is_dir()


def test_rename_that_was_killed_between_sessions_and_folder_is_finished_by_the_same_call(
    home, capsys, monkeypatch
):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr("hotseat.supervisor.kv.model_store.rename_folder", die)
        assert run(["models", "rename", NAME, "qwen"]) == 130
    capsys.readouterr()
    assert call(capsys, "models", "rename", NAME, "qwen")[0] == 0
    assert asyncio.run(sessions_of(home, "qwen")) == [".hidden", "one", "two"]


def test_removal_says_what_goes_what_stays_and_what_becomes_unreachable(home, capsys):
    theirs = home.root.parent / "theirs"
    code, gone, _ = call(capsys, "models", "rm", "placed")
    assert (code, gone["frees_bytes"], gone["stays"]) == (0, 0, str(theirs))
    assert (gone["removed"], gone["sessions"]) == ("placed", 1)
    assert (theirs / "model.safetensors").read_bytes() == b"weights"
    code, gone, _ = call(capsys, "models", "rm", NAME)
    assert (code, gone["frees_bytes"], gone["stays"]) == (0, 7, "/source.gguf")
    assert not (home.models_dir / NAME).exists()


def test_removal_wants_the_full_name_of_a_program(home, capsys):
    error = call(capsys, "models", "rm", "qwen3:8b", "--yes")[1]["error"]
    assert error["facts"]["near"] == [NAME]
    assert (home.models_dir / NAME).is_dir()


class Typed(io.StringIO):
    """A terminal at which somebody typed an answer."""

    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "code", "is_there"), [("n", 130, True), ("y", 0, False)])
def test_removal_asks_a_person(home, capsys, monkeypatch, answer, code, is_there):
    monkeypatch.setattr("sys.stdin", Typed(f"{answer}\n"))
    assert run(["models", "rm", "qwen3:8b"]) == code
    out = capsys.readouterr().out
    assert "the copy that hotseat made, 7 B" in out
    assert "2 sessions, until it is registered again" in out
    assert (home.models_dir / NAME).is_dir() == is_there


def test_verify_finds_other_bytes_that_look_the_same(home, capsys):
    code, answer, _ = call(capsys, "models", "verify", NAME)
    assert (code, [file["state"] for file in answer["files"]]) == (0, ["sound"])
    file = home.models_dir / NAME / "model.safetensors"
    found = file.stat()
    file.write_bytes(b"weighty")
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert call(capsys, "models", "show", NAME)[1]["state"] == "ready"
    code, answer, _ = call(capsys, "models", "verify", NAME)
    assert (code, [file["state"] for file in answer["files"]]) == (1, ["damaged"])
