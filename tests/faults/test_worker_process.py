"""The worker process shell: how it ends, and that it never outlives its supervisor.

The stub engine stands in for mlx; guards, link, signals and exit codes are the real ones.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.support.peers.worker_peer import WorkerPeer, fake_record, load, start
from tests.support.stub_worker import COMMAND
from tests.support.stub_worker.faults import METAL_ERROR, VARIABLE

from hotseat.protocol.exits import (
    EX_GPU,
    EX_INTERNAL,
    EX_OK,
    EX_ORPHAN,
    EX_OUT_OF_MEMORY,
    EX_USAGE,
    EX_WEIGHTS,
)
from hotseat.protocol.link_orders import Checkpoint, Known
from hotseat.protocol.link_reports import (
    Beat,
    BlockWritten,
    Checkpointed,
    Finished,
    Loaded,
    Lookup,
    Prefilled,
    Stopped,
    Unwired,
    WorkerHello,
)
from hotseat.worker.dying import GpuLostError, WeightsLostError
from hotseat.worker.process import exit_code_of

GONE_S = 2.0
OUT_OF_MEMORY = (
    "[METAL] Command buffer execution failed: Insufficient Memory "
    "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
)
SPAWNER = """
import subprocess, sys
child = subprocess.Popen(sys.argv[2:], pass_fds=[int(sys.argv[1])])
print(child.pid, flush=True)
sys.stdin.read()
"""


def faults(**switches: object) -> dict[str, str]:
    return {VARIABLE: json.dumps(switches)}


def seat(peer: WorkerPeer, tmp_path: Path) -> None:
    peer.wait_for(WorkerHello)
    peer.send(load(fake_record(), tmp_path / "kv"))
    peer.wait_for(Loaded)


def begin(peer: WorkerPeer, text: str = "hello", max_tokens: int | None = None) -> None:
    peer.send(start("r", text, max_tokens=max_tokens))
    lookup = peer.wait_for(Lookup)
    peer.send(Known(request=lookup.request, count=0))


# --- orphans ----------------------------------------------------------------------------------


def test_pipe_closed_while_idle_ends_the_worker(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path) as peer:
        seat(peer, tmp_path)
        peer.close_pipe()
        assert peer.wait_exit(GONE_S) == EX_ORPHAN


def test_pipe_closed_while_the_compute_thread_is_stuck_ends_the_worker(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path, env=faults(hang_at="load")) as peer:
        peer.wait_for(WorkerHello)
        peer.send(load(fake_record(), tmp_path / "kv"))
        peer.close_pipe()
        assert peer.wait_exit(GONE_S) == EX_ORPHAN


def test_pipe_closed_before_the_hello_ends_the_worker(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path, env=faults(hang_at="hello")) as peer:
        peer.close_pipe()
        assert peer.wait_exit(GONE_S) == EX_ORPHAN


class Spawned:
    """A worker whose parent is not this process, while this process keeps the pipe open."""

    def __init__(self, tmp_path: Path, env: dict[str, str]) -> None:
        reader, self._writer = os.pipe()
        os.write(self._writer, b"a" * 32)
        worker = [
            *COMMAND,
            "--link",
            str(tmp_path / "link.sock"),
            "--epoch",
            "1",
            "--token-fd",
            str(reader),
        ]
        self.parent = subprocess.Popen(
            [sys.executable, "-c", SPAWNER, str(reader), *worker],
            pass_fds=[reader],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | env,
        )
        os.close(reader)
        assert self.parent.stdout is not None
        self.worker = psutil.Process(int(self.parent.stdout.readline()))

    def close(self) -> None:
        # The worker first: it has inherited the pipes that `communicate` reads to their end.
        if self.worker.is_running():
            self.worker.kill()
        os.close(self._writer)
        self.parent.kill()
        self.parent.communicate()


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Spawned]:
    """A worker in which native code keeps the GIL: no Python thread can notice anything."""
    spawned = Spawned(tmp_path, faults(freeze_at="hello"))
    yield spawned
    spawned.close()


# Elsewhere the watchdog of the worker holds this promise; its tests run everywhere.
@pytest.mark.needs_linux("the parent-death signal")
def test_killed_parent_takes_a_frozen_worker_along(frozen: Spawned) -> None:
    while not frozen.worker.cpu_times().user:
        assert frozen.worker.is_running()
    wait_until_frozen(frozen.worker)
    # A pidfd tells of the end itself; who reaps the orphan, and when, is not the point.
    end = os.pidfd_open(frozen.worker.pid)
    try:
        frozen.parent.kill()
        frozen.parent.wait()
        assert select.select([end], [], [], GONE_S)[0]
    finally:
        os.close(end)


def wait_until_frozen(worker: psutil.Process) -> None:
    """Guards stand before the freeze, and the freeze is a sleep in C with one thread beside."""
    while worker.num_threads() < 2 or worker.status() != psutil.STATUS_SLEEPING:
        assert worker.is_running()


def test_watchdog_ends_a_worker_that_keeps_the_gil(tmp_path: Path) -> None:
    env = faults(freeze_at="load")
    with WorkerPeer(tmp_path, env=env, extra=["--watchdog-s", "0.5"]) as peer:
        peer.wait_for(WorkerHello)
        peer.send(load(fake_record(), tmp_path / "kv"))
        assert peer.wait_exit(10) == 1
        assert "Timeout" in peer.stderr()


def test_watchdog_spares_a_slow_honest_step(tmp_path: Path) -> None:
    env = faults(load_s=3.0)  # in ten steps
    with WorkerPeer(tmp_path, env=env, extra=["--watchdog-s", "2.0"]) as peer:
        seat(peer, tmp_path)
        assert peer.process.poll() is None


# --- secret and signals -----------------------------------------------------------------------


@pytest.mark.parametrize("secret", [b"", b"abc", b"z" * 32])
def test_pipe_without_a_secret_is_refused(tmp_path: Path, secret: bytes) -> None:
    with WorkerPeer(tmp_path, secret=secret) as peer:
        peer.close_pipe()
        assert peer.wait_exit() == EX_USAGE
        assert peer.stderr().startswith("worker: ")


def test_sigterm_while_idle_stops_in_order(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path) as peer:
        seat(peer, tmp_path)
        peer.process.send_signal(signal.SIGTERM)
        peer.wait_for(Stopped)
        assert peer.wait_exit() == 0
        assert peer.stderr() == ""


@pytest.mark.needs_linux("/proc tells which signals a process catches")
def test_sigterm_before_the_hello_stops_in_order(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path, env=faults(hello_s=0.5)) as peer:
        while signal.SIGTERM not in caught_signals(peer.process.pid):
            assert peer.process.poll() is None
        peer.process.send_signal(signal.SIGTERM)
        assert peer.wait_exit() == 0
    assert "Stopped" not in peer.kinds() or peer.kinds()[0] == "WorkerHello"


def caught_signals(pid: int) -> set[int]:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            mask = int(line.split()[1], 16)
            return {number for number in range(1, 65) if mask >> (number - 1) & 1}
    return set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_terminal_signals_are_ignored(tmp_path: Path, number: signal.Signals) -> None:
    with WorkerPeer(tmp_path) as peer:
        peer.wait_for(WorkerHello)
        peer.process.send_signal(number)
        peer.send(Checkpoint(swap=1))
        peer.wait_for(Checkpointed)
        assert peer.process.poll() is None


def test_files_of_the_worker_are_private(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path) as peer:
        seat(peer, tmp_path)
        begin(peer, "x" * 300, max_tokens=1)
        written = peer.wait_for(BlockWritten)
        assert (tmp_path / "kv" / written.file).stat().st_mode & 0o777 == 0o600


# --- defects ----------------------------------------------------------------------------------


def test_exception_out_of_the_engine_is_internal_with_its_traceback(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path, env=faults(raise_at="first_token")) as peer:
        seat(peer, tmp_path)
        begin(peer)
        assert peer.wait_exit() == EX_INTERNAL
        assert "KeyError" in peer.stderr()


@pytest.mark.parametrize("point", ["load", "first_token"])
def test_error_of_the_gpu_has_its_own_exit_code_and_is_not_waited_for(
    tmp_path: Path, point: str
) -> None:
    env = faults(raise_at=point, raise_kind="gpu", unwire_s=0.25)
    with WorkerPeer(tmp_path, env=env) as peer:
        peer.wait_for(WorkerHello)
        peer.send(load(fake_record(), tmp_path / "kv"))
        if point == "first_token":
            peer.wait_for(Loaded)
            begin(peer)
        assert peer.wait_exit() == EX_GPU
        assert METAL_ERROR in peer.stderr()
    assert not {"Broken", "Failed", "Unwired"} & set(peer.kinds())


@pytest.mark.parametrize("end", ["sigterm", "defect"])
def test_pages_are_given_back_on_every_other_way_out(tmp_path: Path, end: str) -> None:
    point = "first_token" if end == "defect" else ""
    with WorkerPeer(tmp_path, env=faults(unwire_s=0.25, raise_at=point)) as peer:
        seat(peer, tmp_path)
        if end == "sigterm":
            peer.process.send_signal(signal.SIGTERM)
            peer.wait_for(Stopped)
        else:
            begin(peer)
        assert peer.wait_for(Unwired).seconds == 0.25
        assert peer.wait_exit() == (EX_OK if end == "sigterm" else EX_INTERNAL)


def test_failed_allocation_has_its_own_exit_code(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path, env=faults(raise_at="load", raise_kind="memory")) as peer:
        peer.wait_for(WorkerHello)
        peer.send(load(fake_record(), tmp_path / "kv"))
        assert peer.wait_exit() == EX_OUT_OF_MEMORY


def test_reports_made_before_a_defect_are_delivered(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path, env=faults(raise_at="first_token")) as peer:
        seat(peer, tmp_path)
        begin(peer, "x" * 300)
        assert peer.wait_exit() == EX_INTERNAL
        assert peer.wait_for(BlockWritten).index == 0


def test_stuck_compute_thread_keeps_beating_with_the_same_step(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path, env=faults(hang_at="first_token")) as peer:
        seat(peer, tmp_path)
        begin(peer)
        peer.wait_for(Prefilled)
        before, step = -1, peer.wait_for(Beat).step
        while step != before:  # the step in which it hangs may just have begun
            before, step = step, peer.wait_for(Beat).step
        assert [peer.wait_for(Beat).step for _ in range(2)] == [step] * 2
        assert "Finished" not in peer.kinds()


def test_frames_of_another_epoch_change_nothing(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path) as peer:
        seat(peer, tmp_path)
        peer.send(start("old", "x"), epoch=7)
        begin(peer, max_tokens=1)
        assert peer.wait_for(Finished).request == "r"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), EX_OUT_OF_MEMORY),
        (RuntimeError("[metal::malloc] Attempting to allocate 99 bytes"), EX_OUT_OF_MEMORY),
        (RuntimeError(OUT_OF_MEMORY), EX_OUT_OF_MEMORY),
        (RuntimeError(METAL_ERROR), EX_GPU),
        (GpuLostError("whatever"), EX_GPU),
        (WeightsLostError("/m/w was changed while it was in use"), EX_WEIGHTS),
        (ValueError(METAL_ERROR), EX_INTERNAL),
        (RuntimeError("[broadcast_shapes] Shapes do not match"), EX_INTERNAL),
        (ValueError("out of memory"), EX_INTERNAL),
    ],
)
def test_exit_code_tells_memory_from_defects(error: Exception, code: int) -> None:
    assert exit_code_of(error) == code
