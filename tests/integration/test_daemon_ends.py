"""How a daemon ends, and what keeps two of them apart: locks, signals, nothing left behind."""

import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.daemons.stub_home import (
    QUIET,
    WEIGHTS,
    error_of,
    expected,
    register,
    serves,
    stub_daemon,
)
from tests.support.daemons.watching import Background, lives

from hotseat.protocol.replies import Accepted

POINTS = {
    "starting": "hello",
    "loading": "load",
    "warming": "warm",
    "checkpointing": "checkpoint",
    "stopping": "stop",
}
LEAVING = ("checkpointing", "stopping")
SHORT = """
[deadlines]
exit_drain_s = 0.3
stop_s = 1.0
term_s = 0.5
kill_s = 2.0
"""
ENDS_S = 15.0
"""The whole ladder of SHORT takes 3.8 s; a busy machine needs more, a deadline that is not kept to
much more."""
STOPPING = "[deadlines]\nstop_s = 60\n"
"""A stop that lasts as long as its worker is held there."""


def end(daemon):
    """SIGTERM; nothing may be left of the daemon or its workers."""
    children = psutil.Process(daemon.process.pid).children(recursive=True)
    began = time.monotonic()
    assert daemon.stop() == 0
    took_s = time.monotonic() - began
    assert took_s < ENDS_S
    assert not [child for child in children if child.is_running()], "a child is left"
    assert not (daemon.home / "run" / "endpoint.json").exists()
    assert "Traceback" not in daemon.stderr()
    assert "task.failed" not in daemon.stderr()


@pytest.mark.parametrize("phase", POINTS)
def test_sigterm_in_any_phase_of_a_swap_ends_with_0_and_no_child_left(phase):
    takes_long = {"checkpoint_s": 1.0, "stop_s": 0.5}
    models = {"a": takes_long if phase in LEAVING else {}}
    with stub_daemon("ab", settings=SHORT, models=models) as daemon, ExitStack() as holds:
        client = daemon.client()
        done = client.generate("a", prompt="x" * 300, session="s").result()
        holds.enter_context(daemon.held(POINTS[phase]))
        swap = Background(client.swap, "b")
        wait_for(lambda: client.status().phase == phase, what=phase)
        waiting = client.generate("b", prompt="late")
        assert isinstance(waiting.next_event(), Accepted)
        daemon.process.send_signal(signal.SIGTERM)
        if phase in LEAVING:
            holds.close()  # what has contexts is waited for
        end(daemon)
        holds.close()
        assert swap.error().code == "shutting_down"
        assert error_of(waiting.result).code == "shutting_down"
        daemon.start()
        view = daemon.client().session("a", "s")
        assert (view.turn, view.durable_tokens) == (1, view.tokens)
        more = daemon.client().generate("a", append="y", session="s").result()
        assert more.usage.restored_tokens >= done.usage.prompt_tokens


@pytest.mark.parametrize("phase", ["empty", "ready", "draining", "failed", "decoding"])
def test_sigterm_between_swaps_ends_with_0_and_no_child_left(phase):
    models = {"a": {"slow_token_s": 0.01, "reply_tokens": 10_000}, "b": {"die_at": "start"}}
    with stub_daemon("ab", settings=SHORT, models=models) as daemon, ExitStack() as holds:
        client = daemon.client()
        if phase == "failed":
            assert error_of(client.generate("b", prompt="x").result).code == "poison_request"
        elif phase != "empty":
            stream = client.generate("a", prompt="x", session="s", max_tokens=150)
            holds.enter_context(daemon.held("token"))
            next(stream)
        if phase == "ready":
            stream.cancel()
            assert stream.result().turn == 1
        if phase == "draining":
            swap = Background(client.swap, "b")
            wait_for(lambda: client.status().phase == "draining", what="draining")
        end(daemon)
        if phase == "draining":
            assert swap.error().code == "shutting_down"
        if phase in ("draining", "decoding"):
            holds.close()
            daemon.start()
            assert stream.result().tokens == expected("a", "x", 150), "it was suspended"


def test_second_sigterm_and_shutdown_over_the_wire_are_one_stop():
    with stub_daemon("a", settings=SHORT, stop_s=0.3) as daemon:
        client = daemon.client()
        client.swap("a")
        client.shutdown()
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(30) == 0
        assert "Traceback" not in daemon.stderr()


def test_requests_during_a_stop_are_told_so():
    with stub_daemon("a", settings=STOPPING) as daemon:
        client = daemon.client()
        client.swap("a")
        with daemon.held("stop"):
            client.shutdown()
            for call in (client.generate("a", prompt="x").result, lambda: client.swap("a")):
                assert error_of(call).code == "shutting_down"
            assert client.status().phase in ("draining", "checkpointing", "stopping")
        assert daemon.process.wait(30) == 0


# --- two daemons --------------------------------------------------------------------------------


def second_daemon(daemon):
    return subprocess.run(
        [sys.executable, "-m", "hotseat.supervisor"],
        env=daemon.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.alone
def test_second_daemon_on_the_same_home_exits_at_once_naming_the_first():
    with stub_daemon("a") as daemon:
        client = daemon.client()
        client.swap("a")
        used = psutil.Process().children  # warms what the measurement needs
        used()
        began = time.monotonic()
        ended = second_daemon(daemon)
        took_s = time.monotonic() - began
        assert ended.returncode == 6
        assert str(daemon.process.pid) in ended.stderr
        assert "Traceback" not in ended.stderr
        # Most of it is the interpreter's start: that has to come on top.
        bare = time.monotonic()
        subprocess.run([sys.executable, "-c", "import hotseat.supervisor.daemon.serve"], check=True)
        assert took_s < 1.0 + (time.monotonic() - bare)
        assert serves(client, "a"), "nobody is lost"
        assert daemon.endpoint().pid == daemon.process.pid


def test_home_of_a_killed_daemon_is_taken_over_at_once():
    with stub_daemon("a") as daemon:
        assert serves(daemon.client(), "a")
        daemon.kill()
        daemon.start()
        assert serves(daemon.client(), "a"), "the orphan of the killed daemon kept the seat"


@pytest.fixture
def two(tmp_path):
    """Two homes on one machine: one seat."""
    first = LiveDaemon(stub={}, settings=QUIET)
    second = LiveDaemon(stub={}, settings=QUIET, seat_lock=first.seat_lock)
    for daemon in (first, second):
        register(daemon, "a", "b")
    with first, second:
        yield first, second


def test_two_homes_have_one_seat_and_the_second_is_told_who_holds_it(two):
    first, second = two
    holder, other = first.client(), second.client()
    holder.swap("a")
    for call in (lambda: other.swap("b"), other.generate("b", prompt="x").result):
        error = error_of(call)
        assert error.code == "seat_taken"
        assert error.facts["pid"] == first.process.pid
        assert error.facts["model"] == "a"
        assert error.facts["bytes"] == WEIGHTS
        assert error.facts["user"] == psutil.Process().username()
    assert not second.workers()
    assert other.status().phase == "empty"
    assert serves(holder, "a"), "nobody is lost"
    assert first.stop() == 0
    assert serves(other, "b"), "the seat is free again"


def test_two_homes_that_ask_at_the_same_moment_never_have_two_workers(two):
    most = 0
    clients = [daemon.client() for daemon in two]
    asked = [Background(client.swap, "a") for client in clients]
    while not all(swap.is_over for swap in asked):
        most = max(most, sum(len(daemon.workers()) for daemon in two))
    ends = []
    for swap in asked:
        try:
            ends.append(swap.result().to)
        except Exception as error:  # noqa: BLE001 - compared below
            ends.append(error.code)
    assert sorted(ends) == ["a", "seat_taken"]
    assert most <= 1


def test_seat_is_free_after_the_holder_was_killed(two):
    first, second = two
    first.client().swap("a")
    workers = first.workers()
    first.kill()
    wait_for(lambda: not any(lives(worker) for worker in workers), what="orphan gone")
    assert serves(second.client(), "b")


def test_endpoint_file_is_for_this_user_only_and_names_the_daemon():
    with stub_daemon("a") as daemon:
        path = daemon.home / "run" / "endpoint.json"
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        facts = json.loads(path.read_bytes())
        assert facts["pid"] == daemon.process.pid
        socket = facts["requests"].removeprefix("ipc://")
        assert Path(socket).stat().st_mode & 0o777 == 0o600
