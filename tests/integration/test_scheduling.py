"""Scheduling hints on the wire: order, deadlines, lingering, places and waits; stub workers."""

import time
import uuid
from functools import partial

import pytest
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import expected, stub_daemon
from tests.support.peers.raw_peer import RawPeer, tokens_of

from hotseat.protocol.messages import Cancel, Generate
from hotseat.protocol.replies import Accepted, Done, ErrorBody, Progress

SLOW_S = 0.02
ENDLESS = 100_000
MODELS = {"slow": {"slow_token_s": SLOW_S, "reply_tokens": ENDLESS}}
SETTINGS = "[limits]\nmax_waiting = 8\n"
DAEMON = partial(stub_daemon, ["a", "b", "slow"], SETTINGS, reply_tokens=8, models=MODELS)


@pytest.fixture
def peer(daemon):
    """All that is still under way is cancelled afterwards."""
    with RawPeer(daemon.endpoint().requests) as raw:
        raw.said = []
        yield raw
        for request in raw.said:
            raw.say(Cancel(request_id=request), "cancel")
        with daemon.client() as client:
            wait_for(lambda: not client.status().requests, what="all requests ended")


def ask(peer, model, **fields):
    request = uuid.uuid4().hex[:12]
    peer.said.append(request)
    peer.say(Generate(model=model, **({"prompt": "x"} | fields)), request)
    return request


def accepted(peer, request):
    message = peer.answer(request)
    assert isinstance(message, Accepted), message
    return message


def keep_busy(peer):
    """A request that holds the seat until it is cancelled; the model `slow` is seated then."""
    request = ask(peer, "slow", max_tokens=ENDLESS)
    accepted(peer, request)
    peer.answer(request)  # the first output
    return request


@pytest.mark.parametrize(
    "hint", [{"priority": 11}, {"deadline_s": 0.0}, {"hold_s": -1.0}, {"next_model": ""}]
)
def test_hint_out_of_range_is_refused_naming_the_field(peer, hint):
    request = "wrong"
    peer.pack("generate", {"model": "a", "prompt": "x"} | hint, request)
    error = peer.until_end(request)[-1]
    assert isinstance(error, ErrorBody)
    assert error.code == "invalid_request"
    assert next(iter(hint)) in error.message


def test_unknown_next_model_is_refused_before_anything_runs(peer):
    error = peer.until_end(ask(peer, "a", next_model="nobody"))[-1]
    assert isinstance(error, ErrorBody)
    assert error.code == "unknown_model"


def test_request_with_all_hints_is_answered_like_one_without(peer):
    hints = {"priority": 5, "deadline_s": 60.0, "hold_s": 0.5, "yield_": False, "next_model": "b"}
    messages = peer.until_end(ask(peer, "a", **hints))
    assert isinstance(messages[-1], Done)
    assert tuple(tokens_of(messages)) == expected("a", "x", 8)


def test_waiting_request_past_its_deadline_is_told_so_and_never_runs(peer):
    keep_busy(peer)
    began = time.monotonic()
    accepted(peer, ask(peer, "slow", max_tokens=ENDLESS, session="s"))
    late = ask(peer, "slow", session="s", queue=True, deadline_s=0.3)
    messages = peer.until_end(late)
    assert isinstance(messages[-1], ErrorBody)
    assert messages[-1].code == "deadline_exceeded"
    assert time.monotonic() - began < 15.0, "what it waits for never ends"


def test_running_request_past_its_deadline_keeps_what_it_has(peer):
    keep_busy(peer)  # so that its time does not go into a swap
    messages = peer.until_end(ask(peer, "slow", max_tokens=ENDLESS, deadline_s=2.0))
    done = messages[-1]
    assert isinstance(done, Done)
    assert done.finish_reason == "cancelled"
    assert done.tokens == expected("slow", "x", len(done.tokens))
    assert 0 < len(done.tokens) < ENDLESS


def test_accepted_and_progress_tell_place_and_wait(peer):
    busy = keep_busy(peer)
    first, second = ask(peer, "b"), ask(peer, "b")
    told = [accepted(peer, first), accepted(peer, second)]
    assert [message.position for message in told] == [0, 1]
    assert all(message.expected_wait_s >= 0.0 for message in told), "the swap was measured"
    assert accepted_place_of_progress(peer, second) == 1
    peer.say(Cancel(request_id=busy), "stop")
    assert isinstance(peer.until_end(second)[-1], Done)


def accepted_place_of_progress(peer, request):
    while True:
        got = peer.receive()
        assert got is not None
        if got[0] == request and isinstance(got[1], Progress) and got[1].position is not None:
            return got[1].position


def test_full_queue_is_refused_with_the_time_after_which_to_ask_again(peer):
    keep_busy(peer)
    for request in [ask(peer, "b", swap="wait") for _ in range(8)]:
        accepted(peer, request)
    error = peer.until_end(ask(peer, "b"))[-1]
    assert isinstance(error, ErrorBody)
    assert (error.code, error.retryable) == ("queue_full", True)
    assert error.retry_after_s >= 1.0


def test_higher_priority_starts_first_when_its_model_is_seated(daemon, peer):
    busy = keep_busy(peer)
    with daemon.client() as client:
        events = client.events(topics=("request.",))
        client.status()  # the subscription came before it
        low = ask(peer, "a", priority=-1)
        high = ask(peer, "a", priority=1)
        for request in (low, high):
            accepted(peer, request)
        peer.say(Cancel(request_id=busy), "stop")
        order = []
        for event in events:
            if event.name == "request.started" and event.facts["request"] in (low, high):
                order.append(event.facts["request"])
            if len(order) == 2:
                break
    assert order == [high, low]
