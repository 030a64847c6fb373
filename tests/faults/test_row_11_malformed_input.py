"""Promise: whatever comes in is answered with a typed error, the daemon stays up and small, and a
good client keeps its pace.
"""

import math
import time

import msgpack
import psutil
import pytest
from tests.support.daemons.stub_home import stub_daemon
from tests.support.daemons.watching import Background
from tests.support.peers.malformed import BODIES, FRAMES
from tests.support.peers.raw_peer import RawPeer

from hotseat.protocol.errors import ERRORS
from hotseat.protocol.limits import MIB
from hotseat.protocol.replies import ErrorBody, Pong

GROWTH_BYTES = 32 * MIB
PACE = {"slice": 4.0, "push": 2.0, "release": 2.0}
"""Of few requests on a busy machine the slowest says little."""
WINDOW = 50
CLASS_BYTES = 256 * MIB
"""Of one class at most: large frames come less often."""
STATUS_S = 0.1


@pytest.fixture(scope="module")
def daemon():
    with stub_daemon("ab", slow_token_s=0.005, reply_tokens=100_000) as running:
        running.good = running.client(name="good")
        running.good.swap("a")
        with RawPeer(running.endpoint().requests) as peer:  # buffers have been used once
            peer.send(*FRAMES["8 frames of 8 MiB"][0])
            peer.receive()
            peer.ping()  # what it answers after that, it has let go of
            assert isinstance(peer.receive()[1], Pong)
        running.before = psutil.Process(running.process.pid).memory_info().rss
        yield running
        assert running.process.poll() is None


def frames_of(name, number=0):
    """What to send, the code it has to get, and how many bytes that is."""
    if name in FRAMES:
        frames, code = FRAMES[name]
    else:
        kind, fields, code, _ = BODIES[name]
        frames = (b"1", kind.encode(), b"bad%d" % number, msgpack.packb(fields))
    return frames, code, sum(map(len, frames))


def flood(daemon, name, count):
    """Sends a class `count` times and reads every answer; how often the answer was wrong."""
    code = frames_of(name)[1]
    wrong = 0
    with RawPeer(daemon.endpoint().requests) as peer:
        sent = 0
        while sent < count:
            burst = min(WINDOW, count - sent)
            for place in range(burst):
                peer.send(*frames_of(name, sent + place)[0])
            for _ in range(burst):
                got = peer.receive()
                while got is not None and isinstance(got[1], Pong):
                    got = peer.receive()
                assert got is not None, f"no answer to {name}"
                wrong += not isinstance(got[1], ErrorBody) or got[1].code != code
            sent += burst
            peer.ping()
    return wrong


@pytest.mark.timeout(7200)
def test_every_class_of_malformed_input_is_answered_and_costs_nothing(row, daemon):
    each = row.runs(push=10_000, slice=20, release=100_000)
    names = [*FRAMES, *BODIES]
    total = 0
    for name in names:
        size = frames_of(name)[2]
        count = min(each, max(5, CLASS_BYTES // max(size, 1) // (1 if each > 1000 else 40)))
        assert flood(daemon, name, count) == 0, name
        assert frames_of(name)[1] in ERRORS
        total += count
    assert "Traceback" not in daemon.stderr()
    daemon.good.status()
    grown = psutil.Process(daemon.process.pid).memory_info().rss - daemon.before
    what = f"memory after {len(names)} classes,"
    row.record("stub", grown / MIB, GROWTH_BYTES / MIB, "MiB", runs=total, what=what)


def paces(client, count):
    """Seconds of `count` requests, and of a status after each."""
    turns, looks = [], []
    for _ in range(count):
        began = time.monotonic()
        client.generate("a", prompt="x", max_tokens=20).result()
        turns.append(time.monotonic() - began)
        began = time.monotonic()
        client.status()
        looks.append(time.monotonic() - began)
    return turns, looks


def p99(values):
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


@pytest.mark.alone
@pytest.mark.timeout(1800)
def test_good_client_keeps_its_pace_while_another_sends_rubbish(row, daemon):
    count = row.runs(push=100, slice=6, release=300)
    calm, _ = paces(daemon.good, count)
    over = []

    def rubbish():
        while not over:
            flood(daemon, "body is a list", 200)

    loud = Background(rubbish)
    try:
        under, looks = paces(daemon.good, count)
    finally:
        over.append(True)
        loud.result(60)
    row.record(
        "stub",
        p99(under) / p99(calm),
        PACE[row.counts],
        "x",
        runs=count,
        what="p99 of a good client",
    )
    row.record("stub", p99(looks), STATUS_S, "s", runs=0, what="status under a flood")
