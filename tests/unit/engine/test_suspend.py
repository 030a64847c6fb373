"""Tokens are the same whether a request was suspended or not, wherever and however."""

import random

import pytest
from tests.support.engine.engine_harness import FakeSupervisor, prompt_tokens, tiny_record
from tests.support.engine.suspend_harness import GREEDY, SAMPLED, Fate, Run

PROMPT = 250
ANSWER = 60
"""The sequence passes a block boundary while it decodes, and gemma3's window long before."""
POINTS = 20


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def dtype(request):
    return request.param


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def record(request, dtype, tmp_path_factory):
    return tiny_record(tmp_path_factory.mktemp("models"), request.param, dtype=dtype)


@pytest.fixture(scope="module", params=[GREEDY, SAMPLED], ids=["greedy", "sampled"])
def sampling(request):
    return request.param


@pytest.fixture(scope="module")
def supervisors(record, tmp_path_factory):
    made = []

    def make():
        made.append(FakeSupervisor(record, tmp_path_factory.mktemp("kv")))
        made[-1].seat()
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.unseat()


@pytest.fixture(scope="module")
def undisturbed(supervisors, sampling):
    run = Run(supervisors(), prompt_tokens(PROMPT), "s", sampling=sampling, max_tokens=ANSWER)
    return run.finish(), run.tokens


@pytest.mark.parametrize("fate", ["live", "checkpointed", "killed"])
def test_tokens_after_random_suspensions_are_those_of_an_undisturbed_run(
    supervisors, undisturbed, sampling, fate: Fate
):
    """All points in one run: a difference at any of them changes what follows."""
    supervisor = supervisors()
    points = sorted(random.Random(f"{fate}{sampling}").sample(range(1, ANSWER), POINTS))
    run = Run(supervisor, prompt_tokens(PROMPT), "s", sampling=sampling, max_tokens=ANSWER)
    for point in points:
        assert run.until_tokens(point)
        run.interrupt(fate)
    finished = run.finish()
    expected, tokens = undisturbed
    assert run.tokens == tokens
    assert run.text == finished.text == expected.text
    assert finished.completion_tokens == ANSWER
    assert finished.context == expected.context
    assert finished.hint == expected.hint
    assert supervisor.engine.beat().live_sessions == ("s",)


def test_killed_second_turn_is_fed_again_in_the_shapes_of_its_session(
    record, supervisors, sampling
):
    """The lost tail holds a prompt, an answer and the next prompt: three kinds of steps."""

    def second_turn(points) -> tuple[list[int], bytes, bytes]:
        supervisor = supervisors()
        supervisor.turn(prompt_tokens(290), "s", max_tokens=12)
        run = Run(supervisor, prompt_tokens(40, 3), "s", sampling=sampling, max_tokens=20)
        for point in points:
            assert run.until_tokens(point)
            run.interrupt("killed")
            assert run.started().restored_tokens == 256
        finished = run.finish()
        return run.tokens, finished.context, finished.hint

    assert second_turn([1, 9, 17]) == second_turn([])
