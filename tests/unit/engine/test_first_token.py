"""The first token is told at the end of the prompt, a step before it is in KV."""

import base64

import pytest
from tests.support.engine.engine_harness import prompt_tokens, tiny_record

from hotseat.protocol.link_orders import CancelWork, Suspend
from hotseat.protocol.link_reports import Emitted, Finished, Suspended
from hotseat.protocol.tokens import unpack_tokens


@pytest.fixture(scope="module")
def record(home):
    return tiny_record(home, "llama", context=2048)


def run_to_first_token(supervisor, **options):
    """Of a request that decodes from the next step on; its key and first token."""
    request = supervisor.start(prompt_tokens(20), **options)
    emitted = supervisor.until(Emitted, request)
    return request, emitted.tokens[0]


def fed_tokens(supervisor):
    return [turn.fed_tokens for turn in supervisor.engine._seat.runner.turns()]


def test_first_token_comes_with_the_last_chunk_and_once(supervisor):
    request, first = run_to_first_token(supervisor, max_tokens=4)
    assert fed_tokens(supervisor) == [20]

    outcome = supervisor.finish(request)

    assert outcome.tokens[0] == first
    assert len(outcome.tokens) == outcome.finished.completion_tokens == 4
    again = supervisor.turn(prompt_tokens(20), max_tokens=4)
    assert again.tokens == outcome.tokens


def test_cancel_right_after_the_first_token_keeps_it_in_the_context(supervisor):
    request, first = run_to_first_token(supervisor, session="s", max_tokens=50)

    supervisor.engine.handle(CancelWork(request=request))

    finished = supervisor.until(Finished, request)
    assert finished.finish_reason == "cancelled"
    assert finished.completion_tokens == 1
    assert unpack_tokens(finished.context) == [*prompt_tokens(20), first]


def test_suspension_right_after_the_first_token_does_not_tell_it_again(supervisor):
    request, first = run_to_first_token(supervisor, max_tokens=50)

    supervisor.engine.handle(Suspend(request=request, hold_as=".run-1"))

    suspended = supervisor.until(Suspended, request)
    assert suspended.completion_tokens == 1
    assert supervisor.outcome(request).tokens == [first]


def test_single_token_answer_ends_with_it(supervisor):
    outcome = supervisor.turn(prompt_tokens(20), max_tokens=1)
    assert outcome.finished.limit == "max_tokens"
    assert len(outcome.tokens) == 1
    assert unpack_tokens(outcome.finished.context) == prompt_tokens(20) + outcome.tokens


def test_log_probabilities_say_what_each_token_stands_for(supervisor):
    outcome = supervisor.turn(prompt_tokens(20), max_tokens=6, logprobs=3)
    entries = [entry for emitted in outcome.emitted for entry in emitted.logprobs]
    assert [entry.token for entry in entries] == outcome.tokens
    said = b"".join(base64.b64decode(entry.text) for entry in entries)
    assert said.decode(errors="replace") == outcome.text
    assert all(len(entry.top_texts) == len(entry.top) == 3 for entry in entries)
    assert entries[0].top_texts[0] == entries[0].text  # greedy: the likeliest was drawn
