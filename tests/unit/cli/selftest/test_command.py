"""What `hotseat selftest` refuses, and what it shows of files that exist."""

import json

import msgspec
import pytest

from hotseat.cli.main import run
from hotseat.cli.selftest import run as run_module
from hotseat.cli.selftest.rules.results import Report, Result
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.selftest import figure


@pytest.fixture
def files(tmp_path):
    paths = []
    for number, verdict in enumerate(["ok", "slow"]):
        result = Result(
            name="commits",
            measures="m",
            expected="e",
            verdict=verdict,
            figures=(figure("commit_ms", 5.0 * (number + 1)),),
        )
        report = Report(
            hotseat="1",
            began_at="",
            scale="tiny",
            state="finished",
            heartbeat_at=0.0,
            results=(result,),
        )
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_bytes(msgspec.json.encode(report))
    return [str(path) for path in paths]


def test_two_files_are_shown_side_by_side(files, capsys):
    assert run(["selftest", "--compare", *files]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "commit_ms" in line)
    assert line.split() == ["commits", "commit_ms", "5", "10", "2.000", "ok", "/", "slow"]
    assert run(["selftest", "--compare", *files, "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)["figures"]
    assert (pair["first"], pair["second"], pair["ratio"]) == (5.0, 10.0, 2.0)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--compare", "A", "B", "--quick"], "--compare runs nothing"),
        (["--compare", "A"], "requires 2 arguments"),
        (["--soak", "2"], "is no length of time; write 90s, 30m or 2h"),
        (["--compare", "nowhere.json", "B"], "nowhere.json: No such file"),
    ],
)
def test_command_line_that_makes_no_sense_is_refused(words, text, capsys):
    assert run(["selftest", *words]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--model", "nobody"], ["--out", "missing/x.json"]])
def test_run_that_cannot_begin_leaves_no_file(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOTSEAT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert run(["selftest", "--quick", *words]) in {2, 4}
    assert ("nobody" if "nobody" in words else "missing") in capsys.readouterr().err
    assert list(tmp_path.glob("*.json")) == []


def test_model_may_be_a_path_or_a_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOTSEAT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    assert run_module._named("folder").source == str(tmp_path / "folder")
    (tmp_path / "m.gguf").touch()
    assert run_module._named("m.gguf").source == str(tmp_path / "m.gguf")
    with pytest.raises(HotseatError) as caught:
        run_module._named("other")
    assert caught.value.code == "unknown_model"
