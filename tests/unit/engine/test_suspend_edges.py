"""Suspension where state is easily lost: text, ends, limits, prefill, neighbours, names."""

import msgspec
import pytest
from tests.support.engine.beside_others import expect_as_alone
from tests.support.engine.engine_harness import UNFED, prompt_tokens, tiny_record
from tests.support.engine.suspend_harness import HELD, SAMPLED, Run
from tests.support.models.reshaped import pad_vocabulary
from tests.support.models.tiny_models import make_tiny

from hotseat.library.importing import import_model
from hotseat.protocol.link_orders import CancelWork, Drop, Resume, Suspend, Unload
from hotseat.protocol.link_reports import (
    Emitted,
    Finished,
    Prefilled,
    Refused,
    Suspended,
    TailWritten,
    Unloaded,
)
from hotseat.protocol.messages import Sampling
from hotseat.protocol.tokens import pack_tokens, unpack_tokens


@pytest.fixture(scope="module")
def record(home):
    return tiny_record(home, "llama", context=1024)


@pytest.fixture(scope="module")
def ending(home):
    return tiny_record(home, "llama", "ending", ends=True, seed=3)


def undisturbed(supervisor, *arguments, **options) -> tuple[Run, Finished]:
    run = Run(supervisor, *arguments, **options)
    finished = run.finish()
    supervisor.contexts.clear()
    supervisor.hints.clear()
    return run, finished


def stop_string_over(run: Run, at: int) -> str:
    """Four characters of the text, two on each side of the end of token `at`."""
    middle = len("".join(m.text for m in run.now.emitted[:at]))
    return run.text[middle - 2 : middle + 2]


def same(left: Finished, right: Finished) -> bool:
    names = ("finish_reason", "limit", "text", "completion_tokens", "context", "closed")
    return all(getattr(left, name) == getattr(right, name) for name in names)


@pytest.mark.parametrize("fate", ["live", "killed"])
def test_stop_string_across_the_suspension_ends_at_the_same_place(record, supervisors, fate):
    supervisor = supervisors(record)
    plain, _ = undisturbed(supervisor, prompt_tokens(30), sampling=SAMPLED)
    crossing = [
        at
        for at in range(5, 30)
        if plain.text.find(stop_string_over(plain, at))
        == len("".join(m.text for m in plain.now.emitted[:at])) - 2
    ]
    assert len(crossing) >= 3
    for at in crossing[:3]:
        options = {"sampling": SAMPLED, "stop": (stop_string_over(plain, at),)}
        calm, expected = undisturbed(supervisor, prompt_tokens(30), **options)
        assert expected.finish_reason == "stop"
        run = Run(supervisor, prompt_tokens(30), **options)
        assert run.until_tokens(len(calm.tokens) - 2)
        run.interrupt(fate)
        assert same(run.finish(), expected)
        assert run.text == calm.text


def test_suspended_request_that_drew_padded_ids_goes_on(home, supervisors):
    folder = pad_vocabulary(make_tiny(home / "src" / "padded", "llama"), 520)
    record = import_model(folder, home, "padded", lambda _phase, _percent: None)
    supervisor = supervisors(msgspec.structs.replace(record, vocab_size=512))
    calm, expected = undisturbed(supervisor, prompt_tokens(30))
    assert max(calm.tokens[:8]) >= 512
    run = Run(supervisor, prompt_tokens(30))
    assert run.until_tokens(10)
    run.interrupt("killed")
    assert same(run.finish(), expected)
    assert run.tokens == calm.tokens


def test_stop_string_completed_by_the_drawn_token_ends_the_request(record, supervisors):
    supervisor = supervisors(record)
    plain, _ = undisturbed(supervisor, prompt_tokens(30), sampling=SAMPLED)
    options = {"sampling": SAMPLED, "stop": (plain.text[20:26],)}
    calm, expected = undisturbed(supervisor, prompt_tokens(30), "s", **options)
    run = Run(supervisor, prompt_tokens(30), "s", **options)
    assert run.until_tokens(len(calm.tokens) - 1)
    answer = run.suspend()
    assert isinstance(answer, Finished)
    assert same(answer, expected)
    assert run.tokens == calm.tokens
    assert supervisor.engine.beat().live_sessions == ("s",)


def test_character_split_by_the_suspension_comes_out_whole(record, supervisors):
    supervisor = supervisors(record)
    tokenizer = supervisor.engine._seat.seated.kit.tokenizer
    first, second = tokenizer.convert_tokens_to_ids(["Ã", "©"])
    sampling = Sampling(logit_bias=((second, 100.0),))
    run = Run(supervisor, prompt_tokens(9), sampling=sampling, max_tokens=2)
    run.started()
    run.suspend()
    prompt = run.now.started.prompt
    start = msgspec.structs.replace(
        run.first, request="t:99", resume=Resume(prompt=prompt, emitted=pack_tokens([first]))
    )
    supervisor.engine.handle(start)
    finished = supervisor.until(Finished, "t:99")
    assert finished.text == "é"
    assert [m.text for m in supervisor.outcome("t:99").emitted] == ["é"]


def test_text_and_logprobs_of_the_parts_are_those_of_the_whole(record, supervisors):
    supervisor = supervisors(record)
    options = {"sampling": SAMPLED, "logprobs": 3}
    calm, expected = undisturbed(supervisor, prompt_tokens(30), **options)
    run = Run(supervisor, prompt_tokens(30), **options)
    for point in range(3, 39, 5):
        run.until_tokens(point)
        run.interrupt("live")
    assert run.finish().text == run.text == expected.text
    assert run.logprobs == calm.logprobs
    assert len(run.logprobs) == 40


@pytest.mark.parametrize("max_tokens", [6, 7])
def test_limit_reached_at_or_right_after_the_suspension_counts_all_tokens(
    record, supervisors, max_tokens
):
    supervisor = supervisors(record)
    _, expected = undisturbed(supervisor, prompt_tokens(30), max_tokens=max_tokens)
    run = Run(supervisor, prompt_tokens(30), max_tokens=max_tokens)
    assert run.until_tokens(5)
    answer = run.suspend()
    if max_tokens == 6:
        assert isinstance(answer, Finished)
    else:
        run.resume()
    assert same(run.finish(), expected)
    assert expected.limit == "max_tokens"


def test_request_whose_finished_was_lost_finishes_without_another_token(record, supervisors):
    supervisor = supervisors(record)
    run, expected = undisturbed(supervisor, prompt_tokens(30), "s", max_tokens=9)
    supervisor.seat()
    run.resume(None)
    finished = run.finish()
    assert same(finished, expected)
    assert finished.hint == expected.hint, "it stands where it stood"
    assert run.now.tokens == []
    assert supervisor.engine.beat().live_sessions == ("s",)


def test_context_that_is_full_to_the_last_token_can_be_resumed(record, supervisors):
    supervisor = supervisors(record)
    run, expected = undisturbed(supervisor, prompt_tokens(1000), "s", max_tokens=None)
    assert expected.limit == "context"
    supervisor.seat()
    run.resume(None)
    assert same(run.finish(), expected)


def test_end_of_turn_that_is_drawn_already_finishes_instead(ending, supervisors):
    supervisor = supervisors(ending)
    likely = tuple((token, 4.0) for token in ending.eos_token_ids)
    options = {"sampling": Sampling(temperature=1.0, logit_bias=likely), "max_tokens": 600}
    calm, expected = undisturbed(supervisor, prompt_tokens(30), "s", **options)
    assert expected.closed
    run = Run(supervisor, prompt_tokens(30), "s", **options)
    assert run.until_tokens(len(calm.tokens))
    answer = run.suspend()
    assert isinstance(answer, Finished)
    assert same(answer, expected)


def test_suspension_in_prefill_keeps_what_was_fed(record, supervisors):
    supervisor = supervisors(record)
    calm, _ = undisturbed(supervisors(record), prompt_tokens(700))
    run = Run(supervisor, prompt_tokens(700))
    supervisor.until(Prefilled, run.request)
    answer = run.suspend()
    assert answer.completion_tokens == 0
    assert unpack_tokens(answer.context) == prompt_tokens(700)[:256]
    run.resume()
    assert run.started().live_tokens == 256
    run.finish()
    assert run.tokens == calm.tokens


def test_request_that_waits_is_suspended_with_nothing_and_keeps_its_session(record, supervisors):
    supervisor = supervisors(record)
    supervisor.turn(prompt_tokens(30), "s")
    busy = supervisor.start(prompt_tokens(700, 2))
    run = Run(supervisor, prompt_tokens(10, 5), "s")
    answer = run.suspend()
    assert (answer.context, answer.completion_tokens) == (b"", 0)
    assert "s" in supervisor.engine.beat().live_sessions
    supervisor.finish(busy)
    run.resume()
    assert run.started().live_tokens == 38 - UNFED


def test_suspended_twice_in_a_row_goes_on_where_it_was(record, supervisors):
    supervisor = supervisors(record)
    calm, _ = undisturbed(supervisor, prompt_tokens(30), sampling=SAMPLED)
    run = Run(supervisor, prompt_tokens(30), sampling=SAMPLED)
    run.until_tokens(8)
    first = run.suspend()
    run.resume()
    second = run.suspend("held:2")
    assert second.completion_tokens == first.completion_tokens == 9
    assert second.context == first.context
    assert supervisor.engine.beat().live_sessions == ("held:2",)
    run.resume("held:2")
    assert run.started().computed_tokens == 1
    run.finish()
    assert run.tokens == calm.tokens


def test_repeated_and_unknown_suspend_change_nothing(record, supervisors):
    supervisor = supervisors(record)
    run = Run(supervisor, prompt_tokens(30))
    run.until_tokens(4)
    supervisor.engine.handle(Suspend(request="t:none", hold_as="x"))
    run.suspend()
    supervisor.engine.handle(Suspend(request=run.request, hold_as="y"))
    supervisor.checkpoint()
    assert len([m for m in supervisor.messages if isinstance(m, Suspended)]) == 1
    assert supervisor.engine.beat().live_sessions == (HELD,)


def test_neighbours_in_the_batch_do_not_notice(record, supervisors):
    supervisor = supervisors(record)
    prompts = [prompt_tokens(30), prompt_tokens(90, 4), prompt_tokens(60, 5)]
    alone = [undisturbed(supervisor, prompt, sampling=SAMPLED)[0].tokens for prompt in prompts]
    runs = [Run(supervisor, prompt, sampling=SAMPLED) for prompt in prompts]
    for point in (5, 11, 20):
        runs[0].until_tokens(point)
        runs[0].interrupt("live")
    for run in runs:
        run.finish()
    for run, tokens in zip(runs, alone, strict=True):
        expect_as_alone(run.tokens, tokens)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_checkpoint_makes_a_suspended_request_durable_under_its_name(home, supervisors, kind):
    supervisor = supervisors(tiny_record(home, kind, f"durable-{kind}"))
    run = Run(supervisor, prompt_tokens(300))
    run.until_tokens(9)
    run.suspend()
    supervisor.checkpoint()
    assert [m.session for m in supervisor.messages if isinstance(m, TailWritten)] == [HELD]
    supervisor.seat()
    run.resume()
    assert run.started().computed_tokens == 1
    assert run.started().live_tokens == 0


def test_unpersisted_request_is_suspended_without_touching_the_disk(record, supervisors):
    supervisor = supervisors(record)
    run = Run(supervisor, prompt_tokens(300), persist=False)
    run.until_tokens(9)
    run.suspend()
    assert supervisor.checkpoint().sessions == 0
    run.resume()
    assert run.started().computed_tokens == 1
    run.finish()
    assert supervisor.blocks == {}
    assert supervisor.tails == []


def test_dropped_suspension_is_computed_again(record, supervisors):
    supervisor = supervisors(record)
    calm, _ = undisturbed(supervisor, prompt_tokens(60))
    run = Run(supervisor, prompt_tokens(60))
    run.until_tokens(9)
    run.suspend()
    supervisor.engine.handle(Drop(session=HELD))
    assert supervisor.engine.beat().live_sessions == ()
    run.resume()
    assert run.started().live_tokens == 0
    run.finish()
    assert run.tokens == calm.tokens


def test_finished_session_replaces_the_one_from_before_the_suspension(record, supervisors):
    supervisor = supervisors(record)
    supervisor.turn(prompt_tokens(30), "s")
    run = Run(supervisor, prompt_tokens(10, 5), "s")
    run.until_tokens(4)
    run.interrupt("live")
    finished = run.finish()
    assert supervisor.engine.beat().live_sessions == ("s",)
    live = supervisor.engine._seat.keeper.live.find("s")
    assert live.trace.tokens == unpack_tokens(finished.context)[:-UNFED]


def test_resumed_request_that_is_cancelled_while_it_waits_keeps_its_text(record, supervisors):
    supervisor = supervisors(record)
    run = Run(supervisor, prompt_tokens(30), "s", sampling=SAMPLED)
    run.until_tokens(8)
    run.suspend()
    run.resume()
    supervisor.engine.handle(CancelWork(request=run.request))
    finished = run.finish()
    assert finished.finish_reason == "cancelled"
    assert (finished.completion_tokens, finished.text) == (9, run.text)
    assert unpack_tokens(finished.context) == prompt_tokens(30) + run.tokens


def test_resume_that_no_longer_fits_is_refused(record, supervisors):
    supervisor = supervisors(record)
    run = Run(supervisor, prompt_tokens(600), max_tokens=200)
    run.until_tokens(150)
    run.suspend()
    supervisor.load["kv_budget_bytes"] = 700 * record.kv_bytes_per_token
    supervisor.seat()
    run.resume()
    assert supervisor.until(Refused, run.request).code == "context_overflow"


def test_unload_ends_what_still_runs_and_the_next_load_starts_clean(record, supervisors):
    supervisor = supervisors(record)
    run = Run(supervisor, prompt_tokens(60))
    run.until_tokens(9)
    supervisor.engine.handle(Unload())
    supervisor.pump()
    assert any(isinstance(m, Unloaded) for m in supervisor.messages)
    assert "unloaded" in run.now.messages[-1].message
    assert not isinstance(run.now.messages[-1], Emitted)
