"""Promise: one daemon per home and one seat per machine; whoever comes second is told who is first,
and the first notices nothing.
"""

import subprocess
import sys
import time

import pytest
from tests.support.daemons.live_daemon import LiveDaemon
from tests.support.daemons.stub_home import QUIET, error_of, expected, register, serves, stub_daemon

pytestmark = pytest.mark.alone

EXIT_S = 1.0
SLOW = {"slow_token_s": 0.005, "reply_tokens": 100_000}


@pytest.fixture
def first():
    with stub_daemon("ab", **SLOW) as daemon:
        daemon.client().swap("a")
        yield daemon


def test_second_daemon_on_a_home_ends_within_a_second_and_names_the_first(row, first):
    client = first.client()
    stream = client.generate("a", prompt="tale", max_tokens=200)
    next(stream)
    runs = row.runs(push=20, slice=2, release=100)
    worst = 0.0
    for _ in range(runs):
        began = time.monotonic()
        second = subprocess.run(
            [sys.executable, "-m", "hotseat.supervisor"],
            env=first.environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        worst = max(worst, time.monotonic() - began)
        assert second.returncode != 0
        assert f"pid {first.process.pid}" in second.stderr
        assert "Traceback" not in second.stderr
    row.record("stub", worst, EXIT_S, "s", runs=runs, what="exit of the second")
    assert stream.result().tokens == expected("a", "tale", 200), "the first lost something"
    assert serves(first.client(), "a"), "the first daemon's socket was taken"


def test_second_home_is_told_that_the_seat_is_taken_and_by_whom(row, first):
    second = LiveDaemon(stub=SLOW, settings=QUIET, seat_lock=first.seat_lock)
    register(second, "a", "b")
    runs = row.runs(push=20, slice=2, release=100)
    with second:
        one, two = first.client(), second.client()
        worst = 0.0
        for _ in range(runs):
            began = time.monotonic()
            error = error_of(two.swap, "b")
            worst = max(worst, time.monotonic() - began)
            assert error.code == "seat_taken"
            assert error.facts["pid"] == first.process.pid
            assert (error.facts["model"], error.facts["user"] != "") == ("a", True)
            assert second.workers() == []
            assert serves(one, "a")
        row.record("stub", worst, EXIT_S, "s", runs=runs, what="seat_taken")
        one.release()
        assert serves(two, "b"), "the seat is free now"
