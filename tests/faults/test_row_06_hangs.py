"""Row 6: a worker that hangs is noticed, says where, and is replaced; an honest one is left alone.

Three kinds: the compute loop is stuck while beats go on; native code keeps the GIL; the process is
stopped from outside.
"""

import os
import signal
import time

import pytest
from tests.support.clocks.event_times import EventTimes
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import error_of, expected, serves, stub_daemon

pytestmark = pytest.mark.alone

BUDGET_S = 1.2
NOTICED_S = BUDGET_S + 1.0
SETTINGS = f"""
[stalls]
silent_s = {BUDGET_S}
quiet_s = {BUDGET_S}
token_s = {BUDGET_S}
[deadlines]
term_s = 0.2
kill_s = 2.0
back_off_s = 0.01
"""
KINDS = {
    "stuck": {"hang_at": "token_n"},
    "frozen": {"freeze_at": "token_n"},
    "stopped": {"slow_token_s": 0.05},
}
HONEST_S = 0.7
"""Of a long step: below the budget, above a beat."""


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    return tmp_path_factory.mktemp("once")


@pytest.fixture(scope="module")
def daemon(used):
    honest = {"slow_token_s": HONEST_S, "prefill_s": HONEST_S, "load_s": 0.7}
    models = {"honest": honest, "fast": {"slow_token_s": 0.05}}
    for kind in ("hang", "freeze"):
        for point in ("load", "warm"):
            fault = {f"{kind}_at": point, "once_file": str(used / f"{kind}-{point}")}
            models[f"{kind}-{point}"] = fault
    with stub_daemon(["a", *models], settings=SETTINGS, models=models) as running:
        yield running


@pytest.mark.parametrize("kind", KINDS)
def test_worker_that_hangs_in_decode_is_replaced_and_the_stream_goes_on(row, tmp_path, kind):
    for run in range(row.runs(push=10, slice=1, release=200)):
        fault = KINDS[kind] | {"once_file": str(tmp_path / f"{kind}-{run}")}
        with stub_daemon("a", settings=SETTINGS, **fault) as daemon, EventTimes(daemon) as events:
            client = daemon.client()
            stream = client.generate("a", prompt="tale", max_tokens=20)
            while stream.offset_tokens < 5:
                next(stream)
            if kind == "stopped":
                os.kill(client.status().worker.pid, signal.SIGSTOP)
            began = time.monotonic()
            at, event = events.wait("worker.stalled")
            row.record(value=at - began, limit=NOTICED_S, unit="s", what=f"{kind} noticed after")
            assert stream.result().tokens == expected("a", "tale", 20)
            assert event.facts["kind"] == ("still" if kind == "stuck" else "silent")
            if kind != "stopped":  # a stopped process writes nothing
                assert "stub_worker/faults.py" in daemon.stderr() or stacks_in_log(daemon)


def stacks_in_log(daemon):
    logs = (daemon.home / "logs").rglob("*")
    return any(
        "stub_worker/faults.py" in file.read_text(errors="replace")
        for file in logs
        if file.is_file()
    )


@pytest.mark.parametrize(
    ("kind", "point"),
    [
        ("hang", "load"),
        ("freeze", "warm"),
        pytest.param("hang", "warm", marks=pytest.mark.beyond_slice),
        pytest.param("freeze", "load", marks=pytest.mark.beyond_slice),
    ],
)
def test_worker_that_hangs_while_seating_fails_the_swap_with_its_stacks(
    row, daemon, client, used, kind, point
):
    for _ in range(row.runs(push=5, slice=1, release=100)):
        (used / f"{kind}-{point}").unlink(missing_ok=True)
        client.swap("a")
        with EventTimes(daemon) as events:
            error = error_of(client.swap, f"{kind}-{point}")
            (at, _), *_ = events.named("worker.stalled")
            phase = "loading" if point == "load" else "warming"
            began, _ = events.wait("seat.phase_changed", phase=phase)
        row.record(value=at - began, limit=NOTICED_S, unit="s", what=f"{point} noticed after")
        assert error.code == "model_unavailable"
        assert any("stub_worker/faults.py" in line for line in error.facts["stacks"])
        assert serves(client, "a"), "the way back"
        client.swap(f"{kind}-{point}")  # honest the second time; forgets the miss


def test_standby_that_hung_unseen_is_replaced_within_the_swap(row):
    settings = SETTINGS + '[seat]\nstandby = "on"\n'
    with stub_daemon("ab", settings=settings) as daemon, EventTimes(daemon) as events:
        client = daemon.client()
        for _ in range(row.runs(push=3, slice=1, release=50)):
            client.swap("a")
            wait_for(lambda: client.status().standby.ready, what="standby")
            os.kill(client.status().standby.pid, signal.SIGSTOP)
            began = time.monotonic()
            assert client.swap("b").to == "b"
            at, _ = events.wait("worker.stalled", since=began)
            row.record(value=at - began, limit=NOTICED_S, unit="s", what="standby noticed after")
            assert not events.named("swap.failed")


def test_long_honest_steps_are_left_alone(row, daemon, client):
    for _ in range(row.runs(push=3, slice=1, release=30)):
        client.swap("a")
        with EventTimes(daemon) as events:
            client.swap("honest")
            epoch = client.status().epoch
            done = client.generate("honest", prompt="x" * 30, max_tokens=2).result()
            assert done.tokens == expected("honest", "x" * 30, 2)
            assert client.status().epoch == epoch
            assert not events.named("worker.stalled")
        row.record()


def test_whole_tree_stopped_and_continued_blames_nobody(row, daemon, client):
    for _ in range(row.runs(push=5, slice=1, release=50)):
        client.swap("fast")
        with EventTimes(daemon) as events:
            epoch = client.status().epoch
            stream = client.generate("fast", prompt="tale", max_tokens=20)
            next(stream)
            tree = [daemon.process.pid, *(worker.pid for worker in daemon.workers())]
            for pid in tree:
                os.kill(pid, signal.SIGSTOP)
            stopped_at = time.monotonic()
            wait_for(lambda at=stopped_at: time.monotonic() > at + 3 * BUDGET_S, what="a while")
            for pid in tree:
                os.kill(pid, signal.SIGCONT)
            assert stream.result().tokens == expected("fast", "tale", 20)
            assert client.status().epoch == epoch
            assert not events.named("worker.stalled")
        row.record()
