"""One request in the engine: text, ends, limits, cancel, sampling, failures."""

import pytest
from msgspec import structs
from tests.support.engine.beside_others import expect_as_alone
from tests.support.engine.engine_harness import (
    UNFED,
    FakeSupervisor,
    make_engine,
    prompt_tokens,
    tiny_record,
)
from tests.support.models.reshaped import edit_json, nest, pad_vocabulary
from tests.support.models.tiny_models import make_tiny

from hotseat.library.importing import import_model
from hotseat.protocol.link_orders import (
    AppendInput,
    CancelWork,
    Drop,
    Stop,
    TextInput,
    TokensInput,
    WholeInput,
)
from hotseat.protocol.link_reports import (
    Broken,
    Emitted,
    Finished,
    Prefilled,
    Refused,
    Started,
    Stopped,
)
from hotseat.protocol.messages import Message, Sampling
from hotseat.protocol.tokens import pack_tokens, unpack_tokens
from hotseat.worker.batch.lane import _Feeding
from hotseat.worker.batch.rows import DecodingRows

PADDED = 515
"""An id beyond the tokenizer, within the weights."""
OTHER_END = {"eos_token": "<|endoftext|>"}


@pytest.fixture(scope="module")
def record(home):
    return tiny_record(home, "llama", context=2048)


def test_max_tokens_reached_ends_with_length_and_context_of_prompt_and_answer(supervisor):
    outcome = supervisor.turn(prompt_tokens(20), max_tokens=5)
    assert outcome.finished.finish_reason == "length"
    assert outcome.finished.limit == "max_tokens"
    assert outcome.finished.completion_tokens == len(outcome.tokens) == 5
    assert unpack_tokens(outcome.finished.context) == prompt_tokens(20) + outcome.tokens
    assert not outcome.finished.closed


@pytest.mark.parametrize("count", [1, 20, 300])
def test_no_tokens_asked_for_computes_the_prompt_and_says_nothing(supervisor, count):
    outcome = supervisor.turn(prompt_tokens(count), "s", max_tokens=0)
    assert (outcome.tokens, outcome.finished.text) == ([], "")
    assert (outcome.finished.finish_reason, outcome.finished.limit) == ("length", "max_tokens")
    again = supervisor.turn(prompt_tokens(3), "s", max_tokens=2)
    # The newest token has no KV: it is the first that the next turn computes.
    assert again.started.restored_tokens == count - 1
    whole = supervisor.turn(prompt_tokens(count) + prompt_tokens(3), max_tokens=2)
    assert again.tokens == whole.tokens


def test_stop_string_that_came_is_named(supervisor):
    text = supervisor.turn(prompt_tokens(20), max_tokens=40).text
    stop = text[5:8]
    outcome = supervisor.turn(prompt_tokens(20), max_tokens=40, stop=("@never@", stop))
    assert (outcome.finished.finish_reason, outcome.finished.stop_string) == ("stop", stop)
    assert supervisor.turn(prompt_tokens(20), max_tokens=4).finished.stop_string is None


def test_streamed_text_equals_final_text_and_decoded_tokens(supervisor):
    outcome = supervisor.turn(prompt_tokens(20), max_tokens=40)
    seated = supervisor.engine._seat.seated
    assert outcome.text == outcome.finished.text == seated.kit.tokenizer.decode(outcome.tokens)


def test_end_of_turn_token_ends_with_stop_outside_the_output(home, tmp_path):
    record = tiny_record(home, "llama", "ending", ends=True, seed=3)
    supervisor = FakeSupervisor(record, tmp_path)
    supervisor.seat()
    (end,) = record.eos_token_ids
    bias = Sampling(logit_bias=((end, 100.0),))
    first = supervisor.turn(prompt_tokens(20), max_tokens=4)
    outcome = supervisor.turn(prompt_tokens(20), sampling=bias)
    supervisor.unseat()
    assert len(first.tokens) == 4
    assert outcome.finished.finish_reason == "stop"
    assert outcome.finished.closed
    assert outcome.tokens == []
    assert outcome.text == ""
    assert unpack_tokens(outcome.finished.context) == [*prompt_tokens(20), end]


def test_end_that_only_the_template_states_ends_the_answer_and_is_not_shown(home, tmp_path):
    folder = make_tiny(home / "src" / "unsaid", "llama", ends=True, seed=3)
    edit_json(folder / "config.json", eos_token_id=0)
    edit_json(folder / "tokenizer_config.json", **OTHER_END)
    record = import_model(folder, home, "unsaid", lambda _phase, _percent: None)
    assert record.eos_token_ids == (0, 2)
    supervisor = FakeSupervisor(record, tmp_path)
    supervisor.seat()
    question = WholeInput(messages=(Message(role="user", content="Where?"),))
    bias = Sampling(logit_bias=((2, 100.0),))
    outcome = supervisor.turn(question, "s", sampling=bias, max_tokens=4)
    assert (outcome.finished.finish_reason, outcome.finished.closed) == ("stop", True)
    assert (outcome.text, outcome.tokens) == ("", [])
    more = AppendInput(messages=(Message(role="user", content="And when?"),))
    again = supervisor.turn(more, "s", max_tokens=1)
    prompt = supervisor.engine._seat.seated.kit.tokenizer.decode(
        unpack_tokens(again.started.prompt)
    )
    supervisor.unseat()
    assert "assistant\n<|im_end|>\n<|im_start|>user\nAnd when?" in prompt


def test_stop_string_ends_the_text_before_it_and_is_never_emitted(supervisor):
    whole = supervisor.turn(prompt_tokens(20), max_tokens=60)
    stop = whole.text[30:36]
    cut = whole.text[: whole.text.index(stop)]
    outcome = supervisor.turn(prompt_tokens(20), max_tokens=60, stop=(stop,))
    assert outcome.finished.finish_reason == "stop"
    assert outcome.finished.text == outcome.text == cut
    assert unpack_tokens(outcome.finished.context) == prompt_tokens(20) + outcome.tokens
    assert whole.tokens[: len(outcome.tokens)] == outcome.tokens


def test_stop_string_that_never_completes_is_released_at_the_end(supervisor):
    whole = supervisor.turn(prompt_tokens(20), max_tokens=30)
    stop = whole.text[-3:] + "\x00never"
    outcome = supervisor.turn(prompt_tokens(20), max_tokens=30, stop=(stop,))
    assert outcome.text == outcome.finished.text == whole.text


def test_prompt_longer_than_the_context_is_refused_with_the_numbers(supervisor):
    supervisor.start(prompt_tokens(2048))
    refused = supervisor.until(Refused)
    assert refused.code == "context_overflow"
    assert refused.facts["prompt_tokens"] == 2048
    assert refused.facts["context_tokens"] == 2048
    assert refused.facts["kv_fit_tokens"] > 0


def test_empty_prompt_is_refused(supervisor):
    supervisor.start([])
    assert supervisor.until(Refused).code == "invalid_request"


def test_token_outside_the_vocabulary_is_refused(supervisor):
    supervisor.start([5, 600])
    assert supervisor.until(Refused).code == "invalid_request"


@pytest.mark.parametrize("counted", [True, False], ids=["registered now", "registered before"])
def test_session_that_drew_a_padded_id_goes_on(home, tmp_path, counted):
    name = f"padded-{counted}"
    folder = pad_vocabulary(make_tiny(home / "src" / name, "llama"), 520)
    record = import_model(nest(folder, "mistral3"), home, name, lambda _phase, _percent: None)
    assert record.vocab_size == 520
    supervisor = FakeSupervisor(record, tmp_path)
    supervisor.seat()
    bias = Sampling(logit_bias=((PADDED, 1000.0),))
    first = supervisor.turn(prompt_tokens(20), "s", sampling=bias, max_tokens=3)
    supervisor.checkpoint()
    assert (first.tokens, first.text) == ([PADDED] * 3, "")
    if not counted:
        supervisor.record = structs.replace(record, vocab_size=512)
    supervisor.seat()
    assert len(supervisor.turn(prompt_tokens(5, 2), "s", max_tokens=4).tokens) == 4
    supervisor.start([5, 600])
    assert supervisor.until(Refused).facts["token"] == 600
    supervisor.unseat()


def test_answer_that_fills_the_window_ends_with_limit_context(supervisor):
    outcome = supervisor.turn(prompt_tokens(2000), max_tokens=500)
    assert outcome.finished.limit == "context"
    assert len(outcome.tokens) == 48


def test_answer_without_max_tokens_is_limited_by_the_window(supervisor):
    outcome = supervisor.turn(prompt_tokens(2030), max_tokens=None)
    assert outcome.finished.limit == "context"
    assert len(outcome.tokens) == 18


def test_cancel_while_decoding_keeps_what_was_reported(supervisor):
    request = supervisor.start(prompt_tokens(20), "s", max_tokens=500)
    supervisor.until(Emitted, request)
    supervisor.engine.handle(CancelWork(request=request))
    outcome = supervisor.finish(request, "s")
    assert outcome.finished.finish_reason == "cancelled"
    assert supervisor.contexts["s"] == prompt_tokens(20) + outcome.tokens
    again = supervisor.turn(prompt_tokens(5, 3), "s")
    assert again.started.restored_tokens == 20 + len(outcome.tokens)
    assert again.started.computed_tokens == 5


def test_cancel_in_prefill_keeps_whole_chunks_and_the_prompt_as_context(supervisor):
    request = supervisor.start(prompt_tokens(1000), "s")
    supervisor.until(Prefilled, request)
    supervisor.engine.handle(CancelWork(request=request))
    outcome = supervisor.finish(request, "s")
    assert outcome.finished.finish_reason == "cancelled"
    assert supervisor.contexts["s"] == prompt_tokens(1000)
    again = supervisor.turn(prompt_tokens(5, 3), "s")
    assert again.started.restored_tokens % 256 == 0
    assert again.started.restored_tokens >= 256
    assert again.started.prompt_tokens == 1005


def test_cancel_while_waiting_ends_once_and_others_go_on(supervisor):
    first = supervisor.start(prompt_tokens(600), max_tokens=30)
    second = supervisor.start(prompt_tokens(600, 4), max_tokens=30)
    supervisor.engine.handle(CancelWork(request=second))
    assert supervisor.finish(second).finished.finish_reason == "cancelled"
    assert len(supervisor.finish(first).tokens) == 30
    supervisor.engine.handle(CancelWork(request=second))
    finished = [m for m in supervisor.messages if isinstance(m, Finished)]
    assert len(finished) == 2


def test_same_seed_draws_the_same_tokens_alone_and_beside_others(supervisor):
    sampling = Sampling(temperature=1.0, top_p=0.9, top_k=40, min_p=0.01)
    alone = supervisor.turn(prompt_tokens(30), sampling=sampling, seed=7, max_tokens=24)
    other = supervisor.turn(prompt_tokens(30), sampling=sampling, seed=8, max_tokens=24)
    beside = [
        supervisor.start(prompt_tokens(30, n), sampling=sampling, seed=n, max_tokens=40)
        for n in range(1, 4)
    ]
    again = supervisor.turn(prompt_tokens(30), sampling=sampling, seed=7, max_tokens=24)
    for request in beside:
        supervisor.finish(request)
    expect_as_alone(again.tokens, alone.tokens)
    assert alone.tokens != other.tokens


def test_top_k_larger_than_the_vocabulary_is_no_error(supervisor):
    sampling = Sampling(temperature=1.0, top_k=100_000)
    assert len(supervisor.turn(prompt_tokens(9), sampling=sampling).tokens) == 8


def test_logprobs_name_the_greedy_token_first(supervisor):
    outcome = supervisor.turn(prompt_tokens(20), logprobs=3, max_tokens=4)
    for emitted in outcome.emitted:
        if not emitted.tokens:
            continue
        (entry,) = emitted.logprobs
        assert entry.token == emitted.tokens[0] == entry.top[0][0]
        assert entry.logprob == pytest.approx(entry.top[0][1])
        assert [value for _, value in entry.top] == sorted(
            (value for _, value in entry.top), reverse=True
        )


def test_logit_bias_forces_a_token_and_outside_the_vocabulary_is_refused(supervisor):
    forced = supervisor.turn(prompt_tokens(9), sampling=Sampling(logit_bias=((77, 100.0),)))
    assert set(forced.tokens) == {77}
    supervisor.start(prompt_tokens(9), sampling=Sampling(logit_bias=((512, 1.0),)))
    assert supervisor.until(Refused).code == "invalid_request"


def test_repetition_penalty_sees_the_restored_context(supervisor):
    """The last 20 tokens count, also those that were not fed in this turn."""
    forced = Sampling(logit_bias=((77, 60.0),))
    supervisor.turn(prompt_tokens(9), "s", sampling=forced, max_tokens=20)
    free = supervisor.turn([9], "s", sampling=Sampling(logit_bias=((77, 30.0),)), max_tokens=1)
    supervisor.turn(prompt_tokens(9), "t", sampling=forced, max_tokens=20)
    penalised = Sampling(logit_bias=((77, 30.0),), presence_penalty=2.0, frequency_penalty=2.0)
    held = supervisor.turn([9], "t", sampling=penalised, max_tokens=1)
    assert free.tokens == [77]
    assert held.tokens != [77]


def test_messages_are_rendered_whole_and_appended(supervisor):
    whole = WholeInput(messages=(Message(role="user", content="Which seat?"),))
    first = supervisor.turn(whole, "s")
    assert first.started.rendered
    more = AppendInput(messages=(Message(role="user", content="And then?"),))
    second = supervisor.turn(more, "s")
    assert not second.started.rendered
    assert second.started.live_tokens == len(unpack_tokens(first.finished.context)) - UNFED
    text = supervisor.engine._seat.seated.kit.tokenizer.decode(supervisor.contexts["s"])
    assert text.count("You are a tiny assistant") == 1
    assert text.index("Which seat?") < text.index("And then?")


def test_raw_text_continues_after_the_context(supervisor):
    first = supervisor.turn(TextInput(text="The quick brown"), "s")
    second = supervisor.turn(TextInput(text=" fox jumps"), "s")
    assert second.started.restored_tokens == len(unpack_tokens(first.finished.context)) - UNFED


def test_failing_request_is_broken_and_its_neighbours_go_on(supervisor, monkeypatch):
    alone = supervisor.turn(prompt_tokens(20), max_tokens=40).tokens
    steady = supervisor.start(prompt_tokens(20), max_tokens=40)
    supervisor.until(Emitted, steady)
    bad = supervisor.start(prompt_tokens(300, 5))
    supervisor.until(Started, bad)

    def explode(self, model, limit):
        raise RuntimeError("no such kernel")

    with monkeypatch.context() as patch:
        patch.setattr(_Feeding, "feed", explode)
        broken = supervisor.until(Broken)
    assert broken.request == bad
    assert "no such kernel" in broken.message
    assert supervisor.finish(steady).tokens == alone
    assert len(supervisor.turn(prompt_tokens(300, 5)).tokens) == 8


def test_failing_decode_step_breaks_its_rows_and_the_lane_lives_on(supervisor, monkeypatch):
    request = supervisor.start(prompt_tokens(20), max_tokens=40)
    supervisor.until(Emitted, request)

    def explode(self):
        raise RuntimeError("[malloc] unable to allocate")

    with monkeypatch.context() as patch:
        patch.setattr(DecodingRows, "step", explode)
        broken = supervisor.until(Broken)
    assert (broken.request, broken.code) == (request, "memory_pressure")
    assert len(supervisor.turn(prompt_tokens(20)).tokens) == 8


def test_decode_step_that_fails_beside_a_prompt_breaks_both(supervisor, monkeypatch):
    """Half a step leaves layers apart: going on would give wrong tokens in silence."""
    steady = supervisor.start(prompt_tokens(20), max_tokens=40)
    supervisor.until(Emitted, steady)
    long = supervisor.start(prompt_tokens(900, 5))
    supervisor.until(Prefilled, long)
    lane = next(lane for lane in supervisor.engine._seat.runner.lanes if lane.turns)
    layer = supervisor.engine._seat.seated.model.layers[1].self_attn

    def explode(self, *args, **kwargs):
        raise RuntimeError("no such kernel")

    with monkeypatch.context() as patch:
        patch.setattr(type(layer), "__call__", explode)
        supervisor.engine.step()
        supervisor.pump()
    broken = {m.request for m in supervisor.messages if isinstance(m, Broken)}
    assert broken == {steady, long}
    assert lane.turns == []
    assert len(supervisor.turn(prompt_tokens(20)).tokens) == 8


def test_dropped_session_is_forgotten(supervisor):
    supervisor.turn(prompt_tokens(20), "s", persist=False)
    supervisor.engine.handle(Drop(session="s"))
    assert supervisor.engine.beat().live_sessions == ()
    again = supervisor.turn(prompt_tokens(5, 2), "s", persist=False)
    assert again.started.restored_tokens == 0


def test_stop_refuses_new_work_and_reports_stopped_last(supervisor):
    request = supervisor.start(prompt_tokens(300), "s", max_tokens=1)
    supervisor.finish(request)
    supervisor.engine.handle(Stop())
    supervisor.start(prompt_tokens(5))
    assert supervisor.until(Refused).code == "shutting_down"
    supervisor.until(Stopped)
    assert isinstance(supervisor.messages[-1], Stopped)


def test_start_before_a_model_is_loaded_is_refused(record, tmp_path):

    sent = []
    engine = make_engine(sent.append)
    supervisor = FakeSupervisor(record, tmp_path)
    supervisor.engine = engine
    supervisor.start(TokensInput(tokens=pack_tokens([5])))
    engine.close()
    assert [type(message) for message in sent] == [Refused]
    assert sent[0].code == "not_seated"


def test_beat_shows_progress_and_the_live_session(supervisor):
    before = supervisor.engine.beat()
    supervisor.turn(prompt_tokens(20), "s")
    after = supervisor.engine.beat()
    assert after.step > before.step
    assert after.live_sessions == ("s",)
    assert after.live_kv_bytes > 0
    assert not after.busy
