"""What is left to measure of reclamation, what a round comes to, and the looks it is made of."""

import os
import signal
import subprocess
import sys

import pytest
from benchmarks.swaps.looks import Look, Watch, anonymous_bytes
from benchmarks.swaps.reclaim import MODES, Round, back_after, judge, planned
from hypothesis import given
from hypothesis import strategies as st
from tests.support.daemons.live_daemon import wait_for

MB = 1_000_000


def made(mode="process", number=0, **figures):
    told = {
        "size_mb": 500,
        "weights_bytes": 500 * MB,
        "before_bytes": 100 * MB,
        "generated_bytes": 620 * MB,
        "after_bytes": 100 * MB,
        "back_s": 0.1,
        "swap_s": 1.0,
    }
    return Round(mode=mode, number=number, **told | figures)


@given(st.integers(1, 5), st.lists(st.tuples(st.sampled_from(MODES), st.integers(0, 4))))
def test_resuming_leaves_out_exactly_the_rounds_that_are_there(n, pairs):
    done = [made(mode, number) for mode, number in pairs]
    todo = planned([500, 1000], MODES, n, done)
    left = {(size, mode, number) for (size, mode), found in todo.items() for number in found}
    wanted = {(size, mode, number) for size in (500, 1000) for mode in MODES for number in range(n)}
    assert left == wanted - {(500, mode, number) for mode, number in pairs}
    assert all(todo.values())


def test_share_counts_everything_that_was_taken():
    assert made().returned == 1.0
    assert made(after_bytes=152 * MB).returned == 0.9


def test_memory_is_back_when_a_hundredth_is_left():
    looks = [Look(1.0, (0,)), Look(2.0, (600,)), Look(3.0, (50, 60)), Look(4.0, (104,))]
    assert back_after(looks, 1.5, 100, 600) == 2.5
    assert back_after(looks[:3], 1.5, 100, 600) is None


@pytest.mark.parametrize(
    ("figures", "code"),
    [({}, 0), ({"after_bytes": 110 * MB}, 1), ({"generated_bytes": 300 * MB}, 1)],
)
def test_rounds_that_keep_memory_or_never_held_the_weights_are_a_miss(figures, code):
    assert judge([made(), made(number=1, back_s=None, **figures)]) == code


def test_nothing_measured_is_no_success():
    assert judge([]) == 2


@pytest.mark.needs_linux("reads the process table of /proc")
def test_an_ended_worker_counts_until_it_is_reaped():
    """Its memory may still be on the way back while its own figures are gone."""
    hold = "held = bytearray(50 << 20); print(flush=True); input()"
    with (
        subprocess.Popen(
            [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child,
        Watch(os.getpid()) as watch,
    ):
        child.stdout.readline()
        full = anonymous_bytes(str(child.pid))
        assert full > 50 << 20
        wait_for(lambda: watch.looks and full in watch.looks[-1].held, what="full")
        child.send_signal(signal.SIGKILL)
        wait_for(lambda: anonymous_bytes(str(child.pid)) == 0, what="ended")
        seen = len(watch.looks)
        wait_for(lambda: len(watch.looks) > seen + 1, what="two looks later")
        assert full in watch.looks[-1].held
        child.wait()
        wait_for(lambda: full not in watch.looks[-1].held, what="reaped")
