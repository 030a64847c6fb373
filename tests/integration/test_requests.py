"""Requests end once: joining, repeating, cancelling, readers. One daemon for all."""

import threading
import uuid
from functools import partial

import pytest
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import expected, expected_text, serves, stub_daemon
from tests.support.peers.raw_peer import RawPeer, text_of, tokens_of

from hotseat.protocol.messages import Attach, Cancel, Credit, Generate, Status
from hotseat.protocol.replies import Accepted, Done, Reply

SLOW = 0.01
LONG = 60
MODELS = {"slow": {"slow_token_s": SLOW, "reply_tokens": 100_000}}
DAEMON = partial(stub_daemon, ["a", "slow"], reply_tokens=24, models=MODELS)


def new_id():
    return uuid.uuid4().hex[:12]


class Starts:
    """Counts how often the worker began a request."""

    def __init__(self, client):
        self._events = client.events(topics=("request.",))
        client.status()  # the subscription came before it

    def of(self, request_id):
        """Starts seen up to the end of the request."""
        count = 0
        with self._events as events:
            for event in events:
                if event.facts.get("request") == request_id:
                    count += event.name == "request.started"
                    if event.name in ("request.finished", "request.failed"):
                        return count
        raise AssertionError("events ended")


def again(peer):
    """Another connection of the same client."""
    return RawPeer(peer.address, token=peer.token)


def long_generate(**fields):
    return Generate(model="slow", prompt="a long story", max_tokens=LONG, **fields)


# --- the same id again --------------------------------------------------------------------------


def test_repeated_id_while_running_joins_and_runs_once(daemon, client, peer):
    starts, request = Starts(client), new_id()
    with again(peer) as other:
        with daemon.held("token"):
            peer.say(long_generate(), request)
            first = [peer.answer(request), peer.answer(request)]
            other.say(long_generate(), request)
            joined = [other.answer(request)]
        joined += other.until_end(request)
    rest = peer.until_end(request)
    assert isinstance(joined[0], Accepted) and joined[0].replayed
    assert tokens_of(joined) == list(expected("slow", "a long story", LONG))
    assert tokens_of(first + rest) == tokens_of(joined)
    assert joined[-1] == rest[-1]
    assert starts.of(request) == 1


def test_repeated_id_after_the_end_gives_the_same_reply_and_runs_nothing(client, peer):
    starts, request = Starts(client), new_id()
    said = Generate(model="a", prompt="once", session=new_id())
    peer.say(said, request)
    first = peer.until_end(request)
    peer.say(said, request)
    second = peer.until_end(request)
    assert second[0] == Accepted(position=second[0].position, seed=first[0].seed, replayed=True)
    assert (tokens_of(second), text_of(second)) == (tokens_of(first), text_of(first))
    assert second[-1] == first[-1]
    assert starts.of(request) == 1


def test_two_copies_at_the_same_moment_run_once(client, peer):
    starts, request = Starts(client), new_id()
    said = Generate(model="a", prompt="twice")
    for _ in range(5):
        peer.say(said, request)
    messages = peer.until_end(request)
    assert isinstance(messages[-1], Done)
    assert starts.of(request) == 1


@pytest.mark.parametrize("state", ["running", "finished"])
def test_same_id_with_another_body_is_a_conflict_and_disturbs_nothing(peer, state):
    request = new_id()
    said = long_generate() if state == "running" else Generate(model="a", prompt="x")
    peer.say(said, request)
    messages = [peer.answer(request)]
    if state == "finished":
        messages += peer.until_end(request)
    with again(peer) as other:
        other.say(Generate(model="a", prompt="something else"), request)
        assert other.until_end(request)[-1].code == "request_conflict"
    if state == "running":
        messages += peer.until_end(request)
    assert isinstance(messages[-1], Done)


def test_id_of_a_request_cannot_become_a_swap(client, peer):
    request = new_id()
    peer.say(Generate(model="a", prompt="x"), request)
    *_, done = peer.until_end(request)
    peer.pack("swap", {"model": "slow"}, request)
    assert peer.until_end(request)[-1].code == "request_conflict"
    peer.say(Attach(request_id=request), "look")
    assert peer.until_end("look")[-1] == done


def test_id_of_a_running_request_cannot_become_a_swap(client, peer):
    request = new_id()
    peer.say(long_generate(), request)
    assert isinstance(peer.answer(request), Accepted)
    with again(peer) as other:
        other.pack("swap", {"model": "a"}, request)
        assert other.until_end(request)[-1].code == "request_conflict"
    assert isinstance(peer.until_end(request)[-1], Done)


def test_id_of_a_swap_cannot_become_another_swap_or_a_request(client, peer):
    swap = new_id()
    peer.pack("swap", {"model": "a"}, swap)
    report = peer.until_end(swap)[-1]
    peer.pack("swap", {"model": "a"}, swap)
    assert peer.until_end(swap)[-1] == report, "the same swap twice is one swap"
    peer.pack("swap", {"model": "slow"}, swap)
    assert peer.until_end(swap)[-1].code == "request_conflict"
    peer.say(Generate(model="a", prompt="x"), swap)
    assert peer.until_end(swap)[-1].code == "request_conflict"


# --- attach -------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1, 7, 24, 99])
def test_attach_to_a_finished_request_gives_what_is_behind_the_offset(client, offset):
    request = new_id()
    done = client.generate("a", prompt="count", request_id=request).result()
    stream = client.attach(request, offset)
    chunks = list(stream)
    assert [t for chunk in chunks for t in chunk.tokens] == list(done.tokens[offset:])
    assert text_of(chunks) == "".join(f" w{token}" for token in done.tokens[offset:])
    assert stream.result() == done


def test_attach_to_a_running_request_gives_what_is_behind_the_offset(client, peer):
    request = new_id()
    peer.say(long_generate(), request)
    seen = [peer.answer(request)]
    while len(tokens_of(seen)) < 10:
        seen.append(peer.answer(request))
    with again(peer) as other:
        other.say(Attach(request_id=request, offset_tokens=4), "behind")
        accepted, *messages = other.until_end("behind")
    assert accepted.replayed
    wanted = expected("slow", "a long story", LONG)
    assert messages[0].offset_tokens == 4
    assert [t for m in messages[:-1] for t in m.tokens] == list(wanted[4:])
    assert tokens_of(seen + peer.until_end(request)) == list(wanted)


# --- cancel -------------------------------------------------------------------------------------


def test_cancelled_while_running_keeps_the_partial_turn(client):
    session = new_id()
    with client.generate("slow", prompt="go", session=session, max_tokens=10_000) as stream:
        next(stream)
        assert stream.cancel()
        done = stream.result()
    assert done.finish_reason == "cancelled"
    assert done.tokens == expected("slow", "go", len(done.tokens))
    assert done.turn == 1
    more = client.generate("slow", append=" on", session=session, max_tokens=3).result()
    assert more.turn == 2
    assert more.usage.prompt_tokens == len("go") + len(done.tokens) + len(" on")
    assert more.usage.restored_tokens > 0


def test_cancelled_while_waiting_ends_empty_without_a_swap(client, peer):
    client.swap("slow")
    with client.generate("slow", prompt="busy", max_tokens=10_000) as busy:
        next(busy)
        peer.say(Generate(model="a", prompt="later"), "w")
        assert isinstance(peer.answer("w"), Accepted)
        peer.say(Cancel(request_id="w"), "c")
        assert peer.answer("c").result == {"cancelled": True}
        ended = peer.answer("w")
        assert (ended.finish_reason, ended.tokens) == ("cancelled", ())
        assert client.status().model == "slow"


def test_cancelled_before_it_was_accepted_never_asks_for_the_seat(client, peer):
    client.swap("slow")
    epoch = client.status().epoch
    request = new_id()
    with client.generate("slow", prompt="busy", max_tokens=10_000) as busy:
        next(busy)
        peer.say(Generate(model="a", prompt="never"), request)
        peer.say(Cancel(request_id=request), "c")
        *_, done = peer.until_end(request)
        assert done.finish_reason == "cancelled"
    assert client.status().epoch == epoch


def test_cancel_of_a_finished_request_changes_nothing(client):
    request = new_id()
    done = client.generate("a", prompt="x", request_id=request).result()
    assert client.cancel(request) is False
    assert client.attach(request).result() == done


def test_cancel_twice_ends_once(client, peer):
    request = new_id()
    peer.say(long_generate(), request)
    assert isinstance(peer.answer(request), Accepted)
    peer.say(Cancel(request_id=request), "c1")
    peer.say(Cancel(request_id=request), "c2")
    assert isinstance(peer.until_end(request)[-1], Done)
    for cancel in ("c1", "c2"):
        assert isinstance(peer.answer(cancel), Reply)
    peer.say(Status(), "after")  # what comes before its answer would be a second end
    assert isinstance(peer.answer("after"), Reply)
    assert peer.nothing_aside(request)


# --- readers ------------------------------------------------------------------------------------


def test_reader_without_credit_gets_the_rest_when_it_grants(peer):
    request = new_id()
    peer.say(Generate(model="a", prompt="x", credit_bytes=1), request)
    messages = [peer.answer(request), peer.answer(request)]
    assert peer.silence(0.1)
    while not isinstance(messages[-1], Done):
        peer.say(Credit(grant_bytes=60), request)
        messages.append(peer.answer(request))
    assert tokens_of(messages) == list(messages[-1].tokens) == list(expected("a", "x", 24))
    assert len(messages) > 4, "credit was not kept to"
    assert text_of(messages) == expected_text("a", "x", 24)


def test_stream_that_has_nothing_to_say_is_kept_alive(client):
    client.swap("slow")
    seen = []
    with client.generate("slow", prompt="busy", max_tokens=10_000) as busy:
        next(busy)
        waiting = client.generate("a", prompt="x", on_progress=seen.append)
        reader = threading.Thread(target=waiting.result)
        reader.start()
        wait_for(lambda: len([n for n in seen if n.phase == "queued"]) >= 2, what="two notes")
        busy.cancel()
    reader.join(20)
    assert not reader.is_alive()


def test_many_clients_at_once_all_get_their_own_answer(daemon):
    answers, threads = {}, []

    def ask(name):
        with daemon.client(name=name) as client:
            for number in range(5):
                prompt = f"{name} {number}"
                done = client.generate("a", prompt=prompt, max_tokens=9).result()
                answers[prompt] = done.tokens

    for number in range(6):
        threads.append(threading.Thread(target=ask, args=(f"client {number}",)))
        threads[-1].start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 30
    for prompt, tokens in answers.items():
        assert tokens == expected("a", prompt, 9)


def test_good_request_is_served_after_all_this(client):
    assert serves(client, "a")
