"""Promise: a request id runs at most once, however often, in whatever order and after whichever
restart it is sent again; every copy gets the same reply.
"""

import random

import pytest
from tests.support.daemons.stub_home import expected, stub_daemon
from tests.support.peers.raw_peer import RawPeer

from hotseat.protocol.messages import Attach, Generate, Swap
from hotseat.protocol.replies import Done, ErrorBody, Event, SwapReport

EVERY = 100
"""Requests between two restarts."""


def started(daemon):
    """How many requests each id began to run as, in this run of the daemon."""
    counts = {}
    with RawPeer(daemon.endpoint().requests) as peer:
        peer.pack("events", {"since": 1, "topics": ["request."], "credit_bytes": 10**9}, "e")
        peer.pack("status", {}, "s")
        while (got := peer.receive())[0] != "s":
            if isinstance(got[1], Event) and got[1].name == "request.started":
                name = got[1].facts["request"]
                counts[name] = counts.get(name, 0) + 1
    return counts


def ask(peers, chance, number):
    """Copies of one request over two connections of one client; the ends they got."""
    name = f"r{number}"
    body = Generate(model="a", prompt=f"tale {number}", max_tokens=3, on_vanish="finish")
    copies = [(chance.choice(peers), body, name) for _ in range(chance.randint(1, 3))]
    attaches = [
        (chance.choice(peers), Attach(request_id=name), f"{name}-{place}")
        for place in range(chance.randint(0, 2))
    ]
    for peer, message, request_id in copies:
        peer.say(message, request_id)
    ends = [copies[0][0].until_end(name)[-1]]
    for peer, message, request_id in attaches:
        peer.say(message, request_id)
        ends.append(peer.until_end(request_id)[-1])
    return body, ends


def same_reply(peer, body, name):
    """The end of one more copy."""
    peer.say(body, name)
    return peer.until_end(name)[-1]


@pytest.mark.timeout(7200)
def test_request_that_is_sent_again_runs_once_and_gets_the_same_reply(row):
    runs = row.runs(push=1000, slice=60, release=10_000)
    chance = random.Random(15)
    token = "c" * 32
    counts = {}
    kept = []
    with stub_daemon("ab") as daemon:
        number = 0
        while number < runs:
            address = daemon.endpoint().requests
            with RawPeer(address, token=token) as one, RawPeer(address, token=token) as two:
                for body, name, end in chance.sample(kept, min(len(kept), 10)):
                    assert same_reply(one, body, name) == end, "another reply after a restart"
                for _ in range(min(EVERY if runs > EVERY else 30, runs - number)):
                    body, ends = ask((one, two), chance, number)
                    assert all(isinstance(end, Done) for end in ends), ends
                    assert len({end.tokens for end in ends}) == 1
                    assert ends[0].tokens == expected("a", f"tale {number}", 3)
                    kept.append((body, f"r{number}", ends[0]))
                    number += 1
            for name, count in started(daemon).items():
                counts[name] = counts.get(name, 0) + count
            daemon.kill()
            daemon.start()
    assert len(counts) >= min(runs, 30)
    row.record("stub", max(counts.values()), 1, "times", runs=runs, what="most runs of a request:")


def test_id_that_was_used_with_another_body_is_a_conflict(row):
    with stub_daemon("ab") as daemon, RawPeer(daemon.endpoint().requests) as peer:
        runs = row.runs(push=50, slice=5, release=500)
        for number in range(runs):
            peer.say(Generate(model="a", prompt="x", max_tokens=2), f"c{number}")
            assert isinstance(peer.until_end(f"c{number}")[-1], Done)
            peer.say(Generate(model="a", prompt="y", max_tokens=2), f"c{number}")
            answer = peer.until_end(f"c{number}")[-1]
            assert isinstance(answer, ErrorBody)
            assert answer.code == "request_conflict"
        row.record("stub", runs=runs)


def test_swap_that_is_sent_again_is_one_swap(row):
    token = "d" * 32
    with stub_daemon("ab") as daemon:
        runs = row.runs(push=20, slice=2, release=200)
        for number in range(runs):
            with RawPeer(daemon.endpoint().requests, token=token) as peer:
                target = "ab"[number % 2]
                for _ in range(3):
                    peer.say(Swap(model=target), f"w{number}")
                first = peer.until_end(f"w{number}")[-1]
                assert isinstance(first, SwapReport)
                epoch = daemon.client().status().epoch
            if number % 5 == 0:
                daemon.kill()
                daemon.start()
                epoch = 0
            with RawPeer(daemon.endpoint().requests, token=token) as peer:
                peer.say(Swap(model=target), f"w{number}")
                assert peer.until_end(f"w{number}")[-1] == first
            assert daemon.client().status().epoch == epoch, "it was swapped again"
        row.record("stub", runs=runs)
