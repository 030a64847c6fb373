"""The file of a run is whole at any moment, and nothing else is ever replaced."""

import errno
import os
import time
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from hotseat.cli.selftest import file as file_module
from hotseat.cli.selftest.file import ReportFile, choose_file, newest_before, read_report
from hotseat.cli.selftest.rules.results import FORMAT, Report, Result
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.selftest import figure

REPORT = Report(
    hotseat="1", began_at="2026-01-02 03:04", scale="tiny", state="running", heartbeat_at=1.0
)
AT = time.struct_time((2026, 1, 2, 3, 4, 0, 0, 0, 0))


def result(name, verdict="ok", *samples):
    figures = (figure("x_ms", *samples),) if samples else ()
    return Result(name=name, measures="m", expected="e", verdict=verdict, figures=figures)


def test_each_step_of_a_run_is_in_the_file_when_it_returns(tmp_path):
    file = ReportFile(tmp_path / "r.json", REPORT)
    assert read_report(file.path).results == ()
    file.put(result("a", "running"))
    assert [one.verdict for one in read_report(file.path).results] == ["running"]
    file.put(result("a", "ok", 1.5, 2.5))
    file.put(result("b", "running"))
    found = read_report(file.path)
    assert [(one.name, one.verdict) for one in found.results] == [("a", "ok"), ("b", "running")]
    assert found.results[0].figures[0].samples == (1.5, 2.5)
    assert (found.state, found.heartbeat_at > REPORT.heartbeat_at) == ("running", True)
    file.end(interrupted=True)
    assert read_report(file.path).state == "interrupted"
    assert list(tmp_path.iterdir()) == [file.path]


def test_write_that_fails_leaves_what_was_known_and_says_so(tmp_path, monkeypatch):
    file = ReportFile(tmp_path / "r.json", REPORT)
    file.put(result("a"))
    before = file.path.read_bytes()

    def full(_fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file_module.os, "fsync", full)
    with pytest.raises(HotseatError, match="No space left on device") as caught:
        file.put(result("b"))
    assert caught.value.code == "disk_full"
    assert file.path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file.path]


def test_run_that_cannot_write_at_all_leaves_no_empty_file(tmp_path, monkeypatch):
    def broken(_fd):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(file_module.os, "fsync", broken)
    with pytest.raises(HotseatError, match="Input/output error"):
        ReportFile(tmp_path / "r.json", REPORT)
    assert list(tmp_path.iterdir()) == []


def test_file_that_exists_is_refused_and_kept(tmp_path):
    taken = tmp_path / "taken.json"
    taken.write_text("mine")
    with pytest.raises(HotseatError, match=r"taken\.json: File exists; .*--out") as caught:
        ReportFile(taken, REPORT)
    assert caught.value.code == "invalid_request"
    assert taken.read_text() == "mine"


def test_name_of_a_minute_that_is_taken_gets_a_number(tmp_path):
    first = choose_file(tmp_path, AT)
    assert first.name == "hotseat-selftest-20260102-0304.json"
    first.touch()
    assert choose_file(tmp_path, AT).name == "hotseat-selftest-20260102-0304-1.json"


def test_newest_other_run_is_found_among_other_files(tmp_path):
    own = tmp_path / "hotseat-selftest-2.json"
    assert newest_before(tmp_path, own) is None
    for number, name in enumerate(["hotseat-selftest-1.json", "hotseat-selftest-0.json"]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (number, number))
    (tmp_path / "other.json").touch()
    own.touch()
    assert newest_before(tmp_path, own) == tmp_path / "hotseat-selftest-0.json"


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (None, "invalid_request", "No such file"),
        (b"{", "invalid_request", "is no file of `hotseat selftest`"),
        (b"[]", "invalid_request", "is no file of `hotseat selftest`"),
        (b'{"selftest": 1}', "invalid_request", "is no file of `hotseat selftest`"),
        (
            msgspec.json.encode(structs.replace(REPORT, selftest=FORMAT + 1)),
            "version_mismatch",
            f"format {FORMAT + 1}, this hotseat reads up to {FORMAT}; upgrade",
        ),
    ],
)
def test_what_is_no_file_of_a_run_is_refused_with_its_name(tmp_path, data, code, text):
    path = tmp_path / "x.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(HotseatError, match=text) as caught:
        read_report(path)
    assert caught.value.code == code
    assert str(Path(path)) in caught.value.message


def test_file_of_a_newer_hotseat_with_more_fields_is_read(tmp_path):
    plain = msgspec.to_builtins(REPORT) | {
        "later": 1,
        "results": [msgspec.to_builtins(result("a"))],
    }
    plain["results"][0]["later"] = 2
    (tmp_path / "x.json").write_bytes(msgspec.json.encode(plain))
    assert read_report(tmp_path / "x.json").results == (result("a"),)
