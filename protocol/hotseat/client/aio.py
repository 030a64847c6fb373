"""The client for asyncio programs: what has one reply (`verbs`), streams, swaps and events.

Pings go out from the caller's event loop: a loop that is blocked for more than three seconds
looks like a client that vanished. Programs that compute use `hotseat.client.Client`.
"""

import asyncio
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Self, Unpack

from hotseat.client.completion import Completion
from hotseat.client.connection import Connection
from hotseat.client.exchange import Call, Subscription, SwapExchange
from hotseat.client.flow import AsyncEvents, AsyncStream, Flow, ProgressCallback
from hotseat.client.requests import GenerateOptions, build_generate, choose_request_id
from hotseat.client.verbs import CALL_S, Verbs
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ClientToken, is_client_token
from hotseat.protocol.limits import DEFAULT_CREDIT_BYTES, TOKEN_BYTES, WELCOME_S
from hotseat.protocol.messages import (
    Attach,
    ClientInfo,
    ClientMessage,
    Events,
    Generate,
    Swap,
)
from hotseat.protocol.replies import Progress, Reply, SwapReport, Welcome

SwapMode = Literal["auto", "process", "in-process"]
RECONNECT_S: Final = 60.0
"""As long as the daemon keeps unclaimed work after a restart."""


class AsyncClient(Verbs):
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

    async def __aexit__(self, *_: object) -> None:
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
        """Joins work of this token in progress, or its stored reply, from an offset on."""
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

    async def swap(
        self,
        model: str,
        mode: SwapMode = "auto",
        *,
        force: bool = False,
        unload_others: bool = False,
        on_progress: ProgressCallback | None = None,
        request_id: str | None = None,
    ) -> SwapReport:
        """Seats a model and reports what it took.

        `unload_others`: if memory is short, Ollama and LM Studio unload their models first.
        `force`: it is seated though less is available than it needs.
        """
        flow = self.start_swap(
            model, mode, force=force, unload_others=unload_others, request_id=request_id
        )
        while (progress := await flow.next()) is not None:
            if on_progress is not None:
                on_progress(progress)
        return await flow.result()

    def start_swap(
        self,
        model: str,
        mode: SwapMode = "auto",
        *,
        force: bool = False,
        unload_others: bool = False,
        request_id: str | None = None,
        agent: str = "",
    ) -> Flow[Progress, SwapReport]:
        """A swap whose phases the caller takes one by one."""
        swap = Swap(model=model, mode=mode, force=force, unload_others=unload_others, agent=agent)
        return self._connection.start(
            SwapExchange(choose_request_id(request_id), swap, self._work_patience_s)
        )

    def events(self, since: int | None = None, topics: Sequence[str] = ()) -> AsyncEvents:
        """Events behind `since`, or from now on; iterate, and leave it as a context manager."""
        opening = Events(since=since, topics=tuple(topics), credit_bytes=self._window_bytes)
        subscription = Subscription(choose_request_id(None), opening, self._work_patience_s)
        return AsyncEvents(self._connection.start(subscription), self.cancel)

    async def _call(self, message: ClientMessage, *, is_long: bool = False) -> Reply:
        """One that is long is ended by nothing but a daemon that is gone."""
        patience_s = self._work_patience_s if is_long else self._call_patience_s
        flow = self._connection.start(Call(choose_request_id(None), message, patience_s))
        try:
            async with asyncio.timeout(None if is_long else self._call_timeout_s):
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
