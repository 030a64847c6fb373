"""Row 8: a worker that dies again and again, and models that cannot be loaded: few
restarts, then a named end, and another model is served at once.
"""

import time

import pytest
from tests.support.clocks.event_times import EventTimes
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import error_of, register, serves, stub_daemon

RESTARTS = 5
AT_ONCE_S = 3.0
SETTINGS = """
[deadlines]
back_off_s = 0.02
term_s = 0.2
"""
BAD = {
    "no-libraries": {"die_at": "load", "exit_code": 69},
    "no-memory": {"raise_at": "load", "raise_kind": "memory"},
    "bad-files": {"fail_load": True},
    "dies-loading": {"die_at": "load", "signal": 11},
}
FINAL = {"no-libraries", "no-memory"}
"""Exit codes that say that trying again is no use."""


@pytest.fixture(scope="module")
def daemon():
    with stub_daemon("b", settings=SETTINGS, models={}) as running:
        yield running


def seated(client):
    view = client.status()
    return view.epoch, view.phase


def starts(events, model):
    return len(events.named("seat.phase_changed", phase="starting", model=model))


def test_worker_that_dies_idle_is_given_up_after_five_restarts(row, daemon, client):
    for run in range(row.runs(push=5, slice=1, release=50)):
        name = f"tired-{run}"
        register(daemon, name)
        with EventTimes(daemon) as events:
            client.swap(name)
            first = client.status().epoch
            for epoch in range(first, first + RESTARTS + 1):
                wait_for(lambda at=epoch: seated(client) == (at, "ready"), what=f"epoch {epoch}")
                (worker,) = daemon.workers()
                worker.kill()
            wait_for(lambda: client.status().phase == "failed", what="given up")
            restarts = starts(events, name) - 1
        row.record(value=restarts, limit=RESTARTS, unit="restarts", what="idle deaths")
        assert not daemon.workers()
        refused = error_of(client.generate(name, prompt="x").result)
        assert refused.code == "model_quarantined"
        (barred,) = [view for view in client.status().quarantined if view.model == name]
        assert "SIGKILL" in barred.reason
        (view,) = [view for view in client.models() if view.name == name]
        assert view.state == "quarantined"
        assert "SIGKILL" in view.reason
        began = time.monotonic()
        assert serves(client, "b")
        took_s = time.monotonic() - began
        row.record(value=took_s, limit=AT_ONCE_S, unit="s", runs=0, what="another model after")


@pytest.mark.parametrize("kind", BAD)
def test_model_that_cannot_be_loaded_is_quarantined_and_others_are_served(row, kind):
    for _ in range(row.runs(push=5, slice=1, release=50)):
        with stub_daemon("b", settings=SETTINGS, models={"bad": BAD[kind]}) as daemon:
            register(daemon, "bad")
            with daemon.client() as client, EventTimes(daemon) as events:
                codes = [error_of(client.generate("bad", prompt="x").result).code for _ in range(4)]
                tries = starts(events, "bad")
                assert codes[-1] == "model_quarantined"
                assert tries == (1 if kind in FINAL else 2)
                assert client.status().quarantined[0].model == "bad"
                row.record(value=tries, limit=RESTARTS, unit="starts", what=kind)
                assert serves(client, "b")
