"""Every kind of cache that is served: rounds of save, death and restore change no token."""

import random

import pytest
from tests.support.engine.engine_harness import UNFED, FakeSupervisor, prompt_tokens, tiny_record
from tests.support.engine.killed_engine import turn_then_kill
from tests.support.engine.suspend_harness import GREEDY, SAMPLED, Run

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link_reports import Prefilled

KINDS = (
    "llama",
    "qwen3",
    "gemma3",
    "gpt_oss",
    "mixtral",
    "deepseek_v2",
    "lfm2",
    "falcon_h1",
    "mamba2",
)
PROMPTS = (280, 41, 30, 7, 64)
ANSWER = 64
NEW = (PROMPTS[0], *(length + UNFED for length in PROMPTS[1:]))
"""What each turn has to compute."""


def conversation(record, kv_dir, *, is_disturbed: bool):
    """Five turns, each saved and followed by a new worker, or not; outcomes in order."""
    supervisor = FakeSupervisor(record, kv_dir)
    supervisor.seat()
    outcomes = []
    try:
        for number, length in enumerate(PROMPTS):
            prompt = prompt_tokens(length, number)
            outcomes.append(supervisor.turn(prompt, "s", max_tokens=ANSWER))
            if is_disturbed:
                assert supervisor.checkpoint().failed == ()
                supervisor.seat()
    finally:
        supervisor.unseat()
    return outcomes


@pytest.fixture(scope="module", params=KINDS)
def record(request, tmp_path_factory):
    return tiny_record(tmp_path_factory.mktemp("models"), request.param)


@pytest.fixture(scope="module")
def undisturbed(record, tmp_path_factory):
    return conversation(record, tmp_path_factory.mktemp("kv"), is_disturbed=False)


def test_five_rounds_of_saving_and_restoring_change_no_token(record, undisturbed, tmp_path):
    again = conversation(record, tmp_path, is_disturbed=True)
    assert [one.tokens for one in again] == [one.tokens for one in undisturbed]
    assert {len(one.tokens) for one in again} == {ANSWER}
    assert [one.started.computed_tokens for one in again] == list(NEW)


def test_five_rounds_of_kill_9_change_no_token(record, undisturbed, tmp_path):
    known: dict = {}
    for number, expected in enumerate(undisturbed):
        prompt = prompt_tokens(PROMPTS[number], number)
        tokens, started, known = turn_then_kill(record, tmp_path, known, prompt, ANSWER)
        assert tokens == expected.tokens, f"round {number}"
        assert started.miss == ""
        lost = started.computed_tokens - NEW[number]
        assert lost == 0 if record.is_recurrent else lost <= 255


SUSPENDED_PROMPT = 250
SUSPENDED_ANSWER = 40
POINTS = 12


@pytest.fixture(scope="module", params=["lfm2", "falcon_h1"])
def hybrid_kind(request):
    return request.param


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def hybrid(request, hybrid_kind, tmp_path_factory):
    home = tmp_path_factory.mktemp("models")
    return tiny_record(home, hybrid_kind, dtype=request.param)


def suspended(record, kv_dir, sampling, fate=None):
    """One request, interrupted at random points unless there is no fate; its tokens and end."""
    supervisor = FakeSupervisor(record, kv_dir)
    supervisor.seat()
    try:
        points = random.Random(f"{fate}{sampling}").sample(range(1, SUSPENDED_ANSWER), POINTS)
        prompt = prompt_tokens(SUSPENDED_PROMPT)
        run = Run(supervisor, prompt, "s", sampling=sampling, max_tokens=SUSPENDED_ANSWER)
        for point in sorted(points) if fate is not None else ():
            assert run.until_tokens(point)
            run.interrupt(fate)
        finished = run.finish()
        return run.tokens, finished.context, finished.hint
    finally:
        supervisor.unseat()


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_hybrid_suspended_at_random_points_goes_on_with_the_same_tokens(hybrid, sampling, tmp_path):
    expected = suspended(hybrid, tmp_path / "kept", sampling)
    for fate in ("live", "checkpointed", "killed"):
        assert suspended(hybrid, tmp_path / fate, sampling, fate) == expected, fate
    assert len(expected[0]) == SUSPENDED_ANSWER


def test_hybrid_suspended_while_it_feeds_its_prompt_goes_on_with_the_same_tokens(hybrid, tmp_path):
    def run(kv_dir, *, is_suspended):
        supervisor = FakeSupervisor(hybrid, kv_dir)
        supervisor.seat()
        try:
            one = Run(supervisor, prompt_tokens(900), "s", max_tokens=20)
            if is_suspended:
                supervisor.until(Prefilled, one.request)
                one.interrupt("checkpointed")
                assert 0 < one.started().restored_tokens < 900
            one.finish()
            return one.tokens
        finally:
            supervisor.unseat()

    kept = run(tmp_path / "kept", is_suspended=False)
    assert run(tmp_path / "again", is_suspended=True) == kept


@pytest.mark.parametrize("kind", ["falcon_h1", "mamba2", "mixtral", "deepseek_v32"])
def test_rows_that_share_a_batch_are_each_restored_exactly(kind, tmp_path):
    record = tiny_record(tmp_path, kind)

    def second_turns(kv_dir, *, is_lost):
        supervisor = FakeSupervisor(record, kv_dir)
        supervisor.seat()
        try:
            names = ("a", "b", "c")
            for number, name in enumerate(names):
                supervisor.start(prompt_tokens(200 + 90 * number, number), name, max_tokens=60)
            for number, name in enumerate(names, 1):
                supervisor.finish(RequestKey(f"t:{number}"), name)
            assert supervisor.checkpoint().failed == ()
            if is_lost:
                supervisor.seat()
            return [supervisor.turn(prompt_tokens(9, 7), name, max_tokens=30) for name in names]
        finally:
            supervisor.unseat()

    kept = second_turns(tmp_path / "kept", is_lost=False)
    again = second_turns(tmp_path / "again", is_lost=True)
    assert [one.tokens for one in again] == [one.tokens for one in kept]
    assert all(one.started.live_tokens == 0 for one in again)
    assert [one.started.computed_tokens for one in again] == [9 + UNFED] * 3
