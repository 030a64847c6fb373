"""Promise: a supervisor that is killed at any point is started again and goes on.

Its worker is gone within 2 s, the next start recovers, clients reconnect by themselves and each
of their requests ends once; status says what was undone.
"""

import contextlib
import json
import sqlite3
import time

import pytest
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.daemons.stub_home import QUIET, register, serves, tag_of, unfinished
from tests.support.daemons.watching import Background
from tests.support.faults.fault_home import FaultHome, outcome, workers_gone

from hotseat.protocol.tokens import pack_tokens, root_id

GONE_S = 2.0
START_S = {"slice": 5.0, "push": 2.0, "release": 2.0}
"""From the start of the process to its endpoint, interpreter and imports included."""
BUSY_START_S = 10.0
"""The same beside other rows."""
RECOVERY_S = 1.0
DRAFTS_MAY_STAY = True
CHECKPOINTS = {"slice": 2_000, "push": 10_000, "release": 10_000}


def through(row, story, point, runs):
    home = story.home
    before = len(home.recovery_s)
    with home.revived():
        for _ in range(runs):
            story.run(point)
    starts = home.recovery_s[before:]
    assert len(starts) >= runs, "the supervisor did not die"
    recovery = story.client.status().recovery
    assert recovery.after == "kill"
    assert recovery.phase
    row.record(home.worker, max(starts), BUSY_START_S, "s", runs=runs, what=f"start after {point}")
    row.record("none", recovery.seconds, RECOVERY_S, "s", runs=0, what="recovery")


@pytest.mark.timeout(7200)
def test_stub_supervisor_killed_at_a_point_goes_on(row, stub_story, supervisor_point):
    through(row, stub_story, supervisor_point, row.runs(push=8, slice=1, release=990))


@pytest.mark.beyond_slice
@pytest.mark.timeout(7200)
def test_real_supervisor_killed_at_a_point_goes_on(row, real_story, real_supervisor_point):
    through(row, real_story, real_supervisor_point, row.runs(push=2, release=1000))


@pytest.mark.alone
def test_worker_is_gone_within_two_seconds_of_its_supervisor(row):
    with FaultHome("stub") as home:
        client = home.client()
        runs = row.runs(push=10, slice=1, release=1000)
        worst = 0.0
        for _ in range(runs):
            client.swap("a")
            workers = home.workers()
            assert workers
            home.kill()
            worst = max(worst, workers_gone(workers, GONE_S + 3))
            home.start()
        row.record("stub", worst, GONE_S, "s", runs=runs, what="worker gone")


def test_swap_that_was_killed_is_named_by_the_next_start():
    with FaultHome("stub") as home:
        client = home.client()
        client.swap("a")
        with home.held("stop"):
            swap = Background(outcome, client.swap, "b")
            # The journal follows the seat: a kill before it is written leaves the request alone.
            wait_for(lambda: ("seat.phase_changed", "stopping") in journal(home.home))
            home.kill()
        with home.revived():
            swap.result()
        recovery = home.client().status().recovery
        assert recovery.after == "kill"
        assert any("swap a -> b in phase stopping" in step for step in recovery.undone), recovery


def journal(home):
    """Name and phase of every entry on disk."""
    with contextlib.closing(sqlite3.connect(home / "catalogue.sqlite")) as db:
        rows = db.execute("SELECT name, facts FROM journal").fetchall()
    return [(name, json.loads(facts).get("phase")) for name, facts in rows]


@pytest.mark.alone
def test_start_with_ten_thousand_checkpoints_recovers_within_a_second(row):
    count = CHECKPOINTS[row.counts]
    daemon = LiveDaemon(stub={}, settings=QUIET)
    register(daemon, "a")
    with daemon:
        client = daemon.client()
        assert serves(client, "a")
        done = client.generate("a", prompt="x", session="s", max_tokens=3).result()
        assert done.turn == 1
        assert daemon.stop() == 0
        fill(daemon.home, count)
        daemon.start()
        daemon.kill()
        began = time.monotonic()
        daemon.start()
        took = time.monotonic() - began
        fresh = daemon.client()
        assert fresh.status().recovery.seconds <= RECOVERY_S
        assert serves(fresh, "a")
    row.record("stub", took, START_S[row.counts], "s", what=f"start with {count:,} checkpoints")


def fill(home, count):
    """That many sessions with a tail and its file each, as a swap leaves them."""
    tag = tag_of("a")
    folder = home / "kv" / tag / "tails"
    folder.mkdir(parents=True, exist_ok=True)
    tokens = pack_tokens([7] * 20)
    with contextlib.closing(sqlite3.connect(home / "catalogue.sqlite")) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(sessions)")]
        found = db.execute("SELECT * FROM sessions LIMIT 1").fetchone()
        template = dict(zip(columns, found, strict=True))
        for number in range(count):
            (folder / f"f-{number}.kv").write_bytes(b"x")
            session = template | {"id": 10_000 + number, "name": f"s{number}-filled"}
            marks = ",".join("?" * len(columns))
            db.execute(f"INSERT INTO sessions VALUES ({marks})", [session[c] for c in columns])  # noqa: S608
            db.execute(
                "INSERT INTO tails (session, tag, parent, idx, tokens, hint, file, size_bytes,"
                " written_at) VALUES (?, ?, ?, 0, ?, ?, ?, 1, 0)",
                (10_000 + number, tag, root_id(tag), tokens, b"", f"tails/f-{number}.kv"),
            )
        db.commit()


def test_requests_of_a_client_that_never_comes_back_end_as_interrupted():
    with FaultHome("stub", settings="[limits]\nclaim_s = 0.5\n") as home:
        client = home.client()
        client.swap("a")
        stream = client.generate("a", prompt="x", max_tokens=5000, session="s")
        next(stream)
        home.kill()
        client.close()
        home.start()
        wait_for(lambda: home.client().status().recovery.kept_requests == 1, what="kept")
        wait_for(lambda: not unfinished(home.home), what="ended as interrupted")
