"""Prompts on their way into a batch: several in a step, one chunk's worth of them at most."""

import pytest
from tests.support.engine.beside_others import expect_as_alone
from tests.support.engine.engine_harness import prompt_tokens, tiny_record

from hotseat.protocol.link_orders import CancelWork
from hotseat.protocol.link_reports import Emitted, Finished, Prefilled
from hotseat.protocol.messages import Sampling
from hotseat.worker.batch.runner import PASS_TOKENS

CHUNK = 256
WARM = Sampling(temperature=0.9, repetition_penalty=1.3)


@pytest.fixture(scope="module", params=["llama", "lfm2", "gemma3"])
def record(request, tmp_path_factory):
    return tiny_record(tmp_path_factory.mktemp("models"), request.param)


def step(supervisor):
    """Messages of one step; lookups are answered before it."""
    supervisor.pump()
    seen = len(supervisor.messages)
    supervisor.engine.step()
    supervisor.pump()
    return supervisor.messages[seen:]


def fed_tokens(messages, before):
    """Prompt tokens that went into KV, by request; `before` keeps what each has."""
    fed = 0
    for message in messages:
        if isinstance(message, Prefilled):
            fed += message.tokens_done - before.get(message.request, 0)
            before[message.request] = message.tokens_done
    return fed


def test_short_prompts_that_came_together_are_fed_in_one_step(supervisor):
    together = {supervisor.start(prompt_tokens(60, seed), max_tokens=4) for seed in range(3)}
    fed = [message.request for message in step(supervisor) if isinstance(message, Prefilled)]
    assert set(fed) == together


def test_prompts_of_a_step_are_no_more_than_a_chunk(supervisor):
    running = supervisor.start(prompt_tokens(10), max_tokens=60)
    supervisor.until(Emitted, running)
    others = [supervisor.start(prompt_tokens(150, seed), max_tokens=2) for seed in (1, 2, 3)]
    others.append(supervisor.start(prompt_tokens(400, 4), max_tokens=2))
    before = {}
    while not {m.request for m in supervisor.messages if isinstance(m, Finished)} >= set(others):
        messages = step(supervisor)
        # The last token of a prompt is fed by the decode step that it joins.
        assert fed_tokens(messages, before) <= CHUNK + len(others)


def test_running_request_gets_a_token_with_every_step_while_prompts_are_fed(supervisor):
    running = supervisor.start(prompt_tokens(10), max_tokens=60)
    supervisor.until(Emitted, running)
    long = supervisor.start(prompt_tokens(900, 5), max_tokens=2)
    supervisor.until(Prefilled, long)
    for _ in range(3):
        said = [m for m in step(supervisor) if isinstance(m, Emitted) and m.request == running]
        assert len(said) == 1


def test_shortest_chunks_count_as_a_pass_of_the_model(supervisor):
    running = supervisor.start(prompt_tokens(10), max_tokens=60)
    supervisor.until(Emitted, running)
    for seed in range(2 * CHUNK // PASS_TOKENS):
        supervisor.start(prompt_tokens(5, seed), max_tokens=2)
    fed = [m for m in step(supervisor) if isinstance(m, Prefilled) and m.request != running]
    assert len(fed) == CHUNK // PASS_TOKENS


def test_twice_as_many_short_prompts_begin_together_while_nobody_decodes(supervisor):
    for seed in range(4 * CHUNK // PASS_TOKENS):
        supervisor.start(prompt_tokens(5, seed), max_tokens=2)
    fed = [message for message in step(supervisor) if isinstance(message, Prefilled)]
    assert len(fed) == 2 * CHUNK // PASS_TOKENS


def test_request_that_could_begin_waits_once_for_short_prompts_behind_it(supervisor):
    first = supervisor.start(prompt_tokens(60, 1), max_tokens=20)
    assert [m.request for m in step(supervisor) if isinstance(m, Prefilled)] == [first]
    second = supervisor.start(prompt_tokens(60, 2), max_tokens=20)
    fed = [message for message in step(supervisor) if isinstance(message, Prefilled)]
    assert [message.request for message in fed] == [second], "nobody has begun"
    supervisor.start(prompt_tokens(60, 3), max_tokens=20)
    begun = {message.request for message in step(supervisor) if isinstance(message, Emitted)}
    assert begun == {first, second}, "nobody waits twice"


def test_request_that_could_begin_does_not_wait_for_a_long_prompt(supervisor):
    first = supervisor.start(prompt_tokens(60, 1), max_tokens=20)
    step(supervisor)
    supervisor.start(prompt_tokens(900, 2), max_tokens=20)
    assert first in {m.request for m in step(supervisor) if isinstance(m, Emitted)}


def test_long_prompt_is_fed_a_chunk_a_step_also_while_nobody_decodes(supervisor):
    supervisor.start(prompt_tokens(900, 5), max_tokens=2)
    before = {}
    assert [fed_tokens(step(supervisor), before) for _ in range(3)] == [CHUNK] * 3


def test_rows_that_joined_others_draw_what_they_draw_alone(supervisor):
    asked = [
        (prompt_tokens(70, 1), {}),
        (prompt_tokens(40, 2), {"sampling": WARM, "seed": 7}),
        (prompt_tokens(130, 3), {"logprobs": 2}),
    ]
    alone = [supervisor.turn(prompt, max_tokens=20, **more) for prompt, more in asked]
    requests = [supervisor.start(prompt, max_tokens=20, **more) for prompt, more in asked]
    together = [supervisor.finish(request) for request in requests]
    for one, other in zip(together, alone, strict=True):
        expect_as_alone(one.tokens, other.tokens)


def test_logprobs_of_a_row_beside_others_belong_to_its_tokens(supervisor):
    supervisor.start(prompt_tokens(70, 1), max_tokens=12)
    request = supervisor.start(prompt_tokens(40, 2), max_tokens=12, logprobs=1)
    outcome = supervisor.finish(request)
    entries = [entry for message in outcome.emitted for entry in message.logprobs]
    assert [entry.token for entry in entries] == outcome.tokens
    assert all(entry.top[0][0] == entry.token for entry in entries), "greedy takes the likeliest"


def test_prompt_that_is_cancelled_before_it_joins_leaves_the_others_alone(supervisor):
    alone = supervisor.turn(prompt_tokens(60, 1), max_tokens=10).tokens
    kept = supervisor.start(prompt_tokens(60, 1), max_tokens=10)
    gone = supervisor.start(prompt_tokens(60, 2), "s", max_tokens=10)
    step(supervisor)
    supervisor.engine.handle(CancelWork(request=gone))
    assert supervisor.finish(gone).finished.finish_reason == "cancelled"
    assert supervisor.finish(kept).tokens == alone
