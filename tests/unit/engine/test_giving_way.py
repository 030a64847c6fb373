"""A row that grows beside a context from files: that one has more of it read, the row goes on."""

import pytest
from tests.support.engine.engine_harness import FakeSupervisor, prompt_tokens, tiny_record

from hotseat.protocol.link_reports import Emitted, Started
from hotseat.protocol.streamed_contexts import (
    Reading,
    held_with,
    place_context,
    spread_order,
    streamable_entries,
)
from hotseat.worker.batch.context_source import ContextFetcher
from hotseat.worker.model.budget import KvBudget
from hotseat.worker.streaming.layers import SPOIL_VARIABLE

KINDS = ("llama", "falcon_h1")
LONG, LONG_ANSWER, SHORT, SHORT_ANSWER, RESERVED = 2400, 150, 100, 420, 64
BEGUN = 60
"""Tokens of the short one's answer shortly before it needs more than it was admitted with."""


@pytest.fixture(autouse=True)
def spoilt(monkeypatch):
    monkeypatch.setenv(SPOIL_VARIABLE, "1")
    monkeypatch.setattr("hotseat.worker.batch.entry.RESERVE_TOKENS", RESERVED)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Record and tokens of both when each runs alone with room for all, by kind."""
    made = {}

    def of(kind):
        if kind not in made:
            home = tmp_path_factory.mktemp(kind)
            roomy = FakeSupervisor(tiny_record(home, kind), home / "kv")
            roomy.seat()
            long = roomy.turn(prompt_tokens(LONG), "l", max_tokens=LONG_ANSWER).tokens
            again = roomy.turn(prompt_tokens(40, seed=1), "l", max_tokens=LONG_ANSWER).tokens
            short = roomy.turn(prompt_tokens(SHORT, seed=2), "s", max_tokens=SHORT_ANSWER).tokens
            roomy.unseat()
            made[kind] = roomy.record, long, again, short
        return made[kind]

    return of


def tight(record, home, left_whole, tokens=LONG):
    """A worker with room for the beginning of the short one, and a long one with so many whole."""
    order = spread_order(streamable_entries(record.layers))
    count, reserved = len(order) - left_whole, tokens + RESERVED
    room = held_with(record, reserved, order[:count]).held_bytes
    room += KvBudget(record, 0).need_bytes([[SHORT + RESERVED]], 0)
    assert len(place_context(record, reserved, room).streamed) == count
    assert KvBudget(record, room).fit_tokens(8192) < tokens
    # Where weights are read as well there is one lane, hence no row beside a long context.
    options = {"contexts": Reading(), "kv_budget_bytes": room, "residence": None}
    supervisor = FakeSupervisor(record, home / "kv", **options)
    supervisor.seat()
    return supervisor


def read_entries(supervisor):
    """How many layers of the long one are read."""
    (turn,) = [one for one in supervisor.engine._seat.runner.turns() if one.streamed is not None]
    return len(turn.streamed.entries)


def within_budget(supervisor):
    return supervisor.engine._seat.runner.reservations.fits(0)


def begin_short(supervisor, tokens):
    request = supervisor.start(prompt_tokens(SHORT, seed=2), "s", max_tokens=SHORT_ANSWER)
    supervisor.until(Started, request)
    while len(supervisor.outcome(request).tokens) < tokens:
        supervisor.until(Emitted, request)
        supervisor.advance()
    return request


def until_grown(supervisor):
    """Steps until the row beside the long one has more room than it was admitted with."""
    budget = SHORT + RESERVED
    while True:
        turns = supervisor.engine._seat.runner.turns()
        if any(one.streamed is None and one.reserved_tokens > budget for one in turns):
            return
        assert any(one.streamed is None for one in turns), "it ended"
        supervisor.advance()


@pytest.mark.parametrize("kind", KINDS)
def test_both_go_on_with_the_tokens_of_when_each_is_alone(tmp_path, alone, kind):
    record, long, _, short = alone(kind)
    supervisor = tight(record, tmp_path, left_whole=1)
    second = begin_short(supervisor, BEGUN // 3)
    first = supervisor.start(prompt_tokens(LONG), "l", max_tokens=LONG_ANSWER)
    supervisor.until(Emitted, first)
    before = read_entries(supervisor)
    until_grown(supervisor)
    assert 0 < len(supervisor.outcome(first).tokens) < RESERVED, "it has not grown itself"
    assert read_entries(supervisor) == before + 1 == len(streamable_entries(record.layers))
    assert within_budget(supervisor)
    outcomes = [supervisor.finish(request) for request in (first, second)]
    assert [one.tokens for one in outcomes] == [long, short]
    assert {one.finished.limit for one in outcomes} == {"max_tokens"}
    supervisor.unseat()


@pytest.mark.parametrize("kind", KINDS)
def test_long_one_gives_way_while_its_prompt_is_fed(tmp_path, alone, kind):
    record, long, _, short = alone(kind)
    supervisor = tight(record, tmp_path, left_whole=1)
    second = begin_short(supervisor, BEGUN)
    first = supervisor.start(prompt_tokens(LONG), "l", max_tokens=LONG_ANSWER)
    supervisor.until(Started, first)
    before = read_entries(supervisor)
    until_grown(supervisor)
    assert supervisor.outcome(first).tokens == []
    assert read_entries(supervisor) == before + 1
    outcomes = [supervisor.finish(request) for request in (first, second)]
    assert [one.tokens for one in outcomes] == [long, short]
    supervisor.unseat()


@pytest.mark.parametrize("kind", KINDS)
def test_long_one_gives_way_while_it_comes_from_files(tmp_path, alone, monkeypatch, kind):
    record, long, again, short = alone(kind)
    supervisor = tight(record, tmp_path, left_whole=1, tokens=LONG + LONG_ANSWER + 40)
    assert supervisor.turn(prompt_tokens(LONG), "l", max_tokens=LONG_ANSWER).tokens == long
    second = begin_short(supervisor, BEGUN)
    poll, waits = ContextFetcher.poll, [True]
    monkeypatch.setattr(ContextFetcher, "poll", lambda self, fetch: not waits and poll(self, fetch))
    third = supervisor.start(prompt_tokens(40, seed=1), "l", max_tokens=LONG_ANSWER)
    until_grown(supervisor)
    assert read_entries(supervisor) == len(streamable_entries(record.layers)) - 1
    assert within_budget(supervisor)
    waits.clear()
    supervisor.until(Emitted, third)
    assert read_entries(supervisor) == len(streamable_entries(record.layers))
    outcomes = [supervisor.finish(request) for request in (third, second)]
    assert [one.tokens for one in outcomes] == [again, short]
    assert outcomes[0].started.restored_tokens >= LONG
    supervisor.unseat()


def test_row_ends_where_the_long_one_has_nothing_left_to_give(tmp_path, alone):
    record, long, _, short = alone("llama")
    supervisor = tight(record, tmp_path, left_whole=0)
    second = begin_short(supervisor, BEGUN)
    first = supervisor.start(prompt_tokens(LONG), "l", max_tokens=RESERVED)
    supervisor.until(Started, first)
    outcomes = [supervisor.finish(request) for request in (second, first)]
    ended = outcomes[0].finished
    assert (ended.finish_reason, ended.limit) == ("length", "kv_budget")
    assert outcomes[0].tokens == short[: len(outcomes[0].tokens)]
    assert RESERVED <= len(outcomes[0].tokens) <= RESERVED + 1
    assert outcomes[1].tokens == long[:RESERVED]
    supervisor.unseat()
