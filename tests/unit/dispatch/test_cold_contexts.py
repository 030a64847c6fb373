"""Which cold contexts are computed ahead, in which order, and what they give way to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.support.models.records import model_record

from hotseat.protocol.model import LayerSpec
from hotseat.supervisor.catalogue.rows import SessionSummary
from hotseat.supervisor.dispatch.rules.cold_contexts import (
    RECENT_S,
    Moment,
    gives_way,
    is_worth_it,
    may_begin,
    next_to_compute,
)

NOW = 1e9
QUIET_S = 30.0
RECORD = model_record("m", tag="new", context_tokens=8_192)
IDLE = Moment(seated=True, idle_s=QUIET_S)


def session(name="s", **changes):
    fields = {
        "id": 1,
        "model": "m",
        "name": name,
        "tag": "old",
        "turn": 1,
        "tokens": 500,
        "durable_tokens": 0,
        "bytes_on_disk": 0,
        "closed": True,
        "persist": True,
        "created_at": 0.0,
        "used_at": NOW,
    }
    return SessionSummary(**(fields | changes))


def chosen(*sessions, record=RECORD, given_up=()):
    found = next_to_compute(sessions, record, given_up, NOW)
    return None if found is None else found.name


@pytest.mark.parametrize(
    "changes",
    [
        {"tag": "new"},
        {"model": "other"},
        {"persist": False},
        {"tokens": 255},
        {"tokens": 8_192},
        {"name": ".held"},
        {"used_at": NOW - RECENT_S - 1.0},
    ],
)
def test_session_that_is_not_computed_ahead(changes):
    assert chosen(session(**changes)) is None
    assert chosen(session()) == "s"


def test_pinned_one_is_computed_however_long_ago_it_was_used():
    assert chosen(session(pinned=True, used_at=0.0)) == "s"


def test_what_failed_once_is_left_to_its_next_turn():
    assert chosen(session("a"), session("b", used_at=NOW - 1.0), given_up={"a"}) == "b"


def test_recurrent_layers_are_left_to_their_next_turn():
    layers = (*RECORD.layers, LayerSpec(kind="state"))
    assert chosen(session(), record=structs.replace(RECORD, layers=layers)) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, int(2 * RECENT_S)), st.integers(0, 600))))
def test_pinned_come_first_then_the_newest_and_all_come_in_the_end(rows):
    sessions = [
        session(f"s{n}", id=n, pinned=pinned, used_at=NOW - age_s, tokens=tokens)
        for n, (pinned, age_s, tokens) in enumerate(rows)
    ]
    order = []
    while (name := chosen(*sessions, given_up=order)) is not None:
        order.append(name)
    by_name = {one.name: one for one in sessions}
    ranks = [(not by_name[name].pinned, NOW - by_name[name].used_at) for name in order]
    assert ranks == sorted(ranks)
    worth = [
        one.name
        for one in sessions
        if is_worth_it(tokens=one.tokens, pinned=one.pinned, used_at=one.used_at, now=NOW)
    ]
    assert sorted(order) == sorted(worth)


@pytest.mark.parametrize(
    "moment",
    [
        Moment(seated=False, idle_s=99.0),
        structs.replace(IDLE, others=True),
        structs.replace(IDLE, memory_short=True),
        structs.replace(IDLE, on_battery=True),
    ],
)
def test_anything_else_comes_first(moment):
    assert gives_way(moment)
    assert not may_begin(moment, QUIET_S)


def test_one_begins_after_a_while_of_quiet_and_then_goes_on():
    assert may_begin(IDLE, QUIET_S)
    soon = structs.replace(IDLE, idle_s=QUIET_S - 0.1)
    assert not may_begin(soon, QUIET_S)
    assert not gives_way(soon)
