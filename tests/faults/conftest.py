"""Counts, figures and leaks of the fault rows; prints the table of rows at the end of a run.

A file `test_row_NN_*.py` is row NN. `row.runs()` says how often a fault is to be made under the
chosen counts, `row.record()` keeps what was measured. Nothing a row started may outlive its test.
"""

import json
import os
import re
import uuid
from pathlib import Path
from typing import Literal

import psutil
import pytest
from tests.support.daemons.live_daemon import wait_for
from tests.support.faults.fault_home import FaultHome, Story, audit

from hotseat.protocol.failpoints import SUPERVISOR_SWAP_POINTS, WORKER_SWAP_POINTS

COUNTS = ("slice", "push", "release")
MARK = "PYTHON_FAULT_MARK"
"""Handed down by the daemon to its workers, which get few variables but all `PYTHON*`."""
PROPERTY = "fault"
FIGURES = "HOTSEAT_FAULT_FIGURES"
"""File that several runs add their figures to."""
FD_SLACK = 2
SLICE_SLACK = 5
"""Limits of seconds are so much wider in a slice: it runs on any machine, once, beside whatever
else is there, and judges what happens. How fast it happens is judged under the other counts.
"""
GONE_S = 5.0
TITLES = {
    1: "SIGKILL worker at swap points",
    2: "worker ends by signal, exit, limit",
    3: "SIGKILL worker idle, prefill, decode",
    4: "SIGKILL supervisor at each point",
    5: "both killed, stale and reused pid",
    6: "hangs",
    7: "worker ignores SIGTERM, double-forks",
    8: "crash loop, bad model",
    9: "second daemon, second home",
    10: "SIGTERM in every state",
    11: "malformed input",
    12: "fuzzing of frames and block headers",
    13: "stopped readers",
    14: "client vanishes",
    15: "duplicate, reordered, replayed requests",
    16: "forged token, guessed id, other uid",
    17: "disk full, EIO, short write",
    18: "power loss: all crash states",
    19: "corruption",
    20: "foreign checkpoints",
    21: "memory pressure",
    22: "soak",
    23: "what models say",
    24: "the GPU fails",
}


def pytest_addoption(parser):
    parser.addoption(
        "--fault-counts",
        choices=COUNTS,
        default="slice",
        help="how often each fault is made: slice (default), push or release",
    )
    parser.addoption(
        "--fault-table-later",
        action="store_true",
        help=f"only add to the file {FIGURES}; a later run prints the table",
    )


SLICE_POINTS = {
    "worker_point": ("worker.takes.Suspend", "worker.tells.TailWritten", "worker.tells.Loaded"),
    "real_worker_point": ("worker.tells.Checkpointed",),
    "supervisor_point": ("seat.checkpointing", "tail.committed", "swap.stored"),
}
"""What the default counts take of the named points of a swap."""


def pytest_generate_tests(metafunc):
    """All named points of a swap, or a few of them where only a slice is run."""
    counts = metafunc.config.getoption("--fault-counts", default="slice")
    if "real_supervisor_point" in metafunc.fixturenames:
        metafunc.parametrize("real_supervisor_point", SUPERVISOR_SWAP_POINTS)
    for name, few in SLICE_POINTS.items():
        if name in metafunc.fixturenames:
            every = WORKER_SWAP_POINTS if "worker" in name else SUPERVISOR_SWAP_POINTS
            metafunc.parametrize(name, few if counts == "slice" else every)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Leaves out of a slice what takes long and has a cheaper relative in it.

    Rows have limits of time: in the default suite they run by themselves, after the others. With
    more counts only those do whose limits leave no room for a neighbour.
    """
    if config.getoption("--fault-counts", default="slice") != "slice":
        # The longest test first: at the end the others would wait for it.
        items.sort(key=lambda item: "test_row_22" not in item.nodeid)
        return
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.alone)
    beyond = [item for item in items if item.get_closest_marker("beyond_slice")]
    if beyond:
        config.hook.pytest_deselected(items=beyond)
        items[:] = [item for item in items if item not in beyond]


class Row:
    """One test of a row: its counts and what it measured."""

    def __init__(self, number, counts, keep):
        self.number = number
        self.counts = counts
        self._keep = keep

    def runs(self, push=15, slice=3, release=1000):  # noqa: A002 - the name of the counts
        """How often to make the fault."""
        return {"slice": slice, "push": push, "release": release}[self.counts]

    def record(
        self,
        worker: Literal["stub", "real", "none"] = "stub",
        value: float | None = None,
        limit: float | None = None,
        unit: str = "",
        runs: int = 1,
        what: str = "",
    ):
        """Counts `runs` of a kind of worker; a `value` above its `limit` fails the test."""
        if limit is not None and unit == "s" and self.counts == "slice":
            limit *= SLICE_SLACK
        kept = {"row": self.number, "worker": worker, "runs": runs, "unit": unit, "what": what}
        kept |= {} if value is None else {"value": value}
        kept |= {} if limit is None else {"limit": limit}
        self._keep(kept)
        if value is not None and limit is not None:
            assert value <= limit, f"row {self.number}: {what} {value:.3f} > {limit} {unit}"


@pytest.fixture
def row(request):
    found = re.match(r"test_row_(\d\d)_", request.path.name)
    assert found is not None, "the fixture `row` is for tests/faults/test_row_NN_*.py"
    counts = request.config.getoption("--fault-counts", default="slice")
    properties = request.node.user_properties
    return Row(int(found.group(1)), counts, lambda kept: properties.append((PROPERTY, kept)))


@pytest.fixture
def client(daemon):
    """Of the `daemon` that the file has."""
    with daemon.client() as made:
        yield made


@pytest.fixture(scope="module")
def stub_story(request):
    yield from story("stub", request.module)


@pytest.fixture(scope="module")
def real_story(request):
    yield from story("real", request.module)


def story(worker, module):
    """One home for all tests of a file, looked through when they are over."""
    with FaultHome(worker) as home:
        yield Story(home, home.client())
        home.stop()
        files, drafts = audit(home)
        assert files > 0
        if not getattr(module, "DRAFTS_MAY_STAY", False):
            assert drafts == [], "what a dead worker had begun to write lies there still"


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch):
    """No process that the test started lives on, none waits to be reaped, no fd stays open."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)
    own = psutil.Process()
    before = own.num_fds()
    others = {child.pid for child in own.children()}
    yield
    wait_for(lambda: not marked(mark), GONE_S, "the end of every process of the test")
    born = [child for child in own.children() if child.pid not in others]
    zombies = [child for child in born if child.status() == psutil.STATUS_ZOMBIE]
    assert not zombies, f"not reaped: {zombies}"
    assert own.num_fds() <= before + FD_SLACK, f"{before} fds before, {own.num_fds()} after"


def marked(mark):
    """Processes other than this one that carry the mark in their environment."""
    needle = f"{MARK}={mark}".encode()
    return [pid for pid in psutil.pids() if pid != os.getpid() and needle in _environ(pid)]


def _environ(pid):
    try:
        if psutil.MACOS:
            return repr(psutil.Process(pid).environ()).encode()
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - no cheaper way
            return file.read()
    except (OSError, psutil.Error):
        return b""


# --- the table ------------------------------------------------------------------------------------


def pytest_terminal_summary(terminalreporter, config):
    counts = config.getoption("--fault-counts", default="slice")
    # A process of xdist sums up too; what it has goes to the one that started it.
    if counts == "slice" or hasattr(config, "workerinput"):
        return
    rows, failed, seconds = {}, set(), {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            found = re.search(r"test_row_(\d\d)_", report.nodeid)
            if found is None:
                continue
            number = int(found.group(1))
            kept = rows.setdefault(number, [])
            if outcome != "passed":
                failed.add(number)
            seconds[number] = seconds.get(number, 0.0) + getattr(report, "duration", 0.0)
            if getattr(report, "when", "") == "call":
                kept += [value for name, value in report.user_properties if name == PROPERTY]
    add_figures_before(rows, failed, seconds)
    if config.getoption("--fault-table-later", default=False):
        return
    terminalreporter.section(f"fault rows, {counts} counts")
    for line in table(rows, failed, seconds):
        terminalreporter.write_line(line)


def add_figures_before(rows, failed, seconds):
    """Reads the file that runs of one `make faults` share, and writes it with these added."""
    name = os.environ.get(FIGURES)
    if not name:
        return
    file = Path(name)
    if file.exists():
        kept = json.loads(file.read_text())
        for number, found in kept["rows"].items():
            rows[int(number)] = found + rows.get(int(number), [])
        for number, took_s in kept.get("seconds", {}).items():
            seconds[int(number)] = took_s + seconds.get(int(number), 0.0)
        failed |= set(kept["failed"])
    kept = {"rows": rows, "failed": sorted(failed), "seconds": seconds}
    file.write_text(json.dumps(kept))


def table(rows, failed, seconds):
    """Lines of the table: row, real, stub and other runs, seconds, worst case, verdict."""
    columns = f"{'real':>7} {'stub':>7} {'other':>7} {'took':>6}  {'worst case':<50} verdict"
    yield f"{'row':>3} {'fault':<40} {columns}"
    for number in sorted(rows):
        kept = rows[number]
        runs = {
            worker: sum(entry["runs"] for entry in kept if entry["worker"] == worker)
            for worker in ("real", "stub", "none")
        }
        verdict = "FAILED" if number in failed else "held"
        yield (
            f"{number:>3} {TITLES.get(number, ''):<40} {runs['real']:>7} {runs['stub']:>7}"
            f" {runs['none']:>7} {seconds[number]:>4.0f} s  {worst(kept):<50} {verdict}"
        )
    missing = sorted(set(TITLES) - set(rows))
    if missing:
        yield f"not run: {', '.join(map(str, missing))}"


def worst(kept):
    """The figure that comes nearest to its limit."""
    told = [entry for entry in kept if "value" in entry]
    if not told:
        return "-"
    top = max(told, key=_share)
    limit = f" of {top['limit']:g}" if "limit" in top else ""
    return f"{top['what']} {top['value']:.4g}{limit} {top['unit']}".strip()


def _share(entry):
    limit = entry.get("limit", 0)
    return entry["value"] / limit if limit else float(entry["value"] > 0)
