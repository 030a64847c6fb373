"""Promise: a reader that stops costs a little memory until it is dropped, the others nothing."""

import time

import psutil
import pytest
from tests.support.daemons.stub_home import stub_daemon
from tests.support.daemons.watching import Background, Watcher
from tests.support.peers.raw_peer import ENDS, RawPeer

from hotseat.protocol.limits import MIB
from hotseat.protocol.messages import Attach, Generate
from hotseat.protocol.replies import Accepted, Chunk

SETTINGS = "[limits]\nslow_consumer_s = 1.0\n"
EACH_BYTES = MIB
SHARE = 0.95
STATUS_S = 0.1


class Pings(Watcher):
    """Keeps peers alive that read nothing."""

    def __init__(self, peers):
        super().__init__()
        self._peers = peers

    def _watch(self):
        while not self._is_over.wait(0.5):
            for peer in self._peers:
                peer.ping()


def resident(daemon):
    return psutil.Process(daemon.process.pid).memory_info().rss


def read_to_the_end(client, tokens):
    """A good client's whole stream; seconds."""
    began = time.monotonic()
    done = client.generate("a", prompt="tale", max_tokens=tokens).result()
    assert len(done.tokens) == tokens
    return time.monotonic() - began


def stopped(daemon, count, tokens):
    """That many readers of one request who grant nothing more; their peers."""
    peers = [RawPeer(daemon.endpoint().requests, token="e" * 32) for _ in range(count)]
    said = Generate(model="a", prompt="x", max_tokens=tokens, credit_bytes=1, on_vanish="finish")
    peers[0].say(said, "slow")
    assert isinstance(peers[0].answer("slow"), Accepted)
    for number, peer in enumerate(peers[1:]):
        peer.say(Attach(request_id="slow", credit_bytes=1), f"slow{number}")
        assert isinstance(peer.answer(f"slow{number}"), Accepted)
    return peers


def ends(peers, timeout_s=60):
    """The ends of streams nobody reads; a chunk or two may come before."""
    found = []
    for number, peer in enumerate(peers):
        name = "slow" if number == 0 else f"slow{number - 1}"
        message = peer.answer(name, timeout_s)
        while isinstance(message, Chunk | Accepted) or not isinstance(message, ENDS):
            message = peer.answer(name, timeout_s)
        found.append(message)
    return found


@pytest.mark.alone
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [1, 32])
def test_stopped_readers_are_dropped_and_the_others_keep_their_pace(row, count):
    tokens = row.runs(push=100_000, slice=2_000, release=100_000)
    runs = row.runs(push=5, slice=1, release=100)
    with stub_daemon("a", settings=SETTINGS, reply_tokens=10**9) as daemon:
        good = daemon.client()
        calm = beside_a_reader(daemon, good, tokens)
        for _ in range(runs):
            before = resident(daemon)
            peers = stopped(daemon, count, tokens)
            with Pings(peers):
                loud = read_to_the_end(good, tokens)
                began = time.monotonic()
                good.status()
                looked = time.monotonic() - began
                grown = resident(daemon) - before
                if row.counts != "slice":
                    assert {end.code for end in ends(peers)} == {"slow_consumer"}
            for peer in peers:
                peer.close()
            if row.counts != "slice":
                what = f"pace beside {count} stopped,"
                row.record("stub", 1 - calm / loud, 1 - SHARE, "lost", 0, what=what)
            row.record("stub", looked, STATUS_S, "s", runs=1, what="status")
            # One alone pays for what the daemon keeps of the request itself.
            each = grown / count / MIB if count > 1 else 0.0
            row.record("stub", each, EACH_BYTES / MIB, "MiB", 0, what=f"each of {count}")


def beside_a_reader(daemon, good, tokens):
    """Seconds of the good client's stream while another one is read as well."""
    with daemon.client() as other:
        stream = other.generate("a", prompt="x", max_tokens=tokens)
        next(stream)
        reading = Background(stream.result)
        took = read_to_the_end(good, tokens)
        reading.result(600)
    return took
