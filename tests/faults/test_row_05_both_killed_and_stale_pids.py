"""Promise: after supervisor and worker were both killed the next start works, and no stranger who
got one of their pids is ever signalled.
"""

import json
import os
import random
import signal
import subprocess
import sys

import psutil
import pytest
from tests.support.daemons.stub_home import serves
from tests.support.faults.fault_home import FaultHome

STRANGER = "import signal, sys\nfor n in range(1, 32):\n    try: signal.signal(n, lambda *a: sys.exit(9))\n    except OSError: pass\nprint(flush=True)\nsys.stdin.read()\n"  # noqa: E501


@pytest.fixture
def stranger():
    """A process that tells, by its end, that somebody signalled it."""
    child = subprocess.Popen(
        [sys.executable, "-c", STRANGER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    child.stdout.readline()
    yield child
    assert child.poll() is None, "a stranger was signalled"
    child.communicate(b"")
    assert child.returncode == 0


def leave_pid(home, pid):
    """Endpoint file and lock say what a dead daemon would have said, had it had this pid."""
    endpoint = home.home / "run" / "endpoint.json"
    told = json.loads(endpoint.read_bytes()) | {"pid": pid}
    endpoint.write_text(json.dumps(told))
    (home.home / "run" / "daemon.lock").write_text(json.dumps({"pid": pid, "since": 0.0}))
    note = {"pid": pid, "user": "root", "model": "a", "size_bytes": 1, "since": 0.0}
    home.seat_lock.write_text(json.dumps(note))


def test_both_killed_in_any_order_and_a_stranger_has_their_pid(row, stranger):
    runs = row.runs(push=100, slice=4, release=1000)
    chance = random.Random(5)
    with FaultHome("stub") as home:
        for _ in range(runs):
            client = home.client()
            assert serves(client, "a"), "the next start serves"
            victims = [psutil.Process(home.process.pid), *home.workers()]
            chance.shuffle(victims)
            for victim in victims:
                try:
                    os.kill(victim.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            home.process.wait()
            client.close()
            leave_pid(home, stranger.pid)
            home.start()
            assert home.client().status().recovery.after == "kill"
    row.record("stub", 0, 0, "strangers signalled", runs=runs)
