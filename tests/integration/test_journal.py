"""What happened is on record: every change of phase and every swap, with its cause."""

import signal

import pytest
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import error_of, journal, stub_daemon

WAY = [
    "draining",
    "checkpointing",
    "stopping",
    "reclaiming",
    "starting",
    "loading",
    "warming",
    "ready",
]


@pytest.fixture(scope="module")
def told():
    """The story of one daemon: events as a client saw them, the journal after its end."""
    models = {"c": {"fail_load": True}}
    with stub_daemon("abc", models=models) as daemon:
        client = daemon.client(name="teller")
        events = []
        with client.events() as stream:
            client.swap("a", request_id="first")
            client.generate("b", prompt="x", request_id="asks").result()
            error_of(client.swap, "c", request_id="fails")
            wait_for(lambda: client.status().phase == "ready")
            (worker,) = daemon.workers()
            worker.send_signal(signal.SIGKILL)
            wait_for(lambda: client.status().epoch == 5 and client.status().phase == "ready")
            last = client.generate("b", prompt="last", request_id="last").result()
            assert last.tokens
            for event in stream:
                events.append(event)
                if event.name == "request.finished" and event.facts["request"] == "last":
                    break
        assert daemon.stop() == 0
        yield events, journal(daemon)


def named(entries, name):
    return [entry.facts for entry in entries if entry.name == name]


def test_every_change_of_phase_and_every_swap_is_in_the_journal(told):
    events, entries = told
    lifecycle = ("seat.", "swap.", "worker.", "daemon.")
    seen = [(e.name, e.facts) for e in events if e.name.startswith(lifecycle)]
    kept = [(e.name, e.facts) for e in entries]
    start = kept.index(seen[0])
    assert kept[start : start + len(seen)] == seen


def test_journal_goes_on_to_the_very_end_of_the_daemon(told):
    _, entries = told
    phases = [facts["phase"] for facts in named(entries, "seat.phase_changed")]
    assert phases[:5] == ["reclaiming", "starting", "loading", "warming", "ready"]
    assert phases[-5:] == ["draining", "checkpointing", "stopping", "reclaiming", "empty"]
    assert entries[0].name == "daemon.started"
    assert named(entries, "daemon.stopping")
    assert entries[-1].name == "seat.emptied"


def test_each_step_of_a_swap_names_its_cause(told):
    events, _ = told
    changes = named(events, "seat.phase_changed")
    asked = [f for f in changes if f["cause"] and f["cause"]["request_id"] == "asks"]
    assert [facts["phase"] for facts in asked] == WAY[:-1]
    assert all(facts["cause"]["model_asked"] == "b" for facts in asked)
    assert all(facts["cause"]["client"].startswith("teller") for facts in asked)
    assert len({facts["swap"] for facts in asked}) == 1


def test_swap_events_name_who_asked_and_for_what(told):
    events, _ = told
    started = named(events, "swap.started")
    assert [(s["request"], s["origin"], s["target"]) for s in started] == [
        ("first", None, "a"),
        ("asks", "a", "b"),
        ("fails", "b", "c"),
    ]
    finished = named(events, "swap.finished")
    assert [(f["from"], f["to"], f["cause"]["request_id"]) for f in finished] == [
        (None, "a", "first"),
        ("a", "b", "asks"),
        (None, "b", "restart"),
        (None, "b", "restart"),
    ]
    (failed,) = named(events, "swap.failed")
    assert (failed["cause"]["request_id"], failed["back_to"]) == ("fails", "b")
    assert failed["reason"]


def test_end_of_a_worker_tells_who_ended_it(told):
    events, _ = told
    exits = named(events, "worker.exited")
    assert [facts["asked"] for facts in exits].count(False) == 1
    (crash,) = [facts for facts in exits if not facts["asked"]]
    assert "did not send" in crash["reason"]


def test_numbers_have_no_gap(told):
    events, _ = told
    seqs = [event.seq for event in events]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
