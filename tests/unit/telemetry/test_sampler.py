"""The sampler's rhythm and ring, with a real thread and made-up samples."""

import threading

import pytest
from tests.support.daemons.live_daemon import wait_for

from hotseat.protocol.telemetry import Sample
from hotseat.supervisor.telemetry import sampler as module
from hotseat.supervisor.telemetry.sampler import Sampler

PATIENCE_S = 4.0
"""A resting sampler takes its next sample after five seconds."""


class Daemon:
    """What a sampler asks; `works` is set by the tests."""

    def __init__(self):
        self.works = False
        self.taken = []
        self.fails = False

    def take(self, now):
        if self.fails:
            self.fails = False
            raise OSError("gone")
        return Sample(at=now, phase="ready")


@pytest.fixture
def daemon():
    return Daemon()


@pytest.fixture
def sampler(daemon):
    made = Sampler(daemon.take, lambda: daemon.works, daemon.taken.append)
    made.start()
    wait_for(lambda: daemon.taken, what="first sample")
    yield made
    made.close()


def test_resting_daemon_is_sampled_every_five_seconds(daemon, sampler):
    assert not threading.Event().wait(0.7)
    assert len(daemon.taken) == 1


def test_nudge_makes_a_resting_sampler_look_at_once(daemon, sampler):
    daemon.works = True
    sampler.nudge()
    wait_for(lambda: len(daemon.taken) >= 4, PATIENCE_S, "pace of work")


def test_watcher_makes_it_fast_until_he_leaves(daemon, sampler):
    sampler.watch()
    wait_for(lambda: len(daemon.taken) >= 4, PATIENCE_S, "pace for watchers")
    sampler.unwatch()
    wait_for(lambda: sampler._is_slow, PATIENCE_S, "rest")


def test_reading_that_fails_does_not_end_the_sampling(daemon, sampler):
    daemon.fails = True
    sampler.watch()
    wait_for(
        lambda: not daemon.fails and len(daemon.taken) >= 3,
        PATIENCE_S,
        "samples behind the failure",
    )


def test_ring_keeps_the_newest(daemon, monkeypatch):
    monkeypatch.setattr(module, "RING", 2)
    sampler = Sampler(daemon.take, lambda: False, daemon.taken.append)
    for _ in range(3):
        sampler._sample()
    assert sampler.kept(10) == daemon.taken[-2:]
    assert sampler.kept(1) == daemon.taken[-1:]
    assert sampler.kept(0) == []
