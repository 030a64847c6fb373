"""What a Mac would answer, from fakes: programs of the system, reports of crashes, a start anew."""

import os
import time

import msgspec
import pytest

from hotseat.cli.selftest.measures.machine import (
    count_crash_reports,
    describe_machine,
    look_back,
)
from hotseat.cli.selftest.measures.memory import read_memory
from hotseat.cli.selftest.rules.orders import CountCrashReports, LookBack, ReadMemory
from hotseat.cli.selftest.rules.results import Report, Result
from hotseat.cli.selftest.rules.verdicts import judge
from hotseat.protocol.limits import GIB
from hotseat.protocol.telemetry import MemoryPages
from hotseat.supervisor.machine.figures import MachineMemory

MAC = {
    "machdep.cpu.brand_string": "Apple M4 Pro",
    "hw.model": "Mac16,8",
    "-buildVersion": "25B78",
    "iogpu.wired_limit_mb": "0",
    "batt": "Now drawing from 'AC Power'\n -InternalBattery-0 (id=1)\t80%; charging",
    "-g": "System-wide power settings:\n lowpowermode         1\n sleep 1",
}


def facts(measured):
    return {fact.name: fact.value for fact in measured.facts}


def figures(measured):
    return {figure.name: figure.samples for figure in measured.figures}


def test_mac_is_described_by_its_own_programs(tmp_path):
    found = describe_machine(tmp_path, is_mac=True, run=lambda command: MAC[command[-1]])
    told = facts(found)
    assert (told["chip"], told["hardware"], told["build"]) == ("Apple M4 Pro", "Mac16,8", "25B78")
    assert (told["power"], told["low_power"], told["wired_limit_mb"]) == ("mains", "on", "0")
    assert found.absent == ()


@pytest.mark.parametrize(
    ("answer", "power"), [("Now drawing from 'Battery Power'", "battery"), ("", None)]
)
def test_mac_that_says_less_is_described_with_less(tmp_path, answer, power):
    found = describe_machine(
        tmp_path, is_mac=True, run=lambda command: answer if command[-1] == "batt" else ""
    )
    assert facts(found).get("power") == power
    assert "low_power" not in facts(found)


def test_elsewhere_each_question_of_macos_is_absent_with_a_reason(tmp_path):
    found = describe_machine(tmp_path, is_mac=False)
    assert {one.name for one in found.absent} >= {"build", "wired_limit_mb", "power"}
    assert all(one.reason for one in found.absent)
    assert figures(found)["disk_free_bytes"][0] > 0
    assert facts(found)["mlx"]
    assert list(tmp_path.iterdir()) == []


def put_report(folder, name, at, text="task python3.13 did it"):
    path = folder / name
    path.write_text(text)
    os.utime(path, (at, at))


def test_reports_are_counted_by_kind_and_time_when_they_name_python(tmp_path):
    began = time.time() - 100
    put_report(tmp_path, "panic-full-1.panic", began + 1)
    put_report(tmp_path, "panic-full-0.panic", began - 3600)
    put_report(tmp_path, "panic-old.panic", began - 30 * 24 * 3600)
    put_report(tmp_path, "panic-other.panic", began + 1, "task WindowServer")
    put_report(tmp_path, "Python-1.ips", began + 2, '{"app_name":"Python"}')
    put_report(tmp_path, "JetsamEvent-1.ips", began + 3)
    put_report(tmp_path, "python.txt", began + 3)
    found = count_crash_reports(
        CountCrashReports(began_at=began), is_mac=True, folders=[tmp_path, tmp_path / "missing"]
    )
    assert figures(found) == {
        "panic_reports_since_begin": (1,),
        "crash_reports_since_begin": (1,),
        "memory_end_reports_since_begin": (1,),
        "panic_reports_week_before": (1,),
        "crash_reports_week_before": (0,),
        "memory_end_reports_week_before": (0,),
    }
    assert judge("crash reports", found).verdict == "wrong"


def test_elsewhere_there_are_no_such_reports():
    found = count_crash_reports(CountCrashReports(began_at=0.0), is_mac=False)
    assert judge("crash reports", found).verdict == "not on this system"


def put_run(folder, state, heartbeat_at):
    soak = Result(name="churn", measures="", expected="", verdict="running")
    report = Report(
        hotseat="1",
        began_at="",
        scale="quick",
        state=state,
        heartbeat_at=heartbeat_at,
        results=(soak,),
    )
    (folder / "hotseat-selftest-1.json").write_bytes(msgspec.json.encode(report))


@pytest.mark.parametrize(
    ("state", "booted_at", "verdict", "reason"),
    [
        ("finished", 2000.0, "ok", ""),
        ("interrupted", 2000.0, "ok", ""),
        ("running", 500.0, "unknown", "the earlier run was ended before its time"),
        ("running", 2000.0, "wrong", "the machine started anew before the earlier run had ended"),
    ],
)
def test_run_that_never_ended_is_told_by_the_next(tmp_path, state, booted_at, verdict, reason):
    put_run(tmp_path, state, 1000.0)
    order = LookBack(folder=str(tmp_path), own="hotseat-selftest-2.json")
    found = look_back(order, is_mac=False, booted_at=booted_at)
    judged = judge("last run", found)
    assert (judged.verdict, judged.reason) == (verdict, reason)
    if state == "running":
        assert facts(found)["earlier_entry"] == "churn"


def test_panic_under_a_soak_is_named_by_the_next_run(tmp_path):
    put_run(tmp_path, "running", 1000.0)
    put_report(tmp_path, "panic-full-1.panic", 1500.0)
    put_report(tmp_path, "panic-full-0.panic", 900.0)
    order = LookBack(folder=str(tmp_path), own="x")
    found = look_back(order, is_mac=True, folders=[tmp_path], booted_at=1600.0)
    judged = judge("last run", found)
    assert judged.verdict == "wrong"
    assert judged.reason == "the system panicked under the earlier run, 1 reports"


@pytest.mark.parametrize("data", [None, b"{"])
def test_first_run_of_a_folder_has_nothing_to_look_back_at(tmp_path, data):
    if data is not None:
        (tmp_path / "hotseat-selftest-1.json").write_bytes(data)
    found = look_back(LookBack(folder=str(tmp_path), own="x"))
    assert facts(found) == {"earlier_run": "none"}
    assert judge("last run", found).verdict == "ok"


class MacProbe:
    def machine(self):
        pages = MemoryPages(
            free_bytes=GIB,
            active_bytes=2 * GIB,
            inactive_bytes=3 * GIB,
            speculative_bytes=0,
            wired_bytes=4 * GIB,
            compressed_bytes=GIB,
            anonymous_bytes=5 * GIB,
            file_backed_bytes=6 * GIB,
            purgeable_bytes=0,
        )
        return MachineMemory(
            total_bytes=24 * GIB,
            available_bytes=14 * GIB,
            wired_bytes=4 * GIB,
            pages=pages,
            pressure=1,
        )


def test_mac_tells_its_classes_of_pages_and_its_level():
    found = read_memory(ReadMemory(), MacProbe())
    told = figures(found)
    assert told["wired_bytes"] == (4 * GIB,)
    assert told["anonymous_bytes"] == (5 * GIB,)
    assert told["pressure_level"] == (1,)
    assert found.absent == ()
    assert judge("memory", found).verdict == "ok"


@pytest.mark.needs_linux("a system that has neither")
def test_linux_has_neither_and_says_so():
    found = read_memory(ReadMemory())
    assert {one.name for one in found.absent} == {"pages", "pressure_level"}
