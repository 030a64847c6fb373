"""Turns of sessions: one at a time, guarded, kept or rolled back. One daemon for all."""

import uuid
from functools import partial

from tests.support.daemons.stub_home import error_of, stub_daemon

from hotseat.protocol.messages import Generate
from hotseat.protocol.replies import Accepted, Done

LONG = 60
MODELS = {"slow": {"slow_token_s": 0.01, "reply_tokens": 100_000}}
DAEMON = partial(stub_daemon, ["a", "slow"], reply_tokens=24, models=MODELS)


def new_id():
    return uuid.uuid4().hex[:12]


def test_second_turn_at_once_is_session_busy_naming_the_first(daemon, client):
    session, request = new_id(), new_id()
    first = client.generate(
        "slow", prompt="x", session=session, max_tokens=LONG, request_id=request
    )
    with daemon.held("token"), first:
        next(first)
        error = error_of(client.generate("slow", append="y", session=session).result)
        assert error.code == "session_busy"
        assert error.facts["request_id"] == request


def test_queued_turns_of_a_session_run_one_after_the_other(daemon, client):
    session = new_id()
    with client.generate("slow", prompt="x", session=session, max_tokens=20) as first:
        with daemon.held("token"):
            next(first)
            queued = [
                client.generate("slow", append=f"{n}", session=session, queue=True, max_tokens=4)
                for n in range(3)
            ]
            assert all(isinstance(stream.next_event(), Accepted) for stream in queued)
        turns = [first.result().turn, *(stream.result().turn for stream in queued)]
    assert turns == [1, 2, 3, 4]


def test_queued_turn_whose_expectation_fails_ends_with_a_conflict(daemon, client):
    session = new_id()
    with client.generate("slow", prompt="x", session=session, max_tokens=20) as first:
        with daemon.held("token"):
            next(first)
            late = client.generate("slow", append="y", session=session, queue=True, expect_turn=5)
            assert isinstance(late.next_event(), Accepted)
        error = error_of(late.result)
    assert (error.code, error.facts["turn"]) == ("session_conflict", 1)


def test_two_turns_at_the_same_moment_the_first_wins(peer):
    session, ids = new_id(), (new_id(), new_id())
    for request in ids:
        peer.say(Generate(model="a", prompt="x", session=session), request)
    ends = peer.ends_of(ids)
    assert isinstance(ends[ids[0]], Done)
    assert ends[ids[1]].code == "session_busy"


def test_expect_turn_guards_against_a_turn_in_between(client):
    session = new_id()
    assert client.generate("a", prompt="x", session=session, expect_turn=0).result().turn == 1
    error = error_of(client.generate("a", append="y", session=session, expect_turn=0).result)
    assert (error.code, error.facts["turn"]) == ("session_conflict", 1)
    assert client.generate("a", append="y", session=session, expect_turn=1).result().turn == 2


def test_append_twice_goes_on_from_what_is_held(client):
    session = new_id()
    user = {"role": "user", "content": "hello"}
    first = client.generate("a", messages=[user], session=session, max_tokens=5).result()
    held = first.usage.prompt_tokens + len(first.tokens)
    for turn in (2, 3):
        done = client.generate("a", append=[user], session=session, max_tokens=5).result()
        assert done.turn == turn
        assert done.context == "appended"
        assert done.usage.restored_tokens == held
        held = done.usage.prompt_tokens + len(done.tokens)
    view = client.session("a", session)
    assert [message["role"] for message in view.messages] == ["user", "assistant"] * 3


def test_failed_request_leaves_its_session_at_the_turn_before(client):
    session = new_id()
    client.generate("a", prompt="x", session=session, max_tokens=4).result()
    error = error_of(
        client.generate("a", append="y" * 140_000, session=session, max_tokens=4).result
    )
    assert error.code == "context_overflow"
    assert client.session("a", session).turn == 1
    assert client.generate("a", append="z", session=session).result().turn == 2


def test_deleted_session_is_gone_and_its_name_is_free(client):
    session = new_id()
    first = client.generate("a", prompt="x", session=session).result()
    assert client.delete_session("a", session) >= 0
    assert error_of(client.session, "a", session).code == "session_missing"
    assert error_of(client.delete_session, "a", session).code == "session_missing"
    anew = client.generate("a", prompt="x", session=session).result()
    assert (anew.turn, anew.tokens) == (1, first.tokens)
    assert anew.usage.restored_tokens == 0, "live KV of a deleted session was used"


def test_session_with_a_turn_under_way_is_not_deleted(daemon, client):
    session = new_id()
    with client.generate("slow", prompt="x", session=session, max_tokens=LONG) as stream:
        with daemon.held("token"):
            next(stream)
            assert error_of(client.delete_session, "slow", session).code == "session_busy"
        assert stream.result().turn == 1


def test_one_session_name_on_two_models_keeps_two_contexts(client):
    session = new_id()
    for model in ("a", "slow", "a", "slow"):
        client.generate(model, append=f"[{model}]", session=session, max_tokens=3).result()
    for model in ("a", "slow"):
        view = client.session(model, session)
        assert view.turn == 2
        assert all(model in m["content"] for m in view.messages if m["role"] == "user")


def test_session_kept_off_the_disk_stays_off_it_in_later_turns(daemon, client):
    session = new_id()
    client.swap("a")
    written = client.status().bytes_written
    first = client.generate("a", prompt="x" * 600, session=session, persist=False).result()
    more = client.generate("a", append="y" * 600, session=session).result()
    assert (first.turn, more.turn) == (1, 2)
    assert "disk" in first.note and "disk" in more.note
    assert client.status().bytes_written == written
    client.swap("slow")
    client.swap("a")
    third = client.generate("a", append="z", session=session).result()
    assert third.turn == 3
    assert third.usage.restored_tokens == 0
    assert client.session("a", session).bytes_on_disk == 0
