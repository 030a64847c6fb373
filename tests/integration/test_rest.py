"""A daemon that nobody uses wakes a few times a second, and still sees a worker that freezes."""

import os
import signal
import time

import psutil
import pytest
from tests.support.clocks.event_times import EventTimes
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.daemons.stub_home import QUIET, stub_daemon

SILENT_S = 0.8
SETTINGS = f"{QUIET}\n[stalls]\nsilent_s = {SILENT_S}\n[deadlines]\nterm_s = 0.2\n"
WAKES = 9.0
"""A second, at rest with a seated model and a standby; with clocks that never rest it is 20."""
WINDOW_S = 2.0


class Wakes:
    """How often a process went to sleep and woke, per second over the last window."""

    def __init__(self, pid):
        self._process = psutil.Process(pid)
        self._begin()

    def _begin(self):
        self._at, self._count = time.monotonic(), self._switches()

    def _switches(self):
        return self._process.num_ctx_switches().voluntary

    def are_few(self):
        passed_s = time.monotonic() - self._at
        if passed_s < WINDOW_S:
            return False
        rate = (self._switches() - self._count) / passed_s
        self._begin()
        return rate < WAKES


@pytest.fixture(scope="module")
def daemon():
    made = LiveDaemon(stub={}, settings=SETTINGS + '[seat]\nstandby = "on"\n')
    with stub_daemon("a", daemon=made) as running:
        with running.client() as client:
            client.swap("a")
            wait_for(lambda: client.status().standby.ready, what="standby")
        yield running


def wait_for_rest(daemon):
    wait_for(Wakes(daemon.process.pid).are_few, 40, "rest")


def test_daemon_that_nobody_uses_wakes_a_few_times_a_second(daemon):
    wait_for_rest(daemon)


def test_worker_at_rest_is_left_alone_although_it_beats_slowly(daemon):
    with daemon.client() as client:
        epoch = client.status().epoch
    wait_for_rest(daemon)
    wait_for_rest(daemon)
    with daemon.client() as client:
        assert client.status().epoch == epoch


def test_worker_that_freezes_at_rest_is_noticed(daemon):
    with daemon.client() as client:
        pid = client.status().worker.pid
    wait_for_rest(daemon)
    with EventTimes(daemon) as events:
        os.kill(pid, signal.SIGSTOP)
        _, event = events.wait("worker.stalled")
    assert event.facts["kind"] == "silent"
