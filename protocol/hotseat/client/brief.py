"""A blocking client for a few reads: no event loop, no thread, no second connection.

For commands whose start counts, such as `hotseat status`. Decides nothing: `Dialogue` does. What
takes longer or has to survive a restart of the daemon is for `Client`.
"""

import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import zmq

from hotseat.client.blocking import Blocking, blocking
from hotseat.client.dialogue import Dialogue
from hotseat.client.endpoint import HOW_TO_START, find_address
from hotseat.client.errors import DaemonUnreachable
from hotseat.client.exchange import Call
from hotseat.client.requests import new_request_id
from hotseat.client.verbs import CALL_S, Verbs
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ClientToken
from hotseat.protocol.limits import MAX_FRAME_BYTES, TOKEN_BYTES, WELCOME_S
from hotseat.protocol.messages import ClientInfo, ClientMessage
from hotseat.protocol.replies import Reply, Welcome

T = TypeVar("T")
_SLICE_S: Final = 0.2
"""Between two looks at the clock while nothing comes."""


class _BriefVerbs(Verbs):
    """The methods over an answer that is there when asking returns."""

    def __init__(self, ask: Callable[[ClientMessage], Reply]) -> None:
        self._ask = ask

    async def _call(self, message: ClientMessage, *, is_long: bool = False) -> Reply:
        del is_long  # no method of a brief client is
        return self._ask(message)


class BriefClient(Blocking):
    """A context manager around one connection; raises DaemonUnreachable when nobody answers."""

    def __init__(
        self, *, name: str, home: Path | None = None, connect_timeout_s: float = WELCOME_S
    ) -> None:
        self._verbs = _BriefVerbs(self._ask)
        self._home = home
        self._connect_timeout_s = connect_timeout_s
        token = ClientToken(os.urandom(TOKEN_BYTES).hex())
        info = ClientInfo(name=name, pid=os.getpid())
        self._dialogue = Dialogue(token, info, lambda: None)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Hello waits here, not in a queue that a daemon which comes later would find.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)

    @property
    def welcome(self) -> Welcome | None:
        """The daemon's greeting."""
        return self._dialogue.welcome

    def __enter__(self) -> Self:
        try:
            self._connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves no socket and no thread behind; a second call does nothing."""
        self._socket.close()
        self._context.term()

    status = blocking(Verbs.status)
    models = blocking(Verbs.models)
    sessions = blocking(Verbs.sessions)
    disk = blocking(Verbs.disk)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Its answer is there at the first step: `_ask` waits for it and never hands control on."""
        try:
            work.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        raise AssertionError(f"{work!r} waits for an event loop")

    def _connect(self) -> None:
        address = self._dialogue.endpoint = find_address(self._home)
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            raise DaemonUnreachable(
                f"cannot connect to {address}: {error.strerror}", endpoint=address
            ) from error
        deadline = time.monotonic() + self._connect_timeout_s
        self._dialogue.connected(time.monotonic())
        while self._dialogue.welcome is None:
            is_of_use = time.monotonic() < deadline and self._move()
            if not is_of_use:
                raise self._dialogue.refusal or DaemonUnreachable(
                    f"daemon not running: no answer from {address} within "
                    f"{self._connect_timeout_s:g} s; {HOW_TO_START}",
                    endpoint=address,
                )

    def _ask(self, message: ClientMessage) -> Reply:
        call, now = Call(new_request_id(), message, CALL_S), time.monotonic()
        self._dialogue.start(call, now)
        while not call.is_over and time.monotonic() < now + CALL_S:
            if not (self._move() and self._dialogue.tick(time.monotonic())):
                raise DaemonUnreachable(
                    "daemon went away while it was asked; look at `hotseat logs`, start it with "
                    "`hotseat serve`",
                    endpoint=self._dialogue.endpoint,
                )
        if call.error is not None:
            raise call.error
        if call.result is None:
            raise HotseatError(
                "deadline_exceeded",
                f"no answer to {type(message).__name__.lower()} within {CALL_S:g} s although the "
                "daemon lives; see `hotseat logs`",
                timeout_s=CALL_S,
            )
        return call.result

    def _move(self) -> bool:
        """Sends what waits and takes in what came; False when the connection is of no use."""
        outgoing = self._dialogue.outgoing
        wanted = zmq.POLLIN | (zmq.POLLOUT if outgoing else 0)
        ready = self._socket.poll(int(_SLICE_S * 1000), wanted)
        if ready & zmq.POLLOUT and outgoing:
            self._socket.send_multipart(outgoing.popleft(), zmq.DONTWAIT)
        if not ready & zmq.POLLIN:
            return True
        frames: Any = self._socket.recv_multipart(zmq.DONTWAIT)
        return self._dialogue.received(frames)
