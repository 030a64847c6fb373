"""Row 2: a worker ends by a signal, an exit code or a limit at every point of its life: nothing
acknowledged is lost, every request ends once, and the cause is named as it was.
"""

import time

import pytest
from tests.support.clocks.event_times import EventTimes
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import error_of, expected, serves, stub_daemon
from tests.support.daemons.watching import Background

from hotseat.protocol.errors import HotseatError

SETTINGS = """
[deadlines]
back_off_s = 0.02
grace_s = 0.2
"""
ENDS = {
    "SIGSEGV": ({"die_at": ..., "signal": 11}, "crashed (SIGSEGV)"),
    "SIGABRT": ({"die_at": ..., "signal": 6}, "crashed (SIGABRT)"),
    "exit 0": ({"die_at": ..., "exit_code": 0}, "stopped as asked"),
    "exit 1": ({"die_at": ..., "exit_code": 1}, "exited with code 1"),
    "RLIMIT_AS": ({"exhaust_at": ...}, "ran out of memory"),
}
POINTS = (
    "hello",
    "load",
    "warm",
    "start",
    "lookup",
    "first_token",
    "token_n",
    "finish",
    "checkpoint",
    "stop",
)
NOT_TRIED_AGAIN = {"RLIMIT_AS"}
"""A model for which memory does not suffice while it is seated."""
WHILE_SEATING = {"hello", "load", "warm"}
SLICE = 2
LIMIT_S = 20.0
"""Of one run, in which nobody hangs: without a fault it takes about a second."""


def faults_at(end, point, once_file):
    fields, cause = ENDS[end]
    fault = {name: point if value is ... else value for name, value in fields.items()}
    return fault | {"once_file": str(once_file)}, cause


def chosen(row, end):
    """All points under push counts; in a slice a few, others for each kind of end."""
    if row.counts != "slice":
        return POINTS
    first = list(ENDS).index(end) * SLICE
    return [POINTS[(first + place) % len(POINTS)] for place in range(SLICE)]


def enforced(end):
    """macOS takes RLIMIT_AS and allows what is beyond it."""
    marks = pytest.mark.needs_linux("RLIMIT_AS is enforced") if end == "RLIMIT_AS" else ()
    return pytest.param(end, marks=marks)


@pytest.mark.parametrize("end", [enforced(end) for end in ENDS])
def test_worker_that_ends_at_any_point_loses_nothing_and_its_end_is_named(row, tmp_path, end):
    for point in chosen(row, end):
        runs = row.runs(push=5, slice=1, release=100)
        is_final = end in NOT_TRIED_AGAIN and point in WHILE_SEATING
        once = tmp_path / point
        fault, cause = faults_at(end, point, once)
        options = fault if point == "hello" else {"models": {"a": fault | {"token_n": 5}}}
        each = 1 if is_final else runs  # a quarantine outlasts a run
        for _ in range(runs // each):
            with stub_daemon("ab", settings=SETTINGS, **options) as daemon:
                for number in range(each):
                    once.unlink(missing_ok=True)
                    began = time.monotonic()
                    live_through(daemon, f"s{number}", point, cause, is_final=is_final)
                    took_s = time.monotonic() - began
                    row.record(value=took_s, limit=LIMIT_S, unit="s", what=f"{end}, {point},")
                    assert once.exists(), "the fault did not happen"


def live_through(daemon, session, point, cause, *, is_final):
    with daemon.client() as client, EventTimes(daemon) as events:
        first = turn(client, session, "append", "x" * 300)
        if first is None:  # it could not be seated: the request said so, and may be asked again
            assert point in WHILE_SEATING
            if is_final:
                error = error_of(client.generate("a", prompt="x").result)
                assert error.code == "model_quarantined"
                assert cause in error.message
                assert serves(client, "b")
                return
            first = turn(client, session, "append", "x" * 300)
        assert first.tokens == expected("a", "x" * 300, 8)
        swap = Background(client.swap, "b")
        assert swap.result().to == "b"
        again = turn(client, session, "append", "y")
        assert (first.turn, again.turn) == (1, 2)
        assert again.usage.restored_tokens >= 256, "full blocks were acknowledged"
        reasons = [event.facts["reason"] for _, event in events.named("worker.exited")]
        assert any(cause in reason for reason in reasons), reasons
        wait_for(lambda: client.status().queue.running == 0, what="nothing runs")
        client.release()  # the next run begins without a worker


def turn(client, session, how, text):
    try:
        return client.generate("a", session=session, max_tokens=8, **{how: text}).result()
    except HotseatError as error:
        assert error.code in {"worker_lost", "model_unavailable"}, error  # noqa: PT017
        return None
