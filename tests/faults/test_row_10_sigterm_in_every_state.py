"""Promise: SIGTERM ends the daemon in order whatever it does: exit 0 inside the time launchd gives
it, everything acknowledged durable, and what ran goes on under the next daemon.
"""

import contextlib
import signal
import time

import pytest
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.watching import Background
from tests.support.faults.fault_home import FaultHome, Story, audit, outcome

from hotseat.supervisor.seat.rules.exit_bound import exit_time_out_s
from hotseat.supervisor.settings.values import Deadlines

LIMIT_S = exit_time_out_s(Deadlines(grace_s=0.05, exit_drain_s=0.2))
PAUSE_S = 0.3
STATES = {
    # where it is held for a moment, and the phase to wait for
    "idle": (None, "ready"),
    "decode": (None, "ready"),
    "swap": ("worker.tells.Loaded", "loading"),
    "checkpoint": ("worker.takes.Checkpoint", "checkpointing"),
}


def end_in(home, state):
    """SIGTERM in that state; seconds until the exit with code 0."""
    point, phase = STATES[state]
    story = Story(home, home.client())
    first = story.first_turn()
    stream = swap = None
    if state == "decode":
        stream = story.begin_long()
        next(stream)
    if point is not None:
        home.arm(point)
        swap = Background(outcome, home.client().swap, "b")
    watcher = home.client()
    if point is None:
        wait_for(lambda: watcher.status().phase == phase, what=phase)
    else:  # stays, where the phase itself may pass between two looks
        wait_for(lambda: home.has_fired(point), what=phase)
    began = time.monotonic()
    home.process.send_signal(signal.SIGTERM)
    code = home.process.wait(LIMIT_S + 30)
    took = time.monotonic() - began
    assert code == 0
    if swap is not None:
        swap.result(60)
    home.start()
    if stream is not None:
        assert stream.result().tokens == story.long
    more = story.next_turn()
    assert (first.turn, more.tokens) == (1, story.turns[1].tokens)
    assert more.usage.restored_tokens >= 256
    for client in home.clients:
        with contextlib.suppress(Exception):
            client.close()
    home.clients.clear()
    return took


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("state", STATES)
def test_stub_daemon_ends_in_order(row, state):
    runs = row.runs(push=18, slice=1, release=480)
    with FaultHome("stub", do="sleep", seconds=PAUSE_S) as home:
        worst = max(end_in(home, state) for _ in range(runs))
        home.stop()
        assert audit(home)[0] > 0
    row.record("stub", worst, LIMIT_S, "s", runs=runs, what=f"end in {state}")


@pytest.mark.beyond_slice
@pytest.mark.timeout(7200)
def test_real_daemon_ends_in_order_in_every_state(row):
    runs = row.runs(push=2, release=20)
    for state in STATES:
        with FaultHome("real", do="sleep", seconds=PAUSE_S) as home:
            worst = max(end_in(home, state) for _ in range(runs))
            home.stop()
            assert audit(home)[0] > 0
        row.record("real", worst, LIMIT_S, "s", runs=runs, what=f"end in {state}")
