"""What a journal tells about the run that wrote it."""

import pytest

from hotseat.protocol.replies import Event
from hotseat.supervisor.daemon.recovery import undone_steps
from hotseat.supervisor.daemon.rules.last_run import LastRun, read_last_run


def events(*told):
    return [Event(seq=n, at=0.0, name=name, facts=facts) for n, (name, facts) in enumerate(told)]


def phase(name, model=None):
    return ("seat.phase_changed", {"phase": name, "model": model})


STARTED = ("daemon.started", {})
STOPPING = ("daemon.stopping", {})
SWAP = ("swap.started", {"origin": "a", "target": "b", "client": "cli[1]", "request": "r"})
SEATED = (STARTED, phase("loading", "a"), phase("ready", "a"))


@pytest.mark.parametrize(
    ("journal", "after", "where"),
    [
        ((), "nothing", "empty"),
        ((STARTED,), "kill", "empty"),
        ((STARTED, STOPPING), "stop", "empty"),
        (SEATED, "kill", "ready"),
        ((*SEATED, STOPPING, phase("stopping", "a")), "kill", "stopping"),
        ((*SEATED, STOPPING, phase("stopping", "a"), phase("empty")), "stop", "empty"),
        ((*SEATED, SWAP, phase("draining", "a")), "kill", "draining"),
        ((*SEATED, STOPPING, phase("empty"), STARTED), "kill", "empty"),
    ],
)
def test_last_run_is_read_from_the_journal(journal, after, where):
    run = read_last_run(events(*journal))
    assert (run.after, run.phase) == (after, where)


def test_swap_under_way_is_named_with_who_asked_for_it():
    run = read_last_run(events(*SEATED, SWAP, phase("draining", "a"), phase("loading", "b")))
    assert undone_steps(run, []) == ["swap a -> b in phase loading (asked by cli[1], request r)"]


def test_finished_swap_is_not_undone():
    run = read_last_run(events(*SEATED, SWAP, phase("loading", "b"), phase("ready", "b")))
    assert not run.is_swapping
    assert undone_steps(run, []) == ["b held the seat in phase ready"]


def test_run_that_ended_in_order_leaves_nothing_undone():
    assert undone_steps(LastRun(after="stop"), []) == []
