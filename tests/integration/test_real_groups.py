"""Limits of real control groups as the daemon reads them; needs root and groups to write to."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.daemons.live_daemon import wait_for

from hotseat.protocol.control_groups import ProcessBounds
from hotseat.protocol.limits import MIB
from hotseat.protocol.memory_bounds import group_places

pytestmark = pytest.mark.needs_linux("makes control groups")

NAME = f"hotseat-test-{os.getpid()}"
LIMIT = 512 * MIB
READ = """
import os, sys
held = bytearray(int(sys.argv[1]))
if sys.argv[2]:
    with open(sys.argv[2], "wb") as file:
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        os.fsync(file)
from hotseat.supervisor.machine.memory import LinuxProbe
found = LinuxProbe().machine()
print(found.total_bytes, found.available_bytes, found.bound.name if found.bound else "-")
"""


def hierarchy():
    """Version and root of the hierarchy that limits memory here."""
    cgroup = Path("/proc/self/cgroup").read_text()
    places = group_places(cgroup, Path("/proc/self/mountinfo").read_text())
    if not places:
        pytest.skip("no control groups of memory are mounted")
    return places[0].version, Path(places[-1].folder)


@contextlib.contextmanager
def made(folder):
    """A group; skipped where none can be made."""
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        yield folder
    finally:
        folder.rmdir()


@pytest.fixture
def groups():
    """(outer, inner, file of the limit); memory is limited in the outer one alone."""
    version, root = hierarchy()
    name = "memory.limit_in_bytes" if version == 1 else "memory.max"
    with made(root / NAME) as outer:
        if not (outer / name).exists():
            pytest.skip("the hierarchy does not control memory")
        if version > 1:
            (outer / "cgroup.subtree_control").write_text("+memory")
        with made(outer / "inner") as inner:
            yield outer, inner, name


def read_inside(group, held_bytes=0, file=""):
    """What a process in the group reads while it holds memory and has written a file."""
    enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    command = ["sh", "-c", enter, str(group), sys.executable, "-c", READ, str(held_bytes), file]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    total, available, name = done.stdout.split(" ", 2)
    return int(total), int(available), name.strip()


def test_limit_of_a_real_parent_is_read_and_named(groups):
    outer, inner, name = groups
    (outer / name).write_text(str(LIMIT))
    total, available, bound = read_inside(inner)
    assert (total, bound) == (LIMIT, f"control group /{NAME}")
    assert LIMIT - 200 * MIB < available < LIMIT


def test_held_memory_is_gone_and_cache_is_not(groups, tmp_path):
    outer, inner, name = groups
    (outer / name).write_text(str(LIMIT))
    plain = read_inside(inner)[1]
    assert abs(plain - 100 * MIB - read_inside(inner, 100 * MIB)[1]) < 20 * MIB
    assert abs(plain - read_inside(inner, file=str(tmp_path / "weights"))[1]) < 30 * MIB


def test_group_without_a_limit_binds_nothing(groups):
    assert read_inside(groups[1])[2] == "-"
    assert not [b for b in ProcessBounds().bounds() if "hotseat-test" in b.name]


GROUND = """
import subprocess, sys
from pathlib import Path
from benchmarks.proof.ground import made
with made(Path(sys.argv[1]), ["hotseat-no-swap"], [1 << 20], [1.0]) as ground:
    inside = subprocess.Popen(ground.group.inside(["sleep", "600"]))
    print(ground.group.memory, inside.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_nothing_of_an_experiment_is_left_after_its_end(groups, tmp_path, end):
    """Promise: groups, processes in them and homes are gone, however it ends."""
    with subprocess.Popen(
        [sys.executable, "-c", GROUND, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        folder, pid = process.stdout.readline().split()
        wait_for(lambda: (Path(folder) / "cgroup.procs").read_text().split() == [pid], 10, "inside")
        assert list(tmp_path.iterdir())
        process.send_signal(end)
        process.wait()
    wait_for(lambda: not Path(folder).exists(), 20, "the group removed")
    wait_for(lambda: not Path("/proc", pid).exists(), 20, "the process gone")
    wait_for(lambda: not list(tmp_path.iterdir()), 20, "homes removed")


LIMITED = """
import subprocess, sys
from hotseat.cli.demo.limited import within
with within(int(sys.argv[1])) as begin:
    inside = subprocess.Popen([*begin, "sleep", "600"])
    print(inside.pid, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def limited_demo():
    """What `hotseat demo --limit` starts things with, and a process that was started so."""
    with subprocess.Popen(
        [sys.executable, "-c", LIMITED, str(LIMIT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process, process.stdout.readline().strip()


def test_limited_demo_leaves_no_group_after_ctrl_c_and_the_next_one_clears_after_a_kill(groups):
    """Promise: daemon and workers run under the limit, and nothing of the group stays."""
    root, file = groups[0].parent, groups[2]

    def is_gone(pid, folder):
        return not folder.exists() and not Path("/proc", pid).exists()

    with limited_demo() as (killed, orphan):
        left = root / f"hotseat-demo-{killed.pid}"
        wait_for(lambda: (left / "cgroup.procs").read_text().split() == [orphan], 10, "inside")
        assert int((left / file).read_text()) == LIMIT
        killed.kill()
        killed.wait()
    assert left.exists()
    with limited_demo() as (process, pid):
        wait_for(lambda: is_gone(orphan, left), 10, "the first one cleared")
        own = root / f"hotseat-demo-{process.pid}"
        wait_for(lambda: (own / "cgroup.procs").read_text().split() == [pid], 10, "inside")
        process.send_signal(signal.SIGINT)
        process.wait()
        wait_for(lambda: is_gone(pid, own), 20, "nothing left")
