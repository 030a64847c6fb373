"""Row 7: a worker that ignores SIGTERM, or left a process behind by forking twice, is gone at the
deadline and not much later or earlier.
"""

import time

import psutil
import pytest
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import serves, stub_daemon

from hotseat.supervisor.machine.leftover_processes import VARIABLE

pytestmark = pytest.mark.alone

STOP_S, TERM_S = 0.4, 0.4
SLACK_S = 0.5
SETTINGS = f"""
[deadlines]
stop_s = {STOP_S}
term_s = {TERM_S}
kill_s = 2.0
"""


def kin(daemon):
    """Pids of everything that came from this daemon's workers, wherever it went."""
    found = []
    for process in psutil.process_iter():
        try:
            environ = process.environ()
            if VARIABLE in environ and environ.get("HOTSEAT_HOME") == str(daemon.home):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("forks", [False, True])
def test_worker_that_ignores_every_word_is_gone_at_the_deadline(row, forks):
    settings = {"ignore_stop": True, "ignore_sigterm": True, "double_fork": forks}
    with (
        stub_daemon("ab", settings=SETTINGS, **settings) as daemon,
        daemon.client() as client,
    ):
        client.swap("a")
        for run in range(row.runs(push=10, slice=1, release=200)):
            old = set(kin(daemon))
            assert len(old) == 1 + forks
            report = client.swap("ba"[run % 2])
            off_s = abs(report.phases.stop_s - STOP_S - TERM_S)
            row.record(value=off_s, limit=SLACK_S, unit="s", what="off the deadline")
            assert not old & set(kin(daemon))


def test_what_a_killed_worker_left_behind_is_ended_before_the_next_one_starts(row):
    with (
        stub_daemon("a", settings=SETTINGS, double_fork=True) as daemon,
        daemon.client() as client,
    ):
        client.swap("a")
        for _ in range(row.runs(push=5, slice=1, release=100)):
            old, epoch = set(kin(daemon)), client.status().epoch
            pid = client.status().worker.pid
            began = time.monotonic()
            psutil.Process(pid).kill()
            wait_for(lambda: client.status().epoch > epoch, what="the next worker")  # noqa: B023
            row.record(value=time.monotonic() - began, limit=SLACK_S, unit="s", what="kin gone")
            assert not old & set(kin(daemon))
            client.generate("a", prompt="x", max_tokens=2).result()  # progress: no crash loop


def test_what_both_killed_left_behind_is_ended_by_the_next_daemon(row):
    for _ in range(row.runs(push=3, slice=1, release=50)):
        with stub_daemon("a", settings=SETTINGS, double_fork=True) as daemon:
            with daemon.client() as client:
                client.swap("a")
            left = set(kin(daemon))
            for worker in daemon.workers():
                worker.kill()
            daemon.kill()
            daemon.start()
            assert not left & set(kin(daemon))
            with daemon.client() as client:
                assert serves(client, "a")
            row.record()
