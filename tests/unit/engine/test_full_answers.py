"""An answer that ends because it is full: its last token is told, but not fed."""

import pytest
from tests.support.engine.engine_harness import UNFED, FakeSupervisor, prompt_tokens, tiny_record
from tests.support.engine.suspend_harness import Run

from hotseat.protocol.link_orders import CancelWork, Suspend
from hotseat.protocol.link_reports import Broken, Finished, Prefilled, Suspended
from hotseat.protocol.tokens import unpack_tokens
from hotseat.worker.batch.rows import DecodingRows


@pytest.fixture(scope="module", params=["llama", "gemma3", "lfm2"])
def record(request, home):
    return tiny_record(home, request.param, request.param)


def fed(supervisor, session="s"):
    """Ids that have KV."""
    return supervisor.engine._seat.keeper.live.find(session).trace.tokens


@pytest.mark.parametrize("count", [1, 2, 7])
def test_last_token_is_in_the_context_and_not_in_kv(supervisor, count):
    outcome = supervisor.turn(prompt_tokens(40), "s", max_tokens=count)
    assert (outcome.finished.finish_reason, len(outcome.tokens)) == ("length", count)
    context = unpack_tokens(outcome.finished.context)
    assert context == prompt_tokens(40) + outcome.tokens
    assert fed(supervisor) == context[:-UNFED]


def test_next_turn_computes_it_before_what_is_new(supervisor):
    supervisor.turn(prompt_tokens(40), "s", max_tokens=7)
    second = supervisor.turn([7, 8, 9], "s", max_tokens=1)
    assert second.started.restored_tokens == 40 + 7 - UNFED
    assert second.started.computed_tokens == 3 + UNFED


def test_rows_of_a_batch_end_full_one_after_the_other(supervisor):
    counts = (3, 9, 1, 5)
    requests = [
        supervisor.start(prompt_tokens(20 + 3 * number, number), f"s{number}", max_tokens=count)
        for number, count in enumerate(counts)
    ]
    for number, (request, count) in enumerate(zip(requests, counts, strict=True)):
        outcome = supervisor.finish(request, f"s{number}")
        assert len(outcome.tokens) == count
        context = prompt_tokens(20 + 3 * number, number) + outcome.tokens
        assert unpack_tokens(outcome.finished.context) == context
        assert fed(supervisor, f"s{number}") == context[:-UNFED]


@pytest.mark.parametrize("fate", ["live", "killed"])
def test_interruption_before_the_last_token_changes_nothing_of_where_it_ends(supervisor, fate):
    calm = supervisor.turn(prompt_tokens(40), "calm", max_tokens=12)
    for before in (1, 2, 11):
        run = Run(supervisor, prompt_tokens(40), "s", max_tokens=12)
        assert run.until_tokens(12 - before)
        run.interrupt(fate)
        finished: Finished = run.finish()
        assert run.tokens == calm.tokens
        assert finished.context == calm.finished.context
        assert finished.hint == calm.finished.hint
        assert len(fed(supervisor)) == 40 + 12 - UNFED
        supervisor.contexts.clear()
        supervisor.hints.clear()


def test_answer_that_ends_full_at_the_end_of_a_block_goes_on_with_the_same_tokens(
    supervisor, tmp_path
):
    """The last block lacks a token: the next turn completes it."""
    other = FakeSupervisor(supervisor.record, tmp_path / "other")
    other.seat()
    turns = []
    for fake in (supervisor, other):
        first = fake.turn(prompt_tokens(250), "s", max_tokens=6)
        assert len(unpack_tokens(first.finished.context)) == 256
        if fake is other:
            assert fake.checkpoint().failed == ()
            fake.seat()
        turns.append(fake.turn([7, 8], "s", max_tokens=20))
    other.unseat()
    kept, again = turns
    assert kept.started.restored_tokens == again.started.restored_tokens == 256 - UNFED
    assert again.tokens == kept.tokens
    assert again.finished.hint == kept.finished.hint


def test_pass_that_fails_before_the_last_token_breaks_its_rows_and_no_more(supervisor, monkeypatch):
    requests = [supervisor.start(prompt_tokens(20, n), max_tokens=4) for n in range(2)]
    while any(len(supervisor.outcome(one).tokens) < 2 for one in requests):
        supervisor.advance()

    def fails(_rows, _turn):
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(DecodingRows, "pending", fails)
    while supervisor.engine._seat.runner.is_busy:
        supervisor.advance()
    supervisor.pump()
    for request in requests:
        ends = [m for m in supervisor.messages if isinstance(m, (Broken, Finished))]
        assert [type(m) for m in ends if m.request == request] == [Broken]
    monkeypatch.undo()
    assert len(supervisor.turn(prompt_tokens(20), max_tokens=4).tokens) == 4


@pytest.mark.parametrize("order", ["cancel", "suspend"])
def test_prompt_of_a_request_that_says_nothing_is_left_behind_its_chunk(record, supervisors, order):
    """Its blocks stay: asked again, only the rest is computed."""
    supervisor = supervisors(record)
    prompt = prompt_tokens(1500)
    request = supervisor.start(prompt, max_tokens=0)
    supervisor.until(Prefilled, request)
    if order == "cancel":
        supervisor.engine.handle(CancelWork(request=request))
        ended = supervisor.until(Finished, request)
        assert ended.finish_reason == "cancelled"
    else:
        supervisor.engine.handle(Suspend(request=request, hold_as=".held"))
        supervisor.until(Suspended, request)
    done = max(m.tokens_done for m in supervisor.messages if isinstance(m, Prefilled))
    assert 256 <= done < 1500
    again = supervisor.turn(prompt, max_tokens=0)
    if not record.is_recurrent:
        assert again.started.restored_tokens >= done - done % 256
    assert again.finished.finish_reason == "length"
