"""Memory is short: idle contexts leave the engine, the oldest first, and none is lost."""

import pytest
from tests.support.engine.engine_harness import prompt_tokens, tiny_record

from hotseat.protocol.link_orders import Shrink
from hotseat.protocol.link_reports import TailWritten


@pytest.fixture(scope="module")
def record(home):
    return tiny_record(home, "llama")


def test_oldest_contexts_leave_and_go_on_from_the_disk(supervisor):
    first = supervisor.turn(prompt_tokens(300), "old")
    supervisor.turn(prompt_tokens(300, 1), "new")
    supervisor.engine.handle(Shrink(keep=1))
    supervisor.until(TailWritten)
    while len(supervisor.engine.beat().live_sessions) > 1:
        supervisor.advance()
    assert supervisor.engine.beat().live_sessions == ("new",)
    again = supervisor.turn(prompt_tokens(5, 2), "old")
    assert again.started.live_tokens == 0
    assert again.started.restored_tokens >= 300 + len(first.tokens) - 1


def test_nothing_leaves_when_no_more_are_kept_than_asked_for(supervisor):
    supervisor.turn(prompt_tokens(20), "only")
    supervisor.engine.handle(Shrink(keep=3))
    assert supervisor.engine.beat().live_sessions == ("only",)
