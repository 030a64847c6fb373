"""The promise of the engine: same steps, same tokens, whatever happened to the worker between."""

from typing import Literal

import pytest
from tests.support.engine.engine_harness import UNFED, FakeSupervisor, prompt_tokens, tiny_record

FIRST_PROMPT = 700
FIRST_ANSWER = 150
"""Crosses a block boundary while decoding: 700 + 150 > 768."""
SECOND_PROMPT = 330
SECOND_ANSWER = 60

Fate = Literal["kept", "checkpointed", "killed"]


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def dtype(request):
    return request.param


@pytest.fixture(scope="module", params=["llama", "qwen3", "gemma3"])
def record(request, dtype, tmp_path_factory):
    return tiny_record(tmp_path_factory.mktemp("models"), request.param, dtype=dtype)


@pytest.fixture(scope="module")
def reference(record, tmp_path_factory):
    """Two turns that nothing disturbed."""
    return two_turns(record, tmp_path_factory.mktemp("kv"), "kept")


def two_turns(record, kv_dir, fate: Fate, first_answer=FIRST_ANSWER, second=SECOND_PROMPT):
    supervisor = FakeSupervisor(record, kv_dir)
    supervisor.seat()
    try:
        supervisor.turn(prompt_tokens(FIRST_PROMPT), "s", max_tokens=first_answer)
        if fate == "checkpointed":
            assert supervisor.checkpoint().failed == ()
        if fate != "kept":
            supervisor.seat()
        return supervisor.turn(prompt_tokens(second, 9), "s", max_tokens=SECOND_ANSWER)
    finally:
        supervisor.unseat()


def test_second_turn_after_checkpoint_and_reload_has_the_same_tokens(record, reference, tmp_path):
    again = two_turns(record, tmp_path, "checkpointed")
    assert again.tokens == reference.tokens
    assert len(again.tokens) == SECOND_ANSWER
    assert again.started.computed_tokens == SECOND_PROMPT + UNFED
    assert again.started.restored_tokens == FIRST_PROMPT + FIRST_ANSWER - UNFED
    assert again.started.live_tokens == 0
    assert reference.started.live_tokens == FIRST_PROMPT + FIRST_ANSWER - UNFED


def test_second_turn_after_a_killed_worker_has_the_same_tokens(record, reference, tmp_path):
    again = two_turns(record, tmp_path, "killed")
    assert again.tokens == reference.tokens
    lost = (FIRST_PROMPT + FIRST_ANSWER) % 256
    assert again.started.computed_tokens == SECOND_PROMPT + lost
    assert again.started.miss == ""


@pytest.mark.parametrize("fate", ["checkpointed", "killed"])
def test_single_new_token_after_reload_continues_the_same_ring(record, fate, tmp_path):
    """A chunk puts a ring into temporal order; one token does not, so its slot must be right."""
    kept = two_turns(record, tmp_path / "kept", "kept", second=1)
    again = two_turns(record, tmp_path / "again", fate, second=1)
    assert again.tokens == kept.tokens


def test_lost_tail_of_a_prompt_alone_is_computed_in_the_same_chunks(record, tmp_path):
    kept = two_turns(record, tmp_path / "kept", "kept", first_answer=1)
    again = two_turns(record, tmp_path / "again", "killed", first_answer=1)
    assert again.tokens == kept.tokens
    assert again.started.computed_tokens == SECOND_PROMPT + (FIRST_PROMPT + 1) % 256
