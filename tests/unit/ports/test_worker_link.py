"""The supervisor's end of the link, with the worker's end played by a plain socket."""

import asyncio
import os
import socket
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.protocol import link
from hotseat.protocol.ids import Epoch, RequestKey
from hotseat.protocol.link import MAX_BODY_BYTES, LinkReader, encode_link
from hotseat.protocol.link_orders import Reseat, Stop, Warm
from hotseat.protocol.link_reports import Emitted, WorkerHello
from hotseat.supervisor.ports import worker_link
from hotseat.supervisor.ports.worker_link import WorkerLink

EPOCH = Epoch(7)
KEY = RequestKey("t:r")
HELLO = WorkerHello(pid=1, token="0" * 32)
SEEN_S = 20.0


class Heard:
    """What a port told, and a way to wait for it."""

    def __init__(self):
        self.messages = []
        self.raises_at = None
        self.closes_at = None

    def __call__(self, port, epoch, message):
        assert epoch == port.epoch
        self.messages.append(message)
        if len(self.messages) == self.raises_at:
            raise KeyError("no such thing")
        if len(self.messages) == self.closes_at:
            port.close()

    async def count(self, number):
        async with asyncio.timeout(SEEN_S):
            while len(self.messages) < number:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)  # between two looks


def said(number):
    return Emitted(request=KEY, tokens=(number,), text="x")


def tokens(heard):
    return [message.tokens[0] for message in heard.messages]


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
async def port(tmp_path, heard):
    made = WorkerLink(tmp_path / "link.sock", EPOCH, heard)
    yield made
    made.close()


@pytest.fixture
def worker(port):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.connect(str(port.path))
        yield made


async def test_messages_arrive_in_order_whatever_the_pieces(port, worker, heard):
    data = b"".join(encode_link(EPOCH, said(number)) for number in range(50))
    for start in range(0, len(data), 7):
        worker.sendall(data[start : start + 7])
        if start % 70 == 0:
            await asyncio.sleep(0)  # a turn of the loop, so that it reads what is there
    await heard.count(50)
    assert tokens(heard) == list(range(50))


async def test_hello_is_kept_and_believed_in_any_epoch(port, worker, heard):
    worker.sendall(encode_link(Epoch(3), HELLO))
    await heard.count(1)
    assert port.hello == HELLO


async def test_frames_of_another_epoch_are_dropped(port, worker, heard):
    worker.sendall(encode_link(Epoch(6), said(1)) + encode_link(EPOCH, said(2)))
    await heard.count(1)
    assert tokens(heard) == [2]


async def test_what_was_said_before_the_close_is_heard(port, worker, heard):
    worker.sendall(encode_link(EPOCH, said(0)))
    await heard.count(1)
    # The loop gets no turn: the end of a process is noticed before its last words are read.
    worker.sendall(b"".join(encode_link(EPOCH, said(number)) for number in range(1, 60)))
    worker.close()
    port.close()
    assert tokens(heard) == list(range(60))


async def test_worker_that_came_and_went_before_it_was_looked_at_is_heard(port, heard):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as worker:
        worker.connect(str(port.path))
        worker.sendall(encode_link(EPOCH, HELLO))
    port.close()
    assert heard.messages == [HELLO]


async def test_close_in_the_middle_of_a_piece_keeps_the_order(port, worker, heard):
    heard.closes_at = 2
    worker.sendall(b"".join(encode_link(EPOCH, said(number)) for number in range(5)))
    await heard.count(5)
    assert tokens(heard) == list(range(5))


async def test_message_that_fails_does_not_swallow_those_behind_it(port, worker, heard):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    heard.raises_at = 2
    worker.sendall(b"".join(encode_link(EPOCH, said(number)) for number in range(4)))
    await heard.count(4)
    assert tokens(heard) == list(range(4))
    assert isinstance(told[0]["exception"], KeyError)


async def test_frame_that_does_not_decode_is_left_out(port, worker, heard):
    broken = struct.pack("<IQ", 1, EPOCH) + b"\xc1"
    worker.sendall(encode_link(EPOCH, said(1)) + broken + encode_link(EPOCH, said(2)))
    await heard.count(2)
    assert tokens(heard) == [1, 2]


async def test_frame_beyond_the_limit_ends_the_connection(port, worker, heard):
    worker.sendall(encode_link(EPOCH, said(1)) + struct.pack("<IQ", MAX_BODY_BYTES + 1, EPOCH))
    await asyncio.to_thread(worker.settimeout, SEEN_S)
    assert await asyncio.to_thread(worker.recv, 1) == b""
    assert not port.send(Warm())


async def test_nobody_else_gets_in_behind_the_worker(port, worker, heard):
    worker.sendall(encode_link(EPOCH, said(1)))
    await heard.count(1)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other,
        pytest.raises(ConnectionRefusedError),
    ):
        other.connect(str(port.path))


async def test_another_user_is_sent_away_and_the_worker_still_gets_in(
    port, worker, heard, monkeypatch
):
    users = iter([False, True])
    monkeypatch.setattr(worker_link, "_is_own", lambda _socket: next(users))
    worker.settimeout(SEEN_S)
    assert await asyncio.to_thread(worker.recv, 1) == b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:
        own.connect(str(port.path))
        own.sendall(encode_link(EPOCH, said(1)))
        await heard.count(1)


async def test_send_without_a_worker_says_no(port):
    assert not port.send(Warm())


async def test_orders_reach_a_worker_that_reads_late_in_order(port, worker, heard):
    worker.sendall(encode_link(EPOCH, said(1)))
    await heard.count(1)
    orders = [Reseat(epoch=Epoch(number)) for number in range(20_000)]
    assert all(port.send(order) for order in orders)
    assert port.send(Stop())
    reader = LinkReader()
    found = []
    worker.setblocking(False)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(SEEN_S):
        while len(found) <= len(orders):
            found += reader.feed(await loop.sock_recv(worker, 1 << 16))
    assert b"".join(
        struct.pack("<IQ", len(frame.body), frame.epoch) + frame.body for frame in found
    ) == b"".join(encode_link(EPOCH, order) for order in [*orders, Stop()])


async def test_worker_that_takes_nothing_is_refused_more_than_the_limit(
    port, worker, heard, monkeypatch
):
    monkeypatch.setattr(worker_link, "MAX_BODY_BYTES", 100_000)
    worker.sendall(encode_link(EPOCH, said(1)))
    await heard.count(1)
    deadline = time.monotonic() + SEEN_S
    while port.send(Warm()):
        assert time.monotonic() < deadline


async def test_send_to_a_worker_that_is_gone_says_no_once_that_is_known(port, worker, heard):
    worker.sendall(encode_link(EPOCH, said(1)))
    worker.close()
    await heard.count(1)
    async with asyncio.timeout(SEEN_S):
        while port.send(Warm()):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)  # a turn of the loop, in which it notices


def test_message_beyond_the_limit_is_named_where_it_is_made(monkeypatch):
    monkeypatch.setattr(link, "MAX_BODY_BYTES", 100)
    with pytest.raises(ValueError, match=r"Emitted of \d+ bytes; the limit of a frame is 100"):
        encode_link(EPOCH, Emitted(request=KEY, tokens=(1,), text="x" * 200))


@given(
    sizes=st.lists(st.integers(0, 300), max_size=20),
    pieces=st.lists(st.integers(1, 400), min_size=1, max_size=20),
)
def test_reader_finds_every_frame_however_the_stream_is_cut(sizes, pieces):
    frames = [(Epoch(number), bytes([number % 256]) * size) for number, size in enumerate(sizes)]
    data = b"".join(struct.pack("<IQ", len(body), epoch) + body for epoch, body in frames)
    reader, found, at, turn = LinkReader(), [], 0, 0
    while at < len(data):
        length = pieces[turn % len(pieces)]
        found += reader.feed(data[at : at + length])
        at, turn = at + length, turn + 1
    assert [tuple(frame) for frame in found] == frames


class MacPeer:
    """The other end as a Mac's kernel would describe it: `struct xucred` of <sys/ucred.h>."""

    def __init__(self, user, version=0, error=None):
        groups = (20, 12, 61, *[0] * 13)
        self.answer = struct.pack("=IIh2x16I", version, user, 3, *groups)
        self.error = error

    def getsockopt(self, level, option, size):
        assert (level, option, size) == (0, 1, 76)
        if self.error is not None:
            raise self.error
        return self.answer


@pytest.mark.parametrize(
    ("peer", "is_own"),
    [
        (MacPeer(os.getuid()), True),
        (MacPeer(os.getuid() + 1), False),
        (MacPeer(os.getuid() + 1, version=1), True),  # of a layout nobody knows
        (MacPeer(os.getuid() + 1, error=OSError(57, "not connected")), True),
    ],
)
def test_another_user_is_refused_where_a_mac_can_tell(monkeypatch, peer, is_own):
    monkeypatch.setattr(worker_link.sys, "platform", "darwin")
    assert worker_link._is_own(peer) is is_own
