"""Every cache kind of mlx-lm: rounds of save, death and restore change no token."""

import pytest

from engine_harness import FakeSupervisor, prompt_tokens, tiny_record

KINDS = (
    "llama",
    "qwen3",
    "gemma3",
    "gpt_oss",
    "mixtral",
    "deepseek_v2",
    "deepseek_v32",
    "lfm2",
    "falcon_h1",
    "mamba2",
    "recurrent_gemma",
)
ROUNDS = 5
PROMPTS = (300, 41, 130, 7, 64)
ANSWER = 64


def conversation(record, kv_dir, *, checkpoints: bool, deaths: bool):
    """Five turns, with a new worker between them or not; outcomes in order."""
    supervisor = FakeSupervisor(record, kv_dir)
    supervisor.seat()
    outcomes = []
    try:
        for number, length in enumerate(PROMPTS):
            prompt = prompt_tokens(length, number)
            outcomes.append(supervisor.turn(prompt, "s", max_tokens=ANSWER))
            if checkpoints:
                assert supervisor.checkpoint().failed == ()
            if deaths:
                supervisor.seat()
    finally:
        supervisor.unseat()
    return outcomes


@pytest.fixture(scope="module", params=KINDS)
def record(request, tmp_path_factory):
    return tiny_record(tmp_path_factory.mktemp("models"), request.param)


@pytest.fixture(scope="module")
def undisturbed(record, tmp_path_factory):
    kv_dir = tmp_path_factory.mktemp("kv")
    return conversation(record, kv_dir, checkpoints=False, deaths=False)


@pytest.mark.parametrize("checkpoints", [True, False], ids=["saved", "killed"])
def test_five_rounds_of_restoring_change_no_token(record, undisturbed, tmp_path, checkpoints):
    again = conversation(record, tmp_path, checkpoints=checkpoints, deaths=True)
    assert [one.tokens for one in again] == [one.tokens for one in undisturbed]
    assert {len(one.tokens) for one in again} == {ANSWER}
    assert all(one.started.miss == "" for one in again)
