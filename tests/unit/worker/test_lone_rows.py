"""A row without neighbours decodes in caches of one sequence, whoever was or comes beside it."""

import mlx_lm
import pytest
from mlx_lm.models.cache import BatchKVCache, BatchRotatingKVCache
from tests.support.engine.beside_others import expect_as_alone
from tests.support.engine.engine_harness import FakeSupervisor, prompt_tokens, tiny_record
from tests.support.engine.suspend_harness import HELD, SAMPLED, Run

from hotseat.protocol.link_orders import CancelWork
from hotseat.protocol.link_reports import Broken
from hotseat.protocol.messages import Sampling
from hotseat.worker.model.caches import FullKVCache, RingKVCache, leaves

PROMPT = 300
"""More than a chunk, more than gemma3's window."""
ANSWER = 60
LONG_ANSWER = 2000
PENALTY = Sampling(repetition_penalty=1.3)


@pytest.fixture(scope="module", params=["llama", "gemma3", "lfm2", "falcon_h1"])
def record(request, tmp_path_factory):
    return tiny_record(tmp_path_factory.mktemp("models"), request.param)


def by_library(supervisor, prompt):
    """What the library's own `stream_generate` says to the prompt."""
    seated = supervisor.engine._seat.seated
    said = mlx_lm.stream_generate(
        seated.model, seated.kit.tokenizer, prompt, max_tokens=ANSWER, prefill_step_size=256
    )
    return [one.token for one in said]


def forms(supervisor):
    """In what form the rows that decode keep K and V."""
    (rows,) = [lane._rows for lane in supervisor.engine._seat.runner.lanes if lane._rows.uids]
    names = {FullKVCache: "plain", RingKVCache: "plain"}
    found = set()
    for cache in leaves(rows.prompt_cache):
        is_batch = isinstance(cache, BatchKVCache | BatchRotatingKVCache)
        found.add("batch" if is_batch else names.get(type(cache)))
    return found - {None}


def begin(supervisor, count, seed, tokens, answer=ANSWER, **options):
    """A request that has said so many tokens."""
    request = supervisor.start(prompt_tokens(count, seed), max_tokens=answer, **options)
    while len(supervisor.outcome(request).tokens) < tokens:
        supervisor.advance()
        assert not any(isinstance(message, Broken) for message in supervisor.messages)
    return request


def test_lone_row_stays_plain_and_says_what_the_library_says(supervisor):
    request = begin(supervisor, PROMPT, 1, tokens=ANSWER // 2)
    assert forms(supervisor) == {"plain"}
    assert supervisor.finish(request).tokens == by_library(supervisor, prompt_tokens(PROMPT, 1))


def test_rows_are_a_batch_from_the_second_on_and_plain_when_one_is_left(supervisor):
    # Long answers: the others go on while the end of one waits for the disk.
    first = begin(supervisor, PROMPT, 1, tokens=3, answer=LONG_ANSWER)
    second = begin(supervisor, 280, 2, tokens=1, answer=LONG_ANSWER)
    assert forms(supervisor) == {"batch"}
    third = begin(supervisor, 310, 3, tokens=1, answer=LONG_ANSWER)
    supervisor.engine.handle(CancelWork(request=third))
    supervisor.finish(third)
    assert forms(supervisor) == {"batch"}
    supervisor.engine.handle(CancelWork(request=first))
    supervisor.finish(first)
    assert forms(supervisor) == {"plain"}
    supervisor.engine.handle(CancelWork(request=second))
    assert supervisor.finish(second).finished.finish_reason == "cancelled"


@pytest.mark.parametrize("leaver", ["first", "second"])
def test_tokens_are_the_same_while_another_row_joins_and_leaves(supervisor, leaver):
    prompts = {"first": prompt_tokens(PROMPT, 1), "second": prompt_tokens(270, 2)}
    begun = {"first": begin(supervisor, PROMPT, 1, tokens=10)}
    begun["second"] = begin(supervisor, 270, 2, tokens=10)
    gone = begun.pop(leaver)
    supervisor.engine.handle(CancelWork(request=gone))
    said = supervisor.finish(gone).tokens
    expect_as_alone(said, by_library(supervisor, prompts[leaver])[: len(said)])
    ((stayer, request),) = begun.items()
    expect_as_alone(supervisor.finish(request).tokens, by_library(supervisor, prompts[stayer]))


def test_row_joins_with_a_prompt_of_one_token(supervisor):
    first = begin(supervisor, 1, 1, tokens=5)
    second = begin(supervisor, 1, 2, tokens=5)
    assert forms(supervisor) == {"batch"}
    for request, seed in ((first, 1), (second, 2)):
        alone = by_library(supervisor, prompt_tokens(1, seed))
        expect_as_alone(supervisor.finish(request).tokens, alone)


@pytest.mark.parametrize("options", [{}, {"sampling": SAMPLED}, {"logprobs": 2}])
def test_lone_row_that_is_suspended_goes_on_beside_another(supervisor, options):
    prompt = prompt_tokens(PROMPT, 1)
    calm = Run(supervisor, prompt, max_tokens=ANSWER, **options)
    calm.finish()
    run = Run(supervisor, prompt, max_tokens=ANSWER, **options)
    assert run.until_tokens(20)
    run.suspend()
    begin(supervisor, 290, 2, tokens=3, answer=200)  # no longer, so that both share a lane
    run.resume()
    run.until_tokens(30)
    assert forms(supervisor) == {"batch"}
    run.finish()
    expect_as_alone(run.tokens, calm.tokens)
    assert [one.token for one in run.logprobs] == run.tokens[: len(run.logprobs)]
    assert len(run.logprobs) == len(calm.logprobs)


def test_row_suspended_beside_another_goes_on_alone(supervisor):
    neighbour = begin(supervisor, 290, 2, tokens=3, answer=LONG_ANSWER, sampling=PENALTY)
    run = Run(supervisor, prompt_tokens(PROMPT, 1), max_tokens=ANSWER, sampling=PENALTY)
    assert run.until_tokens(20)
    run.suspend()
    assert forms(supervisor) == {"plain"}
    supervisor.engine.handle(CancelWork(request=neighbour))
    supervisor.finish(neighbour)
    run.resume()
    run.until_tokens(25)
    assert forms(supervisor) == {"plain"}
    run.finish()
    calm = Run(supervisor, prompt_tokens(PROMPT, 1), max_tokens=ANSWER, sampling=PENALTY)
    calm.finish()
    expect_as_alone(run.tokens, calm.tokens)


def test_ring_that_leaves_keeps_no_more_than_its_window(tmp_path):
    supervisor = FakeSupervisor(tiny_record(tmp_path, "gemma3"), tmp_path / "kv")
    supervisor.seat()
    try:
        run = Run(supervisor, prompt_tokens(600), max_tokens=ANSWER)
        run.started()
        assert supervisor.engine._seat.runner.is_prefilling
        run.suspend()
        held = supervisor.engine._seat.keeper.live.find(HELD)
        rings = [cache for cache in leaves(held.caches) if isinstance(cache, RingKVCache)]
        assert rings
        assert {ring.keys.shape[2] for ring in rings} == {ring.max_size for ring in rings}
    finally:
        supervisor.unseat()
