"""The worker's end of the link against a real socket."""

import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.peers.worker_peer import LinkEnd

from hotseat.protocol.exits import EX_INTERNAL, EX_PROTOCOL
from hotseat.protocol.ids import Epoch, RequestKey
from hotseat.protocol.link import MAX_BODY_BYTES, decode_from_worker, encode_link
from hotseat.protocol.link_orders import Reseat, Stop, Warm
from hotseat.protocol.link_reports import Beat, Emitted, FromWorker, Stopped
from hotseat.worker.link.port import SupervisorLink

KEY = RequestKey("t:r")
EPOCH = Epoch(4)


def beat(step: int = 0) -> Beat:
    return Beat(
        phase="ready",
        step=step,
        busy=False,
        active_bytes=0,
        cache_bytes=0,
        peak_bytes=0,
        live_kv_bytes=0,
    )


class Peer:
    def __init__(self, path: Path) -> None:
        self._end = LinkEnd(path)

    def receive(self, timeout_s: float = 10, expected: Epoch = EPOCH) -> FromWorker:
        epoch, body = self._end.receive(timeout_s)
        assert epoch == expected
        return decode_from_worker(body)

    def receive_work(self) -> FromWorker:
        while isinstance(message := self.receive(), Beat):
            pass
        return message

    def send(self, data: bytes) -> None:
        self._end.send(data)

    def close(self) -> None:
        self._end.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "link.sock"


@pytest.fixture
def make_port(path: Path) -> Iterator[Callable[..., SupervisorLink]]:
    made: list[SupervisorLink] = []

    def make(source: Callable[[], Beat] = beat, beat_s: float = 60.0) -> SupervisorLink:
        made.append(SupervisorLink(str(path), EPOCH, source, beat_s=beat_s))
        return made[-1]

    yield make
    for port in made:
        port.close(0.1)


@pytest.fixture
def peer(path: Path) -> Iterator[Peer]:
    bound = Peer(path)
    yield bound
    bound.close()


def connect(port: SupervisorLink, peer: Peer) -> None:
    """Returns behind the first beat, which is the last frame that comes by itself."""
    port.send(Stopped())
    port.start()
    assert peer.receive() == Stopped()
    assert isinstance(peer.receive(), Beat)


def emitted(number: int) -> Emitted:
    return Emitted(request=KEY, tokens=(number,), text="")


def test_messages_arrive_in_order_from_many_threads(
    peer: Peer, make_port: Callable[..., SupervisorLink]
) -> None:
    port = make_port()
    port.start()

    def send_hundred(thread: int) -> None:
        for number in range(100):
            port.send(emitted(1000 * thread + number))

    threads = [threading.Thread(target=send_hundred, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    found: list[int] = []
    while len(found) < 400:
        message = peer.receive_work()
        assert isinstance(message, Emitted)
        found += message.tokens
    for thread in threads:
        thread.join()
    for thread_number in range(4):
        of_thread = [token for token in found if token // 1000 == thread_number]
        assert of_thread == sorted(of_thread)


def test_message_is_sent_at_once_not_with_the_next_beat(
    peer: Peer, make_port: Callable[..., SupervisorLink]
) -> None:
    port = make_port()
    connect(port, peer)
    for number in range(20):
        began = time.monotonic()
        port.send(emitted(number))
        assert peer.receive_work() == emitted(number)
        assert time.monotonic() - began < 5


def test_messages_sent_before_the_peer_binds_are_delivered(
    path: Path, make_port: Callable[..., SupervisorLink]
) -> None:
    port = make_port()
    port.start()
    port.send(emitted(1))
    late = Peer(path)
    try:
        assert late.receive_work() == emitted(1)
    finally:
        late.close()


def test_beats_go_on_while_the_compute_thread_is_busy(
    peer: Peer, make_port: Callable[..., SupervisorLink]
) -> None:
    steps = iter(range(1000))
    port = make_port(lambda: beat(next(steps)), 0.02)
    port.start()
    found = [peer.receive() for _ in range(5)]
    assert [message.step for message in found if isinstance(message, Beat)] == list(range(5))


def test_message_of_this_epoch_reaches_the_inbox_and_others_are_dropped(
    peer: Peer, make_port: Callable[..., SupervisorLink]
) -> None:
    port = make_port()
    connect(port, peer)
    peer.send(encode_link(Epoch(3), Warm()))
    peer.send(encode_link(Epoch(5), Warm()))
    peer.send(encode_link(EPOCH, Stop()))
    assert port.inbox.get(timeout=10) == Stop()
    assert port.inbox.empty()


def test_wake_ends_a_wait_on_the_inbox(make_port: Callable[..., SupervisorLink]) -> None:
    port = make_port()
    threading.Timer(0.01, port.wake).start()
    assert port.inbox.get(timeout=10) is None


def test_close_delivers_what_was_queued(
    peer: Peer, make_port: Callable[..., SupervisorLink]
) -> None:
    port = make_port()
    port.start()
    for number in range(2000):
        port.send(emitted(number))
    port.send(Stopped())
    port.close()
    found: list[int] = []
    while isinstance(message := peer.receive_work(), Emitted):
        found += message.tokens
    assert (found, message) == (list(range(2000)), Stopped())


def test_close_without_a_peer_ends_at_its_timeout(make_port: Callable[..., SupervisorLink]) -> None:
    port = make_port()
    port.start()
    port.send(Stopped())
    began = time.monotonic()
    port.close(0.1)
    assert time.monotonic() - began < 5


CHILD = """
import sys
from hotseat.protocol.ids import Epoch
from hotseat.protocol.link_reports import Beat
from hotseat.worker.link.port import SupervisorLink

def beat():
    if {fail}:
        raise KeyError("no such thing")
    return Beat(phase="", step=0, busy=False, active_bytes=0, cache_bytes=0, peak_bytes=0,
                live_kv_bytes=0)

port = SupervisorLink(sys.argv[1], Epoch(4), beat)
port.start()
port.inbox.get(timeout=20)
"""


def child(path: Path, *, fail: bool = False) -> "subprocess.Popen[str]":
    code = CHILD.format(fail=fail)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("body", [b"\xc1", b"\x81\xa4type\xa7unknown", b""])
def test_frame_that_does_not_decode_ends_the_process(path: Path, peer: Peer, body: bytes) -> None:
    with child(path) as process:
        peer.receive()
        peer.send(struct.pack("<IQ", len(body), EPOCH) + body)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == EX_PROTOCOL
    assert stderr.startswith("worker: frame on the link does not decode")


def test_frame_beyond_the_limit_ends_the_process(path: Path, peer: Peer) -> None:
    with child(path) as process:
        peer.receive()
        peer.send(struct.pack("<IQ", MAX_BODY_BYTES + 1, EPOCH))
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == EX_PROTOCOL
    assert str(MAX_BODY_BYTES) in stderr


def test_failing_link_thread_ends_the_process(path: Path, peer: Peer) -> None:
    with child(path, fail=True) as process:
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == EX_INTERNAL
    assert "KeyError" in stderr


def test_reseated_port_speaks_and_hears_the_new_epoch_from_the_next_frame_on(
    peer: Peer, make_port: Callable[..., SupervisorLink]
) -> None:
    port = make_port()
    connect(port, peer)
    later = Epoch(EPOCH + 1)
    peer.send(encode_link(EPOCH, Reseat(epoch=later)))
    peer.send(encode_link(EPOCH, Stop()))
    peer.send(encode_link(later, Warm()))
    assert port.inbox.get(timeout=10) == Reseat(epoch=later)
    assert port.inbox.get(timeout=10) == Warm()
    port.send(emitted(1))
    assert peer.receive(expected=later) == emitted(1)


def test_token_that_was_held_leaves_without_another_one(
    peer: Peer, make_port: Callable[..., SupervisorLink]
) -> None:
    port = make_port()
    connect(port, peer)
    # No step between them, so the last one is held, and nothing comes behind it.
    for number in (1, 2, 3):
        port.send(emitted(number))
    found: list[int] = []
    while len(found) < 3:  # no beat that could take it along comes within a minute
        message = peer.receive_work()
        assert isinstance(message, Emitted)
        found += message.tokens
    assert found == [1, 2, 3]


def test_sender_goes_on_while_nobody_reads_and_all_arrives_in_order(
    peer: Peer, make_port: Callable[..., SupervisorLink]
) -> None:
    port = make_port()
    connect(port, peer)
    long = "x" * 1000
    for number in range(3000):
        port.send(Emitted(request=KEY, tokens=(number, number), text=long))
    found = [peer.receive_work() for _ in range(3000)]
    assert [message.tokens[0] for message in found] == list(range(3000))


def test_port_rests_and_keeps_little_twice_while_nobody_reads(
    peer: Peer, make_port: Callable[..., SupervisorLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = make_port()
    connect(port, peer)
    turns: list[int] = []
    wait_ms = port._wait_ms
    monkeypatch.setattr(port, "_wait_ms", lambda: turns.append(1) or wait_ms())
    for number in range(5000):
        port.send(Emitted(request=KEY, tokens=(number, number), text="x" * 1000))
    for number in range(5):
        port.send(emitted(number))  # held, and looked after
    assert len(port._unsent) < 1_000_000, "the rest waits as it is"
    turns.clear()
    time.sleep(0.5)  # what is judged: turns in a time in which nothing can be done
    assert len(turns) < 100


def test_sender_goes_on_when_the_other_end_is_gone(
    peer: Peer, make_port: Callable[..., SupervisorLink]
) -> None:
    port = make_port()
    connect(port, peer)
    peer.close()
    for number in range(100):
        port.send(emitted(number))
    began = time.monotonic()
    port.close(60.0)
    assert time.monotonic() - began < 20, "nobody is waited for"


def test_frame_at_rest_brings_the_next_beat_near(path: Path, peer: Peer) -> None:
    port = SupervisorLink(str(path), EPOCH, beat, beat_s=0.02, rest_s=60.0)
    connect(port, peer)
    try:
        # At rest once the same beat was sent twice, long after anything else.
        beats = iter(lambda: peer.receive(3), None)
        with pytest.raises(TimeoutError):
            deque(beats, maxlen=0)
        port.send(emitted(1))
        assert peer.receive() == emitted(1)
        assert isinstance(peer.receive(20), Beat)
    finally:
        port.close(0.1)
