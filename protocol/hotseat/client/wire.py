"""One connection: a DEALER socket and the watch over it. Knows frames, not what they mean.

The socket never reconnects by itself: a lost connection is a new `Wire`, so that Hello is the
first message on every connection by construction.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, Self

import zmq

from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.limits import MAX_FRAME_BYTES

BURST: Final = 64
"""Messages taken before the loop gets a turn."""
_LINGER_MS: Final = 500
"""How long a close may take to hand over what was sent last, for instance a cancel."""
_NEVER: Final = -1
_LOSSES: Final = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
Frames = list[bytes]


class Wire:
    """A context manager around one connection attempt, on the running event loop.

    ZeroMQ's fd is edge triggered, and any call on the socket may swallow the edge: whoever did
    something looks again before it waits. `hear` gets each message, in order; it must not raise.
    """

    def __init__(
        self, context: "zmq.Context[Any]", address: str, hear: Callable[[Frames], None]
    ) -> None:
        self._address = address
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self._socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL, _NEVER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._watch: zmq.Socket[bytes] = self._socket.get_monitor_socket(_LOSSES)
        self._writable = asyncio.Event()
        self._is_lost = asyncio.Event()
        self._pending: asyncio.Handle | None = None
        self._fds: tuple[int, int] = (_fd_of(self._socket), _fd_of(self._watch))

    def __enter__(self) -> Self:
        try:
            self._socket.connect(self._address)
        except zmq.ZMQError as error:
            self._close()
            raise DaemonUnreachable(
                f"cannot connect to {self._address}: {error.strerror}", endpoint=self._address
            ) from error
        for fd, look in zip(self._fds, (self.look, self._look_for_loss), strict=True):
            self._loop.add_reader(fd, look)
        self._look_soon()
        self._look_for_loss()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        for fd in self._fds:
            self._loop.remove_reader(fd)
        if self._pending is not None:
            self._pending.cancel()
        self._socket.disable_monitor()
        self._watch.close(0)
        self._socket.close()

    async def send(self, frames: Frames) -> None:
        """Waits until the connection takes the message."""
        while True:
            try:
                self._socket.send_multipart(frames, zmq.DONTWAIT)
            except zmq.Again:
                await self._wait_writable()
            else:
                self._look_soon()
                return

    async def _wait_writable(self) -> None:
        self._writable.clear()
        events = int(self._socket.getsockopt(zmq.EVENTS))
        if events & zmq.POLLIN:
            self._look_soon()
        if not events & zmq.POLLOUT:
            await self._writable.wait()

    def _look_soon(self) -> None:
        if self._pending is None:
            self._pending = self._loop.call_soon(self.look)

    def look(self) -> bool:
        """Hands over messages that are there, a burst at most; False if there were none."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        self._writable.set()
        found = 0
        while found < BURST:
            # Asking is cheaper than to fail at it, and shows a change as well.
            if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return found > 0
            try:
                frames: Any = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.ZMQError:
                self._is_lost.set()  # whatever it was: a new connection is made
                return False
            found += 1
            self._hear(frames)
        # The loop gets a turn: pings must leave however much arrives.
        self._look_soon()
        return True

    def _look_for_loss(self) -> None:
        with contextlib.suppress(zmq.Again):
            self._watch.recv_multipart(zmq.DONTWAIT)  # only losses are watched
            self._is_lost.set()

    async def lost(self) -> None:
        """Returns when the connection failed or ended."""
        await self._is_lost.wait()


def _fd_of(watched: "zmq.Socket[bytes]") -> int:
    fd: int = watched.getsockopt(zmq.FD)  # type: ignore[assignment]
    return fd
