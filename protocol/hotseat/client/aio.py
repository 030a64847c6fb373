"""The client for asyncio programs: one method per kind of message.

Pings go out from the caller's event loop: a loop that is blocked for more than three seconds
looks like a client that vanished. Programs that compute use `hotseat.client.Client`.
"""

import asyncio
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, Unpack

import msgspec

from hotseat.client.completion import Completion
from hotseat.client.connection import Connection
from hotseat.client.disk_verbs import AsyncDiskVerbs
from hotseat.client.exchange import Call, Subscription, SwapExchange
from hotseat.client.flow import AsyncEvents, AsyncStream, Flow, ProgressCallback
from hotseat.client.requests import (
    GenerateOptions,
    MessageLike,
    as_message,
    build_generate,
    choose_request_id,
)
from hotseat.client.results import CALL_S, ModelsResult, typed
from hotseat.client.session_verbs import AsyncSessionVerbs
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ClientToken, is_client_token
from hotseat.protocol.limits import DEFAULT_CREDIT_BYTES, TOKEN_BYTES, WELCOME_S
from hotseat.protocol.messages import (
    Attach,
    Cancel,
    ClientInfo,
    ClientMessage,
    Events,
    Generate,
    Models,
    Plan,
    Quote,
    Release,
    Reload,
    Shutdown,
    Status,
    Swap,
    Why,
)
from hotseat.protocol.replies import Progress, Reply, SwapReport, Welcome
from hotseat.protocol.views import (
    ModelView,
    PlanView,
    QuoteView,
    ReleaseView,
    ReloadView,
    StatusView,
    WhyView,
)

SwapMode = Literal["auto", "process", "in-process"]
RECONNECT_S: Final = 60.0
"""As long as the daemon keeps unclaimed work after a restart."""


class _Quotes(msgspec.Struct, frozen=True):
    quotes: tuple[QuoteView, ...]


class _Swaps(msgspec.Struct, frozen=True):
    swaps: tuple[WhyView, ...]


class _Cancelled(msgspec.Struct, frozen=True):
    cancelled: bool


class AsyncClient(AsyncSessionVerbs, AsyncDiskVerbs):
    """A connection to the daemon that survives restarts of the daemon.

    Args:
        endpoint: `ipc://` address; by default the daemon is looked up.
        home: folder of the daemon, instead of $HOTSEAT_ENDPOINT and $HOTSEAT_HOME.
        token: identity to continue; by default a new one is drawn.
        name: shown in the daemon's logs and as the cause of swaps.
        connect_timeout_s: how long a call may wait for a daemon to say Welcome.
        reconnect_timeout_s: how long streams and swaps wait for a daemon that went away.
        call_timeout_s: how long a connected daemon may take to answer a read.
        window_bytes: output the daemon may send ahead of the consumer, per stream.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        home: Path | None = None,
        token: str | None = None,
        name: str = "python",
        connect_timeout_s: float = WELCOME_S,
        reconnect_timeout_s: float = RECONNECT_S,
        call_timeout_s: float = CALL_S,
        window_bytes: int = DEFAULT_CREDIT_BYTES,
    ) -> None:
        if token is not None and not is_client_token(token):
            raise HotseatError("invalid_request", "token must be 32 lower-case hex digits")
        self.token: Final = ClientToken(token or secrets.token_hex(TOKEN_BYTES))
        self._call_patience_s = connect_timeout_s
        self._work_patience_s = reconnect_timeout_s
        self._call_timeout_s = call_timeout_s
        self._window_bytes = window_bytes
        info = ClientInfo(name=name, pid=os.getpid())
        self._connection = Connection(endpoint, home, self.token, info, connect_timeout_s)

    @property
    def welcome(self) -> Welcome | None:
        """The daemon's greeting; None while there is no connection."""
        return self._connection.dialogue.welcome

    @property
    def instances(self) -> tuple[str, ...]:
        """Instances of the daemon seen by this client; two differ by a restart."""
        return tuple(self._connection.dialogue.instances)

    async def connect(self) -> Welcome:
        """Connects; raises DaemonUnreachable when no daemon answers in time."""
        return await self._connection.connect()

    async def close(self) -> None:
        """Ends the connection. Work still open is treated by its `on_vanish`."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def generate(
        self,
        model: str,
        *,
        request_id: str | None = None,
        on_progress: ProgressCallback | None = None,
        **options: Unpack[GenerateOptions],
    ) -> AsyncStream:
        """Starts work; the stream is iterated, or left to cancel it."""
        request = build_generate(model, self._window_bytes, **options)
        return self._stream(request, choose_request_id(request_id), on_progress)

    def attach(
        self,
        request_id: str,
        offset_tokens: int = 0,
        *,
        on_progress: ProgressCallback | None = None,
    ) -> AsyncStream:
        """Joins work of this token in progress, or its kept result, from an offset on."""
        request = Attach(
            request_id=request_id, offset_tokens=offset_tokens, credit_bytes=self._window_bytes
        )
        # Under the id of the work itself: one stream per request and client.
        return self._stream(request, choose_request_id(request_id), on_progress)

    def _stream(
        self, request: Generate | Attach, request_id: str, on_progress: ProgressCallback | None
    ) -> AsyncStream:
        completion = Completion(choose_request_id(request_id), request, self._work_patience_s)
        flow = self._connection.start(completion)
        return AsyncStream(flow, completion, self.cancel, on_progress)

    async def cancel(self, request_id: str) -> bool:
        """Ends work of this token; False when there was nothing left to end."""
        reply = await self._call(Cancel(request_id=request_id))
        return typed(reply, _Cancelled).cancelled

    async def swap(
        self,
        model: str,
        mode: SwapMode = "auto",
        *,
        on_progress: ProgressCallback | None = None,
        request_id: str | None = None,
    ) -> SwapReport:
        """Seats a model and reports what it took."""
        flow = self.start_swap(model, mode, request_id=request_id)
        while (progress := await flow.next()) is not None:
            if on_progress is not None:
                on_progress(progress)
        return await flow.result()

    def start_swap(
        self, model: str, mode: SwapMode = "auto", *, request_id: str | None = None
    ) -> Flow[Progress, SwapReport]:
        """A swap whose phases the caller takes one by one."""
        swap = Swap(model=model, mode=mode)
        return self._connection.start(
            SwapExchange(choose_request_id(request_id), swap, self._work_patience_s)
        )

    async def reload(self) -> ReloadView:
        """Has the daemon read its settings again; a wrong file changes nothing."""
        return typed(await self._call(Reload()), ReloadView)

    async def release(self, for_s: float | None = None, model: str | None = None) -> ReleaseView:
        """Has the seat given up; contexts are kept. Takes as long as running requests may.

        With `for_s`, requests do not seat a model for so many seconds; `swap` does. With `model`,
        only if that model holds the seat when its turn comes: `not_seated` otherwise.
        """
        opening = Release(for_s=for_s, model=model)
        return typed(await self._call_patiently(opening), ReleaseView)

    async def quote(
        self,
        models: Sequence[str],
        session: str | None = None,
        messages: Sequence[MessageLike] | None = None,
    ) -> list[QuoteView]:
        """What a request of each model would cost now, for a session or for messages."""
        given = None if messages is None else tuple(as_message(entry) for entry in messages)
        quote = Quote(models=tuple(models), session=session, messages=given)
        return list(typed(await self._call(quote), _Quotes).quotes)

    async def why(self, limit: int = 10) -> list[WhyView]:
        """The last swaps with who caused them, newest first."""
        return list(typed(await self._call(Why(limit=limit)), _Swaps).swaps)

    async def status(self) -> StatusView:
        """State of seat, worker, queue and memory."""
        return typed(await self._call(Status()), StatusView)

    async def models(self) -> list[ModelView]:
        """Registered models."""
        return list(typed(await self._call(Models()), ModelsResult).models)

    async def plan(
        self, model: str, ram_bytes: int | None = None, working_set_bytes: int | None = None
    ) -> PlanView:
        """Memory plan of a model, here or on a machine with so much memory; nothing is loaded."""
        plan = Plan(model=model, ram_bytes=ram_bytes, working_set_bytes=working_set_bytes)
        return typed(await self._call(plan), PlanView)

    def events(self, since: int | None = None, topics: Sequence[str] = ()) -> AsyncEvents:
        """Events behind `since`, or from now on; iterate, and leave it as a context manager."""
        opening = Events(since=since, topics=tuple(topics), credit_bytes=self._window_bytes)
        subscription = Subscription(choose_request_id(None), opening, self._work_patience_s)
        return AsyncEvents(self._connection.start(subscription), self.cancel)

    async def shutdown(self) -> None:
        """Asks the daemon to stop; returns when it said yes or is gone."""
        await self._call(Shutdown())

    async def _call_patiently(self, message: ClientMessage) -> Reply:
        """What may take minutes: only a daemon that is gone ends the wait."""
        call = Call(choose_request_id(None), message, self._work_patience_s)
        flow = self._connection.start(call)
        try:
            return await flow.result()
        finally:
            flow.abandon()

    async def _call(self, message: ClientMessage) -> Reply:
        flow = self._connection.start(Call(choose_request_id(None), message, self._call_patience_s))
        try:
            async with asyncio.timeout(self._call_timeout_s):
                return await flow.result()
        except TimeoutError:
            kind = type(message).__name__.lower()
            raise HotseatError(
                "deadline_exceeded",
                f"no answer to {kind} within {self._call_timeout_s:g} s although the daemon lives; "
                "raise call_timeout_s or see `hotseat logs`",
                timeout_s=self._call_timeout_s,
            ) from None
        finally:
            flow.abandon()
