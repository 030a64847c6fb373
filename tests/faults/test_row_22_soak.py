"""Promise: under a fault every so often nothing that was promised breaks, and nothing grows.

Length and pace can be set for `make soak`: HOTSEAT_SOAK_S.
"""

import os
import random
import signal
import time

import psutil
import pytest
from tests.support.faults.fault_home import FaultHome, Story, audit
from tests.support.peers.raw_peer import RawPeer

from hotseat.protocol.failpoints import SUPERVISOR_SWAP_POINTS, WORKER_SWAP_POINTS
from hotseat.protocol.limits import MIB

SLICE_S, PUSH_S, RELEASE_S = 3.0, 300.0, 24 * 3600.0
FDS = 5
SLOPE_MIB_H = 1.0
SETTLING_S = 3600.0
"""A slope is only told from a run that is longer: allocators settle first."""


class Soak:
    """Faults by turns, each in the middle of the story; a dead daemon comes back."""

    def __init__(self, home, chance):
        self.home = home
        self.chance = chance
        self.story = Story(home, home.client())
        self.faults = [
            self.kill_worker_at_a_point,
            self.kill_supervisor_at_a_point,
            self.kill_worker,
            self.pause_everything,
            self.send_rubbish,
            self.nothing,
        ]

    def one(self):
        self.chance.choice(self.faults)()

    def kill_worker_at_a_point(self):
        self.story.run(self.chance.choice(WORKER_SWAP_POINTS))

    def kill_supervisor_at_a_point(self):
        self.story.run(self.chance.choice(SUPERVISOR_SWAP_POINTS))

    def kill_worker(self):
        def kill():
            for worker in self.home.workers():
                os.kill(worker.pid, signal.SIGKILL)

        self.story.run(None, kill)

    def pause_everything(self):
        def pause():
            tree = [psutil.Process(self.home.process.pid), *self.home.workers()]
            for number in (signal.SIGSTOP, signal.SIGCONT):
                for process in tree:
                    process.send_signal(number)

        self.story.run(None, pause)

    def send_rubbish(self):
        def send():
            with RawPeer(self.home.endpoint().requests) as peer:
                for _ in range(100):
                    peer.send(b"1", b"status", b"r", b"\xc1")

        self.story.run(None, send)

    def nothing(self):
        self.story.run(None)


def figures(home):
    process = psutil.Process(home.process.pid)
    return process.num_fds(), process.memory_info().rss / MIB


@pytest.mark.timeout(0)
def test_faults_every_so_often_break_nothing(row):
    length = float(os.environ.get("HOTSEAT_SOAK_S") or row.runs(PUSH_S, SLICE_S, RELEASE_S))
    worker = "stub" if row.counts == "slice" else "real"
    every_s = min(30.0, length / 10)
    chance = random.Random(22)
    with FaultHome(worker) as home:
        soak = Soak(home, chance)
        runs, began, deaths = 0, time.monotonic(), 0
        with home.revived():
            soak.one()
            first, since = figures(home), time.monotonic()
            while time.monotonic() - began < length:
                due = time.monotonic() + every_s
                soak.one()
                runs += 1
                if home.deaths != deaths:  # another process: its figures begin anew
                    deaths = home.deaths
                    first, since = figures(home), time.monotonic()
                while time.monotonic() < min(due, began + length):
                    soak.nothing()
        last, lasted = figures(home), time.monotonic() - since
        home.stop()
        files, _ = audit(home)
        assert files > 0
    row.record(worker, abs(last[0] - first[0]), FDS, "fds", runs=runs, what="daemon's fds +-")
    if lasted > SETTLING_S:
        slope = (last[1] - first[1]) / (lasted / 3600)
        row.record(worker, slope, SLOPE_MIB_H, "MiB/h", runs=0, what="daemon's memory")
