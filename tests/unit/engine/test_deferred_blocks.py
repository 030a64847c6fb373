"""On a day of much writing no block of a running request is written, and nothing is lost by it."""

import pytest
from tests.support.engine.engine_harness import prompt_tokens, tiny_record

from hotseat.protocol.link_orders import Defer, Suspend
from hotseat.protocol.link_reports import BlockWritten, Emitted, Suspended


@pytest.fixture
def record(home):
    return tiny_record(home, "llama", context=2048)


def written(supervisor):
    return sum(isinstance(message, BlockWritten) for message in supervisor.messages)


def test_deferred_blocks_are_written_at_the_checkpoint_and_read_back(supervisor):
    supervisor.engine.handle(Defer(blocks=True))
    supervisor.turn(prompt_tokens(600), "one")
    supervisor.turn(prompt_tokens(300, 2), "one")
    supervisor.turn(prompt_tokens(600, 3))
    assert written(supervisor) == 0
    supervisor.checkpoint()
    assert (written(supervisor), len(supervisor.tails)) == (3, 1)
    supervisor.seat()
    found = supervisor.turn([7, 8], "one").started
    assert found.prompt_tokens - found.restored_tokens <= 3


def test_suspended_request_is_written_whole_at_its_swap(supervisor):
    supervisor.engine.handle(Defer(blocks=True))
    request = supervisor.start(prompt_tokens(600), max_tokens=400)
    supervisor.until(Emitted, request)
    supervisor.engine.handle(Suspend(request=request, hold_as="held"))
    supervisor.until(Suspended, request)
    assert written(supervisor) == 0
    supervisor.checkpoint()
    assert (written(supervisor), len(supervisor.tails)) == (2, 1)


def test_running_request_is_written_again_once_the_day_allows_it(supervisor):
    supervisor.engine.handle(Defer(blocks=True))
    request = supervisor.start(prompt_tokens(500), "one", max_tokens=300)
    supervisor.until(Emitted, request)
    supervisor.engine.handle(Defer(blocks=False))
    supervisor.finish(request, "one")
    assert written(supervisor) == 3


@pytest.mark.parametrize("kind", ["gemma3", "lfm2"])
def test_what_leaves_a_window_or_a_state_is_not_deferred(home, supervisors, kind):
    supervisor = supervisors(tiny_record(home, kind))
    supervisor.engine.handle(Defer(blocks=True))
    supervisor.turn(prompt_tokens(600), "one")
    assert written(supervisor) >= 2
