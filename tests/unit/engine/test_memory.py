"""What is admitted bounds what the allocator holds; unlike lengths do not share a batch."""

import gc

import mlx.core as mx
import pytest
from tests.support.engine.engine_harness import WHOLE, FakeSupervisor, prompt_tokens, tiny_record

from hotseat.protocol.limits import MIB
from hotseat.protocol.link_reports import Emitted, Prefilled, Refused, Started

LONG = 8192
SHORT = 256
SHORT_ROWS = 7


@pytest.fixture(scope="module")
def record(home):
    return tiny_record(home, "llama")


def admitted_bytes(supervisor) -> int:
    seat = supervisor.engine._seat
    rows = [lane.reservations() for lane in seat.runner.lanes]
    return seat.budget.need_bytes(rows, seat.keeper.live.size_bytes)


def held_arrays_bytes(supervisor) -> int:
    seat = supervisor.engine._seat
    return sum(lane.held_bytes for lane in seat.runner.lanes) + sum(
        cache.nbytes for session in seat.keeper.live.sessions() for cache in session.caches
    )


def test_one_long_row_and_seven_short_ones_stay_within_the_admitted_bytes(record, tmp_path):
    supervisor = FakeSupervisor(record, tmp_path, **WHOLE)
    supervisor.seat()
    gc.collect()
    mx.clear_cache()
    weights = mx.get_active_memory()
    long = supervisor.start(prompt_tokens(LONG), "long", max_tokens=64, persist=False)
    supervisor.until(Emitted, long)
    # The scores of a chunk over 8,192 tokens are the plan's prefill peak, not KV.
    mx.clear_cache()
    mx.reset_peak_memory()
    shorts = [
        supervisor.start(prompt_tokens(SHORT, n), f"s{n}", max_tokens=20, persist=False)
        for n in range(1, SHORT_ROWS + 1)
    ]
    most = 0
    for request in shorts:
        supervisor.until(Started, request)
        most = max(most, admitted_bytes(supervisor))
    lanes = [sorted(lane.reservations()) for lane in supervisor.engine._seat.runner.lanes]
    supervisor.finish(long)
    for request in shorts:
        supervisor.finish(request)
    peak = mx.get_peak_memory() - weights
    naive = (SHORT_ROWS + 1) * LONG * record.kv_bytes_per_token
    supervisor.unseat()
    assert max(len(lane) for lane in lanes) >= 2
    assert [LONG + 64] in lanes
    assert most < naive / 2
    assert peak <= most


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_accounted_bytes_cover_the_arrays_after_every_step(kind, tmp_path):
    record = tiny_record(tmp_path, kind, kind)
    supervisor = FakeSupervisor(record, tmp_path / "kv")
    supervisor.seat()
    requests = [
        supervisor.start(prompt_tokens(length, length), f"s{length}", max_tokens=60)
        for length in (700, 200, 330, 40)
    ]
    for request in requests:
        while supervisor.outcome(request).finished is None:
            supervisor.engine.step()
            supervisor.pump()
            assert held_arrays_bytes(supervisor) <= 1.1 * supervisor.engine.beat().live_kv_bytes
    supervisor.unseat()


def test_request_beyond_the_budget_is_refused_with_what_would_fit(record, tmp_path):
    supervisor = FakeSupervisor(record, tmp_path, kv_budget_bytes=2 * MIB)
    supervisor.seat()
    supervisor.start(prompt_tokens(4000))
    refused = supervisor.until(Refused)
    fit = refused.facts["kv_fit_tokens"]
    assert refused.code == "context_overflow"
    assert 256 <= fit < 4000
    supervisor.turn(prompt_tokens(fit - 8), max_tokens=4)
    supervisor.unseat()


def test_answer_that_outgrows_the_budget_ends_with_limit_kv_budget(record, tmp_path):
    supervisor = FakeSupervisor(record, tmp_path, kv_budget_bytes=1 * MIB)
    supervisor.seat()
    outcome = supervisor.turn(prompt_tokens(200), max_tokens=4000)
    supervisor.unseat()
    assert outcome.finished.finish_reason == "length"
    assert outcome.finished.limit == "kv_budget"
    assert len(outcome.tokens) > 100


def test_request_without_room_waits_until_another_ends(record, tmp_path):
    budget = 4 * 512 * record.kv_bytes_per_token
    supervisor = FakeSupervisor(record, tmp_path, kv_budget_bytes=budget)
    supervisor.seat()
    requests = [supervisor.start(prompt_tokens(400, n), max_tokens=100) for n in range(3)]
    together = set()
    while any(supervisor.outcome(request).finished is None for request in requests):
        supervisor.engine.step()
        supervisor.pump()
        assert admitted_bytes(supervisor) <= budget
        together.add(len(supervisor.engine._seat.runner.turns()))
    supervisor.unseat()
    assert max(together) == 2
    assert all(len(supervisor.outcome(request).tokens) == 100 for request in requests)


def test_long_prefill_lets_others_decode_between_its_chunks(record, tmp_path):
    supervisor = FakeSupervisor(record, tmp_path)
    supervisor.seat()
    steady = supervisor.start(prompt_tokens(30), max_tokens=2000)
    supervisor.until(Emitted, steady)
    long = supervisor.start(prompt_tokens(2000, 4), max_tokens=2)
    supervisor.finish(long)
    kinds = [
        type(message)
        for message in supervisor.messages
        if (isinstance(message, Prefilled) and message.request == long)
        or (isinstance(message, Emitted) and message.request == steady)
    ]
    supervisor.unseat()
    between = [kinds[i : i + 2] for i in range(kinds.index(Prefilled), len(kinds) - 2)]
    assert [Prefilled, Prefilled] not in between


def test_closed_engine_holds_no_memory_of_its_model(record, tmp_path):
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    supervisor = FakeSupervisor(record, tmp_path)
    supervisor.seat()
    supervisor.turn(prompt_tokens(300), "s")
    supervisor.unseat()
    gc.collect()
    mx.clear_cache()
    assert mx.get_active_memory() <= before


@pytest.mark.parametrize("persist", [True, False])
def test_context_that_another_one_shares_counts_as_long_as_it_stays(record, tmp_path, persist):
    budget = 2000 * record.kv_bytes_per_token
    supervisor = FakeSupervisor(record, tmp_path, kv_budget_bytes=budget)
    supervisor.seat()
    shared = prompt_tokens(600)
    supervisor.turn([*shared, 7], "one", max_tokens=4, persist=persist)
    request = supervisor.start([*shared, 9], "two", max_tokens=20, persist=persist)
    while supervisor.outcome(request).finished is None:
        supervisor.advance()
        assert admitted_bytes(supervisor) <= budget
    restored = supervisor.outcome(request).started.restored_tokens
    supervisor.unseat()
    assert restored == (600 if persist else 0)
