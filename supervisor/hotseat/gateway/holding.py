"""Whole answers that take longer than a client is kept waiting.

The work goes on without anybody; who asks the very same again gets what it made.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Struct
from starlette.requests import Request

from hotseat.client.flow import AsyncStream
from hotseat.gateway.replying import SESSION_HEADER, owner_of
from hotseat.gateway.serving import Whole, unless_gone, whole
from hotseat.protocol.errors import HotseatError

HOLD_S: Final = 540.0
"""The packages of agents give up at 600."""
_KEPT_S: Final = 600.0
"""How long work goes on that nobody asks for."""
_MOST: Final = 64
"""Of one key: nobody's work makes room for another's."""
_RETRY_S: Final = 1.0


class Begun(Struct, frozen=True):
    """Accepted work, and how its answer is told."""

    stream: AsyncStream
    told: Callable[[Whole], dict[str, Any]]


class Work:
    """An answer in the making, with a client or without."""

    def __init__(self, owner: str, begun: Begun) -> None:
        self.owner = owner
        self.job = asyncio.ensure_future(_answered(begun))
        self._stream = begun.stream
        self.ends: asyncio.TimerHandle | None = None

    async def abandon(self) -> None:
        """Cancels it at the daemon."""
        if self.ends is not None:
            self.ends.cancel()
        self.job.cancel()
        await asyncio.gather(self.job, return_exceptions=True)
        await self._stream.leave()


class Holding:
    """Waits for whole answers, each at most `hold_s` at a time."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_s = hold_s
        self._detached: dict[bytes, Work] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def answer(
        self, request: Request, begin: Callable[[], Awaitable[Begun]]
    ) -> dict[str, Any]:
        """The answer, of work that `begin` starts unless it is under way.

        Raises still_working when the client has waited long enough, ClientGoneError when it left.
        """
        key = key_of(request, await request.body())
        work = self._detached.pop(key, None)
        if work is None:
            work = Work(owner_of(request), await begin())
        elif work.ends is not None:
            work.ends.cancel()
        try:
            async with asyncio.timeout(self._hold_s):
                return await unless_gone(request, _shielded(work.job))
        except TimeoutError:
            self._keep(key, work)
            raise HotseatError(
                "still_working",
                f"no answer after {self._hold_s:g} s; it is still being made: ask the same again, "
                "or ask for a stream",
                retry_after_s=_RETRY_S,
                hold_s=self._hold_s,
            ) from None
        except BaseException:
            await work.abandon()
            raise

    def _keep(self, key: bytes, work: Work) -> None:
        self._drop(key)
        own = [found for found, one in self._detached.items() if one.owner == work.owner]
        if len(own) >= _MOST:
            self._drop(own[0])
        work.ends = asyncio.get_running_loop().call_later(_KEPT_S, self._drop, key)
        self._detached[key] = work

    def _drop(self, key: bytes) -> None:
        if (work := self._detached.pop(key, None)) is not None:
            leaving = asyncio.ensure_future(work.abandon())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)


async def _answered(begun: Begun) -> dict[str, Any]:
    return begun.told(await whole(begun.stream))


async def _shielded(job: "asyncio.Future[dict[str, Any]]") -> dict[str, Any]:
    return await asyncio.shield(job)


def key_of(request: Request, body: bytes) -> bytes:
    """The same for the same body by the same client for the same path and session. Pure."""
    session = request.headers.get(SESSION_HEADER, "")
    parts = (owner_of(request), request.url.path, session)
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode() + b"\0")
    digest.update(body)
    return digest.digest()
