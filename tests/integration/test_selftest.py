"""The real command at its smallest: every entry, one file that names nobody, nothing left over."""

import getpass
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.support.daemons.live_daemon import wait_for

from hotseat.cli.selftest.file import read_report
from hotseat.cli.selftest.rules.verdicts import RULES

END_S = 400.0
"""A machine that does much else."""


def environment(folder):
    """Temporary files in a folder of the test's own, short because sockets lie there."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HOTSEAT_")}
    return kept | {"TMPDIR": str(folder), "HOTSEAT_HOME": str(folder / "no-home")}


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("s")


def start(folder, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "hotseat.cli.main", "selftest", "--scale", "tiny", *words],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left_behind(folder):
    """Processes that work in a folder of this run, and the folder itself."""
    processes = []
    for process in psutil.process_iter(["environ", "cmdline"]):
        if str(folder) in " ".join((process.info["environ"] or {}).values()):
            processes.append(process.info["cmdline"])
    return processes + list(folder.glob("hsself*"))


@pytest.mark.timeout(END_S)
def test_whole_run_says_that_all_is_well_and_leaves_one_file(folder):
    process = start(folder, "--json")
    out, err = process.communicate(timeout=END_S)
    told = json.loads(out)
    report = read_report(Path(told["file"]))
    assert (process.returncode, told["good"]) == (0, True), err
    assert report.state == "finished"
    verdicts = {result.name: result.verdict for result in report.results}
    assert set(verdicts) == set(RULES) - {"churn"}
    assert set(verdicts.values()) <= {"ok", "slow", "not on this system", "skipped"}, err
    by_name = {result.name: result for result in report.results}
    for name in ("exactness", "kills", "memory", "footprint", "models", "memory limits"):
        assert verdicts[name] == "ok", by_name[name]
    if sys.platform != "darwin":
        assert verdicts["crash reports"] == "not on this system"
    disk = next(f for f in by_name["exactness"].figures if f.name == "restored_from_disk_tokens")
    assert min(disk.samples) > 0
    text = Path(told["file"]).read_text()
    assert re.findall(r"\S*/\S*", text) == []
    for name in {getpass.getuser(), socket.gethostname(), Path.home().name}:
        assert not re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", text), name
    assert "Story" not in text
    assert left_behind(folder) == []


@pytest.mark.timeout(END_S)
def test_interrupt_under_way_leaves_a_whole_file_and_nothing_running(folder):
    process = start(folder, "--soak", "1h", "--out", "own.json")
    own = folder / "own.json"

    def is_churning():
        assert process.poll() is None, process.stderr.read()
        results = read_report(own).results if own.exists() and own.stat().st_size else ()
        return results and results[-1].name == "churn" and results[-1].figures

    wait_for(is_churning, END_S, "a soak that tells how far it is")
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):  # people do not wait
        process.send_signal(number)
    out, err = process.communicate(timeout=END_S)
    report = read_report(own)
    assert process.returncode == 130
    assert out == ""
    assert "interrupted" in err
    assert str(own) in err
    assert report.state == "interrupted"
    assert [(one.name, one.verdict) for one in report.results][-1] == ("churn", "interrupted")
    assert report.results[-1].figures
    assert left_behind(folder) == []
