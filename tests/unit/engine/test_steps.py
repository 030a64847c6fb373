"""What a dead worker had not written is computed again in the shapes it was first computed in.

Tokens alone cannot show this where kernels do not depend on shapes, so the records are compared.
"""

import pytest
from tests.support.engine.engine_harness import UNFED, FakeSupervisor, prompt_tokens, tiny_record

from hotseat.worker.context.steps import decode_hint


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def record(request, tmp_path_factory):
    return tiny_record(tmp_path_factory.mktemp("models"), request.param)


def steps_after(record, kv_dir, *, killed):
    """Steps behind the last full block after two turns; a block ends at 256, none later."""
    supervisor = FakeSupervisor(record, kv_dir)
    supervisor.seat()
    try:
        supervisor.turn(prompt_tokens(300), "s", max_tokens=40)
        if killed:
            supervisor.lose()
            supervisor.seat()
        second = supervisor.turn(prompt_tokens(20, 9), "s", max_tokens=10)
    finally:
        supervisor.unseat()
    return second, decode_hint(second.finished.hint)


def test_lost_tail_is_fed_in_the_steps_it_was_first_computed_in(record, tmp_path):
    kept, reference = steps_after(record, tmp_path / "kept", killed=False)
    again, hint = steps_after(record, tmp_path / "killed", killed=True)
    assert again.started.computed_tokens == kept.started.computed_tokens + (340 - UNFED) % 256
    assert again.tokens == kept.tokens
    assert hint == reference
    assert len(hint.steps) >= 4, "prompts and answers are told apart"
    assert sum(count for size, count in hint.steps if size == 1) >= 40 + 10 - 1 - 2 * UNFED
