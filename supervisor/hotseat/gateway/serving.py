"""A request on its way: accepted by the daemon, told to a client, cancelled when that is gone.

Must not know dialects: what is sent comes from a `Telling`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hotseat.client import AsyncClient
from hotseat.client.flow import AsyncStream
from hotseat.gateway.sse import MEDIA_TYPE
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Chunk, Done, Progress, TokenLogprob

_log = logging.getLogger("hotseat.gateway")
ALIVE_S: Final = 10.0
"""Silence after which a stream says something: no client tried gives up sooner."""
CLOSED: Final = 499
"""Nobody is left to read it; the number is what proxies write into their logs."""
T = TypeVar("T")


class Telling(Protocol):
    """One answer in a dialect, as bytes."""

    def begin(self) -> bytes:
        """As soon as the request is accepted."""

    def alive(self, progress: Progress | None, silent_s: float) -> bytes:
        """While nothing else is to be said."""

    def take(self, chunk: Chunk) -> bytes:
        """Output."""

    def end(self, done: Done) -> bytes:
        """A good end."""

    def fail(self, error: HotseatError) -> bytes:
        """A bad one."""


class Whole(msgspec.Struct, frozen=True):
    """A whole answer, with what only chunks have."""

    done: Done
    logprobs: list[TokenLogprob]


class ClientGoneError(Exception):
    """The HTTP client hung up: the work is cancelled."""


async def accepted(stream: AsyncStream) -> None:
    """Returns when the daemon took the request. Raises its refusal."""
    while stream.accepted is None:
        if await stream.next_event() is None:
            return


async def whole(stream: AsyncStream) -> Whole:
    """The answer at its end."""
    logprobs: list[TokenLogprob] = []
    while (event := await stream.next_event()) is not None:
        if isinstance(event, Chunk):
            logprobs += event.logprobs
    return Whole(await stream.result(), logprobs)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which ends when the HTTP client hangs up (ClientGoneError)."""
    job = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(request.receive))
    try:
        await asyncio.wait({job, watch}, return_when=asyncio.FIRST_COMPLETED)
        if job.done():
            return job.result()
        raise ClientGoneError
    finally:
        # A defect of one must not keep the other from being ended.
        job.cancel()
        watch.cancel()
        await asyncio.gather(job, watch, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Streamed(Response):
    """A stream of events. Leaves the work, and so cancels it, as soon as nobody reads."""

    def __init__(
        self,
        stream: AsyncStream,
        telling: Telling,
        headers: dict[str, str],
        media_type: str = MEDIA_TYPE,
    ) -> None:
        fixed = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(media_type=media_type, headers=fixed | headers)
        del self.headers["content-length"]
        self._stream = stream
        self._telling = telling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until the end, or until the client is gone."""
        del scope
        try:
            head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(head)
            await self._tell_while_read(receive, send)
        finally:
            await self._stream.leave()

    async def _tell_while_read(self, receive: Receive, send: Send) -> None:
        job = asyncio.ensure_future(self._tell(_sender(send)))
        watch = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({job, watch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (job, watch):
                task.cancel()
            told, _ = await asyncio.gather(job, watch, return_exceptions=True)
        if isinstance(told, Exception) and not isinstance(told, OSError):
            raise told

    async def _tell(self, put: Callable[[bytes], Awaitable[None]]) -> None:
        told = self._telling
        if begun := told.begin():
            await put(begun)
        try:
            await self._output(put)
            data = told.end(await self._stream.result())
        except HotseatError as error:
            data = told.fail(error)
        except (OSError, RuntimeError):
            raise  # the connection, not the answer
        except Exception as defect:  # noqa: BLE001 - task root: a stream must not end without a word
            _log.exception("stream.failed")
            name = type(defect).__name__
            data = told.fail(HotseatError("internal", f"the gateway failed ({name})"))
        await put(data)
        await put(b"")

    async def _output(self, put: Callable[[bytes], Awaitable[None]]) -> None:
        """Chunks as they come, and a sign of life whenever nothing was said for a while."""
        told = self._telling
        progress: Progress | None = None
        loop = asyncio.get_running_loop()
        spoke_at = said_at = loop.time()
        while True:
            try:
                # One timer for as many events as come in its time: progress comes all the time.
                async with asyncio.timeout_at(said_at + ALIVE_S) as silence:
                    while (event := await self._stream.next_event()) is not None:
                        if isinstance(event, Progress):
                            progress = event
                        elif isinstance(event, Chunk) and (data := told.take(event)):
                            silence.reschedule(None)
                            await put(data)
                            spoke_at = said_at = loop.time()
                            silence.reschedule(said_at + ALIVE_S)
            except TimeoutError:
                said_at = loop.time()
                await put(told.alive(progress, said_at - spoke_at))
            else:
                return


def _sender(send: Send) -> Callable[[bytes], Awaitable[None]]:
    async def put(data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": bool(data)})

    return put


async def reached(client: AsyncClient) -> AsyncClient:
    """The client, connected. Raises daemon_unreachable at once rather than after a minute."""
    if client.welcome is None:
        await client.connect()
    return client
