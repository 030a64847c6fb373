"""One daemon per home, one seat per machine; the kernel decides, across processes."""

import json
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.machine.locks import InstanceLock, SeatLock

_HOLD = """
import sys
from pathlib import Path
from hotseat.supervisor.machine.locks import InstanceLock, SeatLock
kind, path = sys.argv[1], Path(sys.argv[2])
if kind == "daemon":
    InstanceLock(path).acquire()
else:
    lock = SeatLock(path)
    lock.acquire("gemma", 123)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold(tmp_path):
    """Starts a process that holds a lock until it is killed."""
    started = []

    def start(kind, path):
        child = subprocess.Popen(
            [sys.executable, "-c", _HOLD, kind, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        assert child.stdout.readline() == "held\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


@pytest.fixture
def seat_path(tmp_path):
    return tmp_path / "seat.lock"


def test_second_daemon_is_told_the_pid_within_a_second(tmp_path, hold):
    path = tmp_path / "run" / "daemon.lock"
    path.parent.mkdir()
    child = hold("daemon", path)
    before = time.monotonic()
    with pytest.raises(HotseatError) as caught:
        InstanceLock(path).acquire()
    assert time.monotonic() - before < 1.0
    assert (caught.value.code, caught.value.facts["pid"]) == ("already_running", child.pid)
    assert str(tmp_path) in caught.value.message


def test_killed_daemon_leaves_no_lock_behind(tmp_path, hold):
    path = tmp_path / "daemon.lock"
    child = hold("daemon", path)
    child.kill()
    child.wait()
    lock = InstanceLock(path)
    lock.acquire()
    assert json.loads(path.read_bytes())["pid"] == os.getpid()
    lock.release()
    assert path.read_bytes() == b""
    lock.release()
    InstanceLock(path).acquire()


def test_daemon_that_wrote_nothing_yet_is_reported_without_pid(tmp_path, hold):
    path = tmp_path / "daemon.lock"
    hold("daemon", path)
    os.truncate(path, 0)
    with pytest.raises(HotseatError) as caught:
        InstanceLock(path).acquire()
    assert (caught.value.code, caught.value.facts["pid"]) == ("already_running", None)


def test_taken_seat_names_its_holder(seat_path, hold):
    child = hold("seat", seat_path)
    with pytest.raises(HotseatError) as caught:
        SeatLock(seat_path).acquire("llama", 5)
    facts = caught.value.facts
    assert caught.value.code == "seat_taken"
    assert (facts["pid"], facts["model"], facts["bytes"]) == (child.pid, "gemma", 123)
    assert facts["user"] in caught.value.message


def test_released_seat_can_be_taken_and_says_nothing(seat_path):
    lock = SeatLock(seat_path)
    lock.acquire("a", 1)
    lock.acquire("b", 2)
    assert json.loads(seat_path.read_bytes())["model"] == "b"
    assert lock.is_held
    lock.release()
    assert seat_path.read_bytes() == b""
    other = SeatLock(seat_path)
    other.acquire("c", 3)
    with pytest.raises(HotseatError):
        lock.acquire("d", 4)
    other.release()
    lock.acquire("d", 4)
    lock.close()
    lock.close()


def test_seat_stays_taken_while_an_orphaned_worker_lives(seat_path):
    lock = SeatLock(seat_path)
    worker = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        pass_fds=(lock.fileno(),),
    )
    lock.acquire("gemma", 9)
    lock.close()  # what the kernel does when the supervisor is killed
    with pytest.raises(HotseatError) as caught:
        SeatLock(seat_path).acquire("llama", 5)
    assert caught.value.facts["model"] == "gemma"
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    SeatLock(seat_path).acquire("llama", 5)


def test_other_children_do_not_keep_the_seat(seat_path):
    lock = SeatLock(seat_path)
    lock.acquire("gemma", 9)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lock.close()
    SeatLock(seat_path).acquire("llama", 5)
    child.communicate(b"\n")


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_seat_file_is_open_to_all_users(seat_path, umask):
    before = os.umask(umask)
    try:
        SeatLock(seat_path).fileno()
    finally:
        os.umask(before)
    assert stat.S_IMODE(seat_path.stat().st_mode) == 0o666


@pytest.mark.parametrize("trap", ["symlink", "dangling", "hardlink", "fifo", "folder"])
def test_planted_file_is_refused_untouched(tmp_path, seat_path, trap):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    match trap:
        case "symlink":
            seat_path.symlink_to(victim)
        case "dangling":
            seat_path.symlink_to(tmp_path / "none")
        case "hardlink":
            seat_path.hardlink_to(victim)
        case "fifo":
            os.mkfifo(seat_path)
        case _:
            seat_path.mkdir()
    with pytest.raises(HotseatError) as caught:
        SeatLock(seat_path).acquire("m", 1)
    assert (caught.value.code, caught.value.facts["lock"]) == ("invalid_config", str(seat_path))
    assert victim.read_text() == "precious"
    assert not (tmp_path / "none").exists()


def test_file_tidied_away_before_locking_is_made_again(seat_path):
    lock = SeatLock(seat_path)
    lock.fileno()
    seat_path.unlink()
    lock.acquire("m", 1)
    with pytest.raises(HotseatError, match="model m"):
        SeatLock(seat_path).acquire("n", 1)


def test_refresh_tells_that_the_file_was_replaced(seat_path):
    lock = SeatLock(seat_path)
    assert not lock.refresh()
    lock.acquire("m", 1)
    os.utime(seat_path, (0, 0))
    assert lock.refresh()
    assert seat_path.stat().st_mtime > 0
    seat_path.unlink()
    assert not lock.refresh()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff", b"x" * 100_000])
def test_unreadable_note_still_is_seat_taken(seat_path, hold, content):
    hold("seat", seat_path)
    seat_path.write_bytes(content)
    with pytest.raises(HotseatError) as caught:
        SeatLock(seat_path).acquire("n", 1)
    assert (caught.value.code, caught.value.facts["pid"]) == ("seat_taken", None)


def test_note_of_another_user_brings_no_control_characters(seat_path, hold):
    hold("seat", seat_path)
    note = {"pid": 1, "user": "\x1b[2Jroot", "model": "m\n", "size_bytes": 1, "since": 0.0}
    seat_path.write_text(json.dumps(note))
    with pytest.raises(HotseatError) as caught:
        SeatLock(seat_path).acquire("n", 1)
    assert (caught.value.facts["user"], caught.value.facts["model"]) == ("[2Jroot", "m")


def test_many_processes_after_one_seat_leave_one_holder(seat_path):
    script = """
import sys
from pathlib import Path
from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.machine.locks import SeatLock
sys.stdin.readline()
try:
    SeatLock(Path(sys.argv[1])).acquire("m", 1)
    print("held", flush=True)
except HotseatError as error:
    print(error.code, flush=True)
sys.stdin.read()
"""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(seat_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = [child.stdout.readline().strip() for child in children]
    for child in children:
        child.communicate()
    assert sorted(answers) == ["held", "seat_taken", "seat_taken", "seat_taken"]


# Without root the tests above still hold the seat against processes of one user.
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two other users")
def test_users_share_one_seat_in_a_sticky_folder():
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o1777)
    path = folder / "seat.lock"
    lock = SeatLock(path)
    try:
        first = take_seat_as(12345, path)
        assert first == "held 12345"
        assert path.stat().st_uid == 12345
        assert take_seat_as(23456, path) == "held 23456"
        lock.acquire("m", 1)
        assert take_seat_as(23456, path) == f"seat_taken {os.getpid()}"
    finally:
        lock.close()
        shutil.rmtree(folder)


def take_seat_as(uid, path):
    """Forked, not started: another user may not be allowed to read our interpreter."""
    ours, theirs = multiprocessing.Pipe()

    def attempt():
        os.setuid(uid)
        try:
            SeatLock(path).acquire("m", 1)
            theirs.send(f"held {os.geteuid()}")
        except HotseatError as error:
            theirs.send(f"{error.code} {error.facts.get('pid')}")

    child = multiprocessing.get_context("fork").Process(target=attempt)
    child.start()
    answer = ours.recv()
    child.join()
    return answer
