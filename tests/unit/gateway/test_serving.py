"""However an answer ends: the work is left, and nobody waits any more."""

import asyncio

import pytest

from hotseat.gateway.serving import Streamed, unless_gone
from hotseat.protocol.replies import Chunk


class Stream:
    """Work with one piece of output."""

    def __init__(self):
        self.was_left = False
        self._events = [Chunk(seq=0, offset_tokens=0, parts=())]

    async def next_event(self):
        return self._events.pop() if self._events else None

    async def leave(self):
        self.was_left = True


class Telling:
    """Fails in the middle of an answer."""

    def __init__(self, error):
        self._error = error

    def begin(self):
        return b"begun"

    def take(self, _chunk):
        raise self._error

    def fail(self, error):
        return error.code.encode()


async def never():
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    "error", [RecursionError("deep"), ConnectionResetError(), ValueError("no")]
)
async def test_work_is_left_when_its_telling_fails(error):
    stream = Stream()
    sent = []

    async def send(message):
        sent.append(message.get("body"))

    failed = None
    try:
        await Streamed(stream, Telling(error), {})({"type": "http"}, never, send)
    except RecursionError as defect:
        failed = defect
    assert stream.was_left
    assert failed is (error if isinstance(error, RecursionError) else None)
    assert (sent[-1] == b"") is isinstance(error, ValueError)


async def test_work_is_left_when_nothing_can_be_sent_at_all():
    stream = Stream()

    async def send(_message):
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await Streamed(stream, Telling(ValueError()), {})({"type": "http"}, never, send)
    assert stream.was_left


async def test_nobody_listens_for_a_hang_up_behind_a_defect():
    class Request:
        receive = staticmethod(never)

    async def work():
        raise ZeroDivisionError

    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        await unless_gone(Request, work())
    assert asyncio.all_tasks() == before
