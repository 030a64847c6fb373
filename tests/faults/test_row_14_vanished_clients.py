"""Promise: a client that vanishes at any point has its request treated as it said, within a second
after three missed pings, and what was computed is kept.
"""

import time
import uuid

import pytest
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.stub_home import expected, stub_daemon
from tests.support.peers.raw_peer import RawPeer

from hotseat.protocol.limits import MISSED_PINGS, PING_S
from hotseat.protocol.messages import Generate

NOTICED_S = MISSED_PINGS * PING_S
CARRIED_OUT_S = 1.0
POLICIES = ("cancel", "finish", "hold", None)
POINTS = ("sent", "accepted", "first chunk", "mid stream", "queued", "silent")
PROMPT = "y" * 300
"""A full block, so that there is KV to keep."""


def vanish(daemon, point, policy, number):
    """A client that goes at that point; its session's name and when it went."""
    session = f"v{number}-{uuid.uuid4().hex[:6]}"
    peer = RawPeer(daemon.endpoint().requests)
    model = "b" if point == "queued" else "a"
    said = Generate(model=model, prompt=PROMPT, session=session, on_vanish=policy, max_tokens=1500)
    peer.say(said, session)
    if point != "sent":
        peer.answer(session)
    if point in ("first chunk", "mid stream") and model == "a":
        for _ in range(1 if point == "first chunk" else 5):
            peer.answer(session)
    if point != "silent":
        peer.close()
    return session, peer, time.monotonic()


def until_gone(watcher, session):
    wait_for(lambda: session not in ids(watcher), what=f"{session} cancelled")


def ids(watcher):
    return {view.id for view in watcher.status().requests}


@pytest.mark.timeout(3600)
def test_vanished_clients_have_their_wish_carried_out_in_time(row):
    rounds = row.runs(push=9, slice=1, release=170)
    worst, runs = 0.0, 0
    for _ in range(rounds):
        with stub_daemon(
            "ab", settings="[deadlines]\ngrace_s = 60\n", slow_token_s=0.005, reply_tokens=100_000
        ) as daemon:
            watcher = daemon.client()
            watcher.swap("a")
            gone = [
                (*vanish(daemon, point, policy, number), point, policy)
                for number, (point, policy) in enumerate(
                    (point, POLICIES[place % len(POLICIES)]) for place, point in enumerate(POINTS)
                )
            ]
            runs += len(gone)
            for session, _, at, _, policy in gone:
                if policy != "cancel":
                    continue
                until_gone(watcher, session)
                worst = max(worst, time.monotonic() - at - NOTICED_S)
            for session, peer, _, point, policy in gone:
                if policy in ("finish", "hold", None) and point not in ("sent", "queued"):
                    left = ids(watcher)
                    done = any(view.session == session for view in watcher.sessions())
                    assert session in left or done, f"{policy} at {point} did not go on"
                peer.close()
            keeps(watcher, gone)
    row.record("stub", worst, CARRIED_OUT_S, "s", runs=runs, what="carried out after")


def keeps(watcher, gone):
    """A partial turn that was cancelled is there, with its KV."""
    for session, _, _, point, policy in gone:
        if policy == "cancel" and point in ("first chunk", "mid stream"):
            more = watcher.generate("a", append="z", session=session, max_tokens=3).result()
            assert more.turn == 2
            assert more.usage.restored_tokens >= 256, "its KV was not kept"


def test_request_that_is_held_goes_on_for_the_same_client(row):
    runs = row.runs(push=5, slice=1, release=50)
    with stub_daemon("a", slow_token_s=0.005, reply_tokens=100_000) as daemon:
        for number in range(runs):
            token = uuid.uuid4().hex
            with RawPeer(daemon.endpoint().requests, token=token) as peer:
                said = Generate(model="a", prompt="x", session=f"h{number}", max_tokens=60)
                peer.say(said, f"h{number}")
                peer.answer(f"h{number}")
            client = daemon.client(token=token)
            with client.attach(f"h{number}") as joined:
                assert joined.result().tokens == expected("a", "x", 60)
        row.record("stub", runs=runs)
