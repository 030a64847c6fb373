"""Row 21: memory gets short: contexts go first, then the youngest request, then new work; never
the worker. Memory that does not come back is a named state with a way out, never a loop.
"""

import os
import time

import pytest
from tests.support.clocks.event_times import EventTimes
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.daemons.stub_home import error_of, expected, register, serves
from tests.support.peers.scripted_daemon import COMMAND, VARIABLE, write_memory

SETTINGS = """
[memory]
reserve_bytes = 1
[pressure]
step_s = 0.4
calm_s = 1.0
[deadlines]
reclaim_s = 0.6
back_off_s = 0.01
"""
SHED_S = 2.0
REFUSED_S = 1.0
GIB = 1 << 30


class Machine:
    """A daemon on a machine whose memory the test decides."""

    def __init__(self, base):
        self.file = base / "memory.json"
        self.set()
        os.environ[VARIABLE] = str(self.file)
        faults = {"slow_token_s": 0.02, "reply_tokens": 100_000}
        self.daemon = LiveDaemon(stub=faults, settings=SETTINGS)
        self.daemon.environment = self._environment(self.daemon.environment)
        self.daemon.command = COMMAND

    def _environment(self, plain):
        return lambda: plain() | {VARIABLE: str(self.file)}

    def set(self, **fields):
        write_memory(self.file, **fields)


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    register(made.daemon, "a", "b")
    with made.daemon:
        yield made


@pytest.fixture
def daemon(machine):
    return machine.daemon


def live(client):
    return client.status().sessions_live


def test_levels_up_and_down_shed_in_order_and_everything_goes_on(row, machine, client):
    for run in range(row.runs(push=3, slice=1, release=20)):
        for name in ("s1", "s2"):
            client.generate("a", prompt="x" * 300, session=f"{name}-{run}", max_tokens=3).result()
        old = client.generate("a", prompt="old", max_tokens=200)
        young = client.generate("a", prompt="young", max_tokens=120)
        with EventTimes(machine.daemon) as events:
            with machine.daemon.held("token"):  # neither ends by itself
                next(old)
                next(young)
                epoch = client.status().epoch
                began = time.monotonic()
                machine.set(level=2)
                at, _ = events.wait("memory.shed", step="contexts", since=began)
                row.record(value=at - began, limit=SHED_S, unit="s", what="contexts shed after")
                wait_for(lambda: client.status().memory.shedding == "warning", what="warning")
                wait_for(lambda: live(client) == 0, SHED_S, "no idle context in memory")
                events.wait("memory.shed", step="request", since=began)
                wait_for(lambda: client.status().queue.suspended == 1, what="youngest suspended")
                assert old.offset_tokens < 200
                waiting = client.generate("a", prompt="late", max_tokens=3)
                began = time.monotonic()
                machine.set(level=4)
                wait_for(lambda: client.status().memory.shedding == "critical", what="critical")
                error = error_of(client.generate("a", prompt="refused", max_tokens=3).result)
                row.record(
                    value=time.monotonic() - began, limit=REFUSED_S, unit="s", what="refused after"
                )
                assert error.code == "memory_pressure"
                wait_for(lambda: client.status().queue.running == 0, what="nothing runs")
            machine.set(level=1)
            assert old.result().tokens == expected("a", "old", 200)
            assert young.result().tokens == expected("a", "young", 120)
            assert waiting.result().tokens == expected("a", "late", 3)
            assert not events.named("worker.exited"), "nothing was killed"
            assert client.status().epoch == epoch
            wait_for(lambda: client.status().memory.shedding == "", what="calm again")
            more = client.generate("a", append="y", session=f"s1-{run}", max_tokens=2).result()
            assert more.usage.restored_tokens > 300, "what left memory was on disk, tail and all"


def test_footprint_over_the_plan_sheds_contexts(row, machine, client):
    client.generate("a", prompt="x", session="s", max_tokens=3).result()
    wait_for(lambda: live(client) == 1, what="a live context")
    began = time.monotonic()
    with EventTimes(machine.daemon) as events:
        machine.set(footprint=100 * GIB)
        at, _ = events.wait("memory.shed", since=began)
        wait_for(lambda: live(client) == 0, what="no idle context")
    row.record(value=at - began, limit=SHED_S, unit="s", what="footprint shed after")


def test_memory_that_does_not_come_back_is_named_and_smaller_models_still_load(
    row, machine, client
):
    register(machine.daemon, "big", weights_bytes=6 * GIB)
    for _ in range(row.runs(push=3, slice=1, release=20)):
        machine.set(available=8 * GIB, wired=0, footprint=0)  # all of the last run came back
        client.release()
        wait_for(lambda: client.status().memory.shedding == "", what="calm again")
        machine.set(available=8 * GIB, wired=2 * GIB, footprint=6 * GIB)
        client.swap("a")
        wait_for(
            lambda: (client.status().worker.footprint_bytes or 0) == 6 * GIB, 5, "footprint known"
        )
        machine.set(available=2 * GIB, wired=8 * GIB, footprint=6 * GIB)
        with EventTimes(machine.daemon) as events:
            error = error_of(client.swap, "big")
            assert error.code == "memory_stranded"
            assert "smaller" in error.message
            assert client.status().phase == "memory_stranded"
            refused = error_of(client.generate("big", prompt="x").result)
            assert refused.code in {"memory_pressure", "model_unfit"}
            stranded = events.named("seat.phase_changed", phase="memory_stranded")
            assert len(stranded) == 1, "no loop"
        machine.set(available=2 * GIB, wired=8 * GIB)  # its worker does not hold the six
        assert serves(client, "b"), "a model that fits into what is left"
        row.record()


def test_wired_pages_that_stay_are_told_of_and_the_next_model_loads(row, machine, client):
    machine.set(wired=2 * GIB, footprint=6 * GIB)
    client.swap("a")
    wait_for(lambda: (client.status().worker.footprint_bytes or 0) == 6 * GIB, 5, "footprint known")
    machine.set(wired=9 * GIB, footprint=6 * GIB)
    began = time.monotonic()
    report = client.swap("b")
    assert report.memory.wired_not_back_bytes == 6 * GIB
    assert report.phases.reclaim_s >= 0.3, "they were waited for, half the phase's time at most"
    assert serves(client, "b")
    row.record(value=time.monotonic() - began, limit=5.0, unit="s", what="next model seated after")


def test_what_others_wire_while_a_model_is_seated_fails_no_swap(row, machine, client):
    machine.set(wired=3 * GIB)
    client.swap("a")
    machine.set(wired=int(3.2 * GIB))  # a second display, a video call
    assert client.swap("b").memory.wired_not_back_bytes in {0, 10 << 20}
    row.record()


def test_wired_pages_of_others_under_an_empty_seat_hold_nothing_back(row, machine, client):
    machine.set(wired=2 * GIB)
    client.swap("a")
    client.release()
    machine.set(wired=9 * GIB)
    assert client.swap("a").to == "a"
    row.record()
