"""Requests across restarts of the daemon and the vanishing of their clients."""

import signal
import subprocess
import sys
import time
import uuid

import pytest
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import (
    error_of,
    expected,
    expected_text,
    serves,
    stub_daemon,
    unfinished,
)
from tests.support.daemons.watching import lives
from tests.support.peers.raw_peer import RawPeer, text_of, tokens_of

from hotseat.protocol.messages import Attach, Generate
from hotseat.protocol.replies import Accepted, Done, ErrorBody
from hotseat.supervisor.settings.values import Deadlines

CLAIM_S = 0.5
CLAIMED_SOON = f"[limits]\nclaim_s = {CLAIM_S}\n"
COUNT = 80
SLOW = {"slow_token_s": 0.01, "reply_tokens": 100_000}


def new_id():
    return uuid.uuid4().hex[:12]


def restart(daemon, how):
    if how == "kill":
        daemon.kill()
    else:
        assert daemon.stop() == 0
    daemon.start()


# --- finished before ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_repeated_id_after_a_restart_gives_the_same_reply_and_runs_nothing(how):
    with stub_daemon("a") as daemon:
        request, said = new_id(), Generate(model="a", prompt="once", session="s")
        with RawPeer(daemon.endpoint().requests) as peer:
            peer.say(said, request)
            first = peer.until_end(request)
            token = peer.token
        restart(daemon, how)
        with RawPeer(daemon.endpoint().requests, token=token) as peer:
            peer.say(said, request)
            again = peer.until_end(request)
            peer.say(Generate(model="a", prompt="other", session="s"), request)
            conflict = peer.until_end(request)[-1]
            peer.say(Attach(request_id=request, offset_tokens=20), "look")
            behind = peer.until_end("look")
        assert again[0].replayed
        assert tokens_of(again) == tokens_of(first)
        assert again[-1] == first[-1] == behind[-1]
        assert text_of(behind) == "".join(f" w{t}" for t in first[-1].tokens[20:])
        assert conflict.code == "request_conflict"
        status = daemon.client().status()
        assert (status.phase, status.epoch) == ("empty", 0), "something ran"
        assert daemon.client().session("a", "s").turn == 1


# --- running meanwhile --------------------------------------------------------------------------


def test_stream_goes_on_over_a_killed_daemon_with_the_same_tokens_once():
    with stub_daemon("a", **SLOW) as daemon:
        client = daemon.client(reconnect_timeout_s=30)
        stream = client.generate("a", prompt="tale", session="s", max_tokens=COUNT)
        chunks = [next(stream) for _ in range(3)]
        workers = daemon.workers()
        daemon.kill()
        wait_for(lambda: not any(lives(w) for w in workers), what="orphan gone")
        daemon.start()
        chunks += list(stream)
        done = stream.result()
        assert [t for chunk in chunks for t in chunk.tokens] == list(expected("a", "tale", COUNT))
        assert text_of(chunks) == expected_text("a", "tale", COUNT) == done.text
        assert done.turn == 1
        assert client.session("a", "s").turn == 1


def test_unclaimed_request_ends_as_interrupted_after_a_killed_daemon():
    with stub_daemon("a", settings=CLAIMED_SOON, **SLOW) as daemon:
        request = new_id()
        with RawPeer(daemon.endpoint().requests) as peer:
            peer.say(Generate(model="a", prompt="x", session="s"), request)
            peer.answer(request)
            token = peer.token
            daemon.kill()  # before the peer closes: a token for a closed peer cancels its request
        daemon.start()
        watcher = daemon.client()
        with watcher.events(since=0, topics=("request.",)) as events:
            assert next(e for e in events if getattr(e, "name", "") == "request.unclaimed")
        with RawPeer(daemon.endpoint().requests, token=token) as peer:
            # Asking earlier would be a claim.
            wait_for(lambda: peer.ping() or not unfinished(daemon.home), what="end of the claim")
            peer.say(Attach(request_id=request), "look")
            *_, error = peer.until_end("look")
            assert peer.nothing_aside(request)
            peer.say(Generate(model="a", prompt="x", session="s"), request)
            *_, again = peer.until_end(request)
        assert error.code == "interrupted"
        assert again == error, "an ended request was run again"
        assert error_of(watcher.session, "a", "s").code == "session_missing"


def test_claimed_request_that_cannot_run_any_more_ends_once_with_the_reason():
    with stub_daemon("ab", **SLOW) as daemon:
        request = new_id()
        with RawPeer(daemon.endpoint().requests) as peer:
            peer.say(Generate(model="a", prompt="x"), request)
            peer.answer(request)
            token = peer.token
            daemon.kill()  # before the peer closes: a token for a closed peer cancels its request
        (daemon.home / "models" / "a" / "model.json").unlink()
        for _ in range(2):
            daemon.start()
            with RawPeer(daemon.endpoint().requests, token=token) as peer:
                peer.say(Attach(request_id=request), "look")
                *_, end = peer.until_end("look")
                assert isinstance(end, ErrorBody), end
                assert end.code == "unknown_model"
            daemon.kill()
        daemon.start()


def test_client_that_lost_only_its_connection_finds_its_request_running():
    with stub_daemon("a", **SLOW) as daemon, RawPeer(daemon.endpoint().requests) as lost:
        request = new_id()
        with RawPeer(daemon.endpoint().requests, token=lost.token) as peer:
            with daemon.held("token"):
                lost.say(Generate(model="a", prompt="x", max_tokens=COUNT), request)
                lost.answer(request)
                lost.close()
            abandoned = "request.abandoned"
            wait_for(lambda: peer.ping() or abandoned in daemon.stderr(), what="connection missed")
            peer.say(Attach(request_id=request), "look")
            *_, end = peer.until_end("look")
        assert isinstance(end, Done), end
        assert (end.finish_reason, len(end.tokens)) == ("length", COUNT)


def test_claimed_turns_of_one_session_all_run_in_spite_of_the_busy_session():
    with stub_daemon("a", **SLOW) as daemon:
        ids = [new_id(), new_id()]
        with RawPeer(daemon.endpoint().requests) as peer:
            first = Generate(model="a", prompt="x", session="s", max_tokens=COUNT)
            second = Generate(model="a", append="y", session="s", max_tokens=4, queue=True)
            peer.say(first, ids[0])
            peer.answer(ids[0])
            peer.say(second, ids[1])
            peer.answer(ids[1])
            token = peer.token
            daemon.kill()  # before the peer closes: a token for a closed peer cancels its request
        daemon.start()
        with RawPeer(daemon.endpoint().requests, token=token) as peer:
            for request in ids:
                peer.say(Attach(request_id=request), request)
            ends = peer.ends_of(ids)
        assert [ends[request].turn for request in ids] == [1, 2]


def test_stop_lets_running_requests_finish_and_answers_those_that_wait():
    with stub_daemon("ab", **SLOW) as daemon:
        client = daemon.client()
        running = client.generate("a", prompt="x", session="s", max_tokens=40)
        with daemon.held("token"):
            next(running)
            waiting = client.generate("b", prompt="y")
            assert waiting.next_event() is not None
            daemon.process.send_signal(signal.SIGTERM)
            wait_for(lambda: client.status().phase == "draining", what="the stop under way")
        done = running.result()
        assert done.tokens == expected("a", "x", 40)
        assert error_of(waiting.result).code == "shutting_down"
        assert daemon.stop() == 0
        daemon.start()
        assert daemon.client().session("a", "s").turn == 1


def test_stop_suspends_what_does_not_finish_in_time_and_the_next_daemon_goes_on():
    settings = "[deadlines]\nexit_drain_s = 0.3\n"
    with stub_daemon("a", settings=settings, **SLOW) as daemon:
        client = daemon.client()
        stream = client.generate("a", prompt="x", session="s", max_tokens=200)
        next(stream)
        with daemon.held("token"):  # it cannot end by itself
            began = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - began < Deadlines().exit_drain_s, "0.3 s were not kept to"
        daemon.start()
        done = stream.result()
        assert done.finish_reason == "length"
        assert done.tokens == expected("a", "x", 200)
        more = daemon.client().generate("a", append="y", session="s", max_tokens=2).result()
        assert more.turn == 2
        assert more.usage.restored_tokens >= len(done.tokens)


# --- clients that go ----------------------------------------------------------------------------

CLIENT = """
import sys, time
from hotseat.client import Client
client = Client(endpoint=sys.argv[1], token=sys.argv[2])
stream = client.generate("a", prompt="x", request_id="r", max_tokens=100_000)
next(stream)
print("ready", flush=True)
time.sleep(600)  # has to live until it is killed
"""
POLICIES = ("cancel", "finish", "hold")


def test_killed_client_that_was_reading_is_noticed_at_once():
    with stub_daemon("a", **SLOW) as daemon:
        token = uuid.uuid4().hex
        child = subprocess.Popen(
            [sys.executable, "-c", CLIENT, daemon.endpoint().requests, token],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout.readline() == "ready\n"
        watcher = daemon.client()
        assert [view.id for view in watcher.status().requests] == ["r"]
        child.kill()
        child.wait()
        child.stdout.close()
        wait_for(lambda: not watcher.status().requests, what="unread request cancelled")
        assert "client.vanished" in daemon.stderr()
        assert "pings stopped" not in daemon.stderr(), "noticed by what could not be sent"


def test_client_whose_pings_stop_has_its_requests_treated_as_they_said():
    with stub_daemon("ab", **SLOW) as daemon:
        watcher = daemon.client()
        silent = RawPeer(daemon.endpoint().requests)
        for policy in POLICIES:
            said = Generate(
                model="a", prompt=policy, session=policy, on_vanish=policy, credit_bytes=1
            )
            silent.say(said, policy)
        silent.say(Generate(model="a", prompt="no session", credit_bytes=1), "default")
        silent.say(Generate(model="b", prompt="x", credit_bytes=1), "waiting")

        def left():
            return {view.id for view in watcher.status().requests}

        everything = {*POLICIES, "default", "waiting"}
        wait_for(lambda: silent.ping() or left() == everything, what="all accepted")
        began = time.monotonic()
        wait_for(lambda: left() == {"finish", "hold"}, what="unread requests cancelled")
        assert time.monotonic() - began > 2.5, "three missed pings take longer"
        with RawPeer(daemon.endpoint().requests, token=silent.token) as peer:
            for name in ("cancel", "default", "waiting"):
                peer.say(Attach(request_id=name), f"look-{name}")
                assert peer.until_end(f"look-{name}")[-1].finish_reason == "cancelled"
            for name in ("finish", "hold"):
                peer.say(Attach(request_id=name), f"look-{name}")
                assert isinstance(peer.answer(f"look-{name}"), Accepted)
        assert watcher.session("a", "cancel").turn == 1, "the partial turn is kept"
        silent.close()
        daemon.kill()


@pytest.mark.alone
def test_worker_dies_within_two_seconds_of_its_daemon():
    with stub_daemon("a") as daemon:
        assert serves(daemon.client(), "a")
        (worker,) = daemon.workers()
        daemon.kill()
        wait_for(lambda: not lives(worker), what="orphan gone")
