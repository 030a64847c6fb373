"""Readers of requests on real sockets: credit, notes while nothing happens, readers that stop."""

import asyncio
import time
from types import SimpleNamespace

import pytest
import zmq
from tests.support.peers.raw_peer import RawPeer, tokens_of

from hotseat.protocol.limits import MIB, PROGRESS_S
from hotseat.protocol.link_reports import Emitted
from hotseat.protocol.messages import Generate
from hotseat.protocol.replies import Accepted, Done, ErrorBody, Progress, Timing, Usage
from hotseat.supervisor.ports.client_port import ClientPort, Identity
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.settings.values import LimitSettings, Settings

PATIENCE_S = 0.2
DONE = Done(model="a", text="", tokens=(), finish_reason="stop", usage=Usage(), timing=Timing())


class Desk:
    """A port with an outbox behind it; the first message of a peer makes it a reader."""

    def __init__(self, path, patience_s):
        self.works = Works()
        self.abandoned = []
        self.peers = []
        self.context = zmq.Context()
        self.port = ClientPort(path / "s", Identity(instance="i", version="0", started_at=0.0))
        settings = Settings(limits=LimitSettings(slow_consumer_s=patience_s))
        noted = SimpleNamespace(note=self.abandoned.append)
        self.outbox = Outbox(self.works, self.port, noted, settings)
        self.port.open(self)
        self.work = self.works.create("k", "r", "c", Generate(model="a", prompt="x"))
        self.work.state = WorkState.RUNNING
        self.work.accepted_at = time.monotonic()

    def forget(self, peer):
        self.outbox.forget(peer)

    def route(self, peer, request_id, message, ignored):
        assert ignored == ()
        if isinstance(message, Generate):
            self.outbox.attach(self.work, peer, request_id, 0, message.credit_bytes)
            self.outbox.accepted(self.work, Accepted(position=0))
        else:
            self.outbox.grant(peer, request_id, message.grant_bytes)

    def emit(self, text, count=1):
        tokens = tuple(range(self.work.completion_tokens, self.work.completion_tokens + count))
        output = Emitted(request=self.work.key, tokens=tokens, text=text)
        self.outbox.emit(self.work, self.work.add_emission(output))

    def close(self):
        for peer in self.peers:
            peer.close()
        self.port.close(0)
        self.port.end()
        self.context.term()


@pytest.fixture
async def desk(tmp_path, request):
    made = Desk(tmp_path, getattr(request, "param", PATIENCE_S))
    yield made
    made.close()


async def reader(desk, credit_bytes, request_id="r"):
    def connect():
        peer = RawPeer(desk.port.address)
        desk.peers.append(peer)
        peer.say(Generate(model="a", prompt="x", credit_bytes=credit_bytes), request_id)
        assert isinstance(peer.answer(request_id), Accepted)
        return peer

    return await asyncio.to_thread(connect)


async def tick_until(desk, condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        desk.outbox.tick(time.monotonic())
        await asyncio.sleep(0.01)  # between two looks at the condition


async def test_reader_without_credit_gets_slow_consumer_and_others_get_everything(desk):
    slow, good = await reader(desk, 1), await reader(desk, 10 * MIB)
    for _ in range(20):
        desk.emit("x" * (MIB // 10))
    await tick_until(desk, lambda: len(desk.work.readers) == 1)
    assert desk.abandoned == [], "somebody still reads"
    desk.outbox.end(desk.work, DONE)
    messages = await asyncio.to_thread(good.until_end, "r")
    assert tokens_of(messages) == list(range(20))
    assert messages[-1] == DONE
    first, error = await asyncio.to_thread(slow.until_end, "r")
    assert len(first.tokens) == 1, "one chunk may overdraw"
    assert error.code == "slow_consumer"


async def test_last_reader_that_does_not_read_leaves_its_work_abandoned(desk):
    await reader(desk, 1)
    for _ in range(20):
        desk.emit("x" * (MIB // 10))
    await tick_until(desk, lambda: desk.abandoned == [desk.work])


async def test_reader_with_little_waiting_may_take_its_time(desk):
    await reader(desk, 1)
    for _ in range(20):
        desk.emit("x" * 1_000)
    began = time.monotonic()
    await tick_until(desk, lambda: time.monotonic() - began > 2 * PATIENCE_S)
    assert len(desk.work.readers) == 1


async def test_quiet_stream_says_something_every_half_second(desk):
    peer = await reader(desk, 1_000)
    (held,) = desk.work.readers
    for _ in range(2):
        said_at = held.sent_at
        desk.outbox.tick(said_at + PROGRESS_S / 2 - 0.01)
        assert held.sent_at == said_at, "a flood"
        desk.outbox.tick(said_at + PROGRESS_S)
        assert held.sent_at > said_at
        _, note = await asyncio.to_thread(peer.receive)
        assert isinstance(note, Progress)


async def test_end_waits_behind_output_that_has_no_credit_yet(desk):
    peer = await reader(desk, 1)
    for _ in range(3):
        desk.emit("abc")
    desk.outbox.end(desk.work, DONE)
    assert isinstance(await asyncio.to_thread(peer.answer, "r"), object)
    assert await asyncio.to_thread(peer.silence, 0.1)
    (held,) = desk.work.readers
    desk.outbox.grant(held.peer, "r", 1_000)
    rest = await asyncio.to_thread(peer.until_end, "r")
    assert rest[-1] == DONE
    assert rest[0].offset_tokens == 1


async def test_output_that_comes_together_shares_a_chunk(desk):
    peer = await reader(desk, 1_000)
    for _ in range(3):
        desk.emit("abc")
    chunk = await asyncio.to_thread(peer.answer, "r")
    assert chunk.tokens == (0, 1, 2)


async def test_output_that_comes_alone_is_not_held(desk):
    peer = await reader(desk, 1_000)
    desk.emit("abc")
    chunk = await asyncio.to_thread(peer.answer, "r")
    desk.emit("def")
    assert (chunk.tokens, (await asyncio.to_thread(peer.answer, "r")).tokens) == ((0,), (1,))


async def test_reader_that_went_away_is_dropped_at_the_next_word(desk):
    peer = await reader(desk, 1_000)
    peer.close()

    def speak():
        desk.emit("x")
        return desk.abandoned == [desk.work]

    await tick_until(desk, speak)
    assert desk.port._peers == {}


async def test_error_ends_a_stream_that_was_never_accepted(desk):
    peer = await asyncio.to_thread(RawPeer, desk.port.address)
    desk.peers.append(peer)
    desk.route = lambda who, name, *_: desk.outbox.attach(desk.work, who, name, 0, None)
    peer.say(Generate(model="a", prompt="x"), "r")
    await tick_until(desk, lambda: desk.work.readers)
    error = ErrorBody(code="disk_full", message="full")
    desk.outbox.end(desk.work, error)
    assert await asyncio.to_thread(peer.answer, "r") == error


@pytest.mark.parametrize("desk", [60.0], indirect=True)
async def test_reader_slower_than_the_output_gets_all_of_it_and_stays_connected(desk):
    peer = await reader(desk, 100 * MIB)
    for _ in range(6_000):  # more than two queues of messages and a socket's buffer hold
        desk.emit("x" * 500)
        desk.outbox.pump(desk.work)
    assert desk.work.readers[0].held is not None, "the connection never was full"
    desk.outbox.end(desk.work, DONE)
    listening = asyncio.create_task(asyncio.to_thread(peer.until_end, "r"))
    await tick_until(desk, listening.done, timeout_s=60.0)
    messages = await listening
    assert tokens_of(messages) == list(range(6_000))
    assert messages[-1] == DONE


async def test_reader_whose_connection_stays_full_is_given_up(desk):
    await reader(desk, 100 * MIB)
    for _ in range(6_000):
        desk.emit("x" * 1_000)
        desk.outbox.pump(desk.work)
    await tick_until(desk, lambda: desk.abandoned == [desk.work])
