"""One connection: a DEALER socket and the watch over it. Knows frames, not what they mean.

The socket never reconnects by itself: a lost connection is a new `Wire`, so that Hello is the
first message on every connection by construction.
"""

import asyncio
from types import TracebackType
from typing import Any, Final, Self

import zmq

from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.limits import MAX_FRAME_BYTES

BURST: Final = 64
"""Messages taken before the loop gets a turn: pings must leave however much arrives."""
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


class _Ear:
    """Tells the event loop when something may have happened on a socket.

    ZeroMQ's fd is edge triggered, and any call on the socket may swallow the edge: whoever finds
    nothing to do waits for the next one, whoever did something looks again before it waits.
    """

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._loop = asyncio.get_running_loop()
        self._fd: int = socket.getsockopt(zmq.FD)  # type: ignore[assignment]
        self.readable = asyncio.Event()
        self.writable = asyncio.Event()
        self._loop.add_reader(self._fd, self.ring)

    def ring(self) -> None:
        """Something may have happened; the one fd speaks for both directions."""
        self.readable.set()
        self.writable.set()

    def close(self) -> None:
        """The socket is about to be closed."""
        self._loop.remove_reader(self._fd)


class Wire:
    """A context manager around one connection attempt, on the running event loop."""

    def __init__(self, context: "zmq.Context[Any]", address: str) -> None:
        self._address = address
        self._socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL, _NEVER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._watch: zmq.Socket[bytes] = self._socket.get_monitor_socket(_LOSSES)
        self._ear = _Ear(self._socket)
        self._watched = _Ear(self._watch)
        self._ear.readable.set()
        self._taken = 0

    def __enter__(self) -> Self:
        try:
            self._socket.connect(self._address)
        except zmq.ZMQError as error:
            self._close()
            raise DaemonUnreachable(
                f"cannot connect to {self._address}: {error.strerror}", endpoint=self._address
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._ear.close()
        self._watched.close()
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
                self._ear.readable.set()
                return

    async def _wait_writable(self) -> None:
        self._ear.writable.clear()
        events = int(self._socket.getsockopt(zmq.EVENTS))
        if events & zmq.POLLIN:
            self._ear.readable.set()
        if not events & zmq.POLLOUT:
            await self._ear.writable.wait()

    async def receive(self) -> list[Frames]:
        """Waits for messages; those that are there, a burst at most."""
        if self._taken >= BURST:
            self._taken = 0
            await asyncio.sleep(0)
        while True:
            if not self._ear.readable.is_set():
                self._taken = 0
                await self._ear.readable.wait()
            # Before the look: whatever arrives during it rings again.
            self._ear.readable.clear()
            found = self.receive_left()
            if found:
                self._taken += len(found)
                return found

    def receive_left(self) -> list[Frames]:
        """Messages that are there, a burst at most."""
        found: list[Frames] = []
        try:
            while len(found) < BURST:
                frames: Any = self._socket.recv_multipart(zmq.DONTWAIT)
                found.append(frames)
        except zmq.Again:
            pass  # looked at to the end: what comes next makes a new edge
        else:
            self._ear.readable.set()
        self._ear.writable.set()
        return found

    async def lost(self) -> None:
        """Returns when the connection failed or ended."""
        while True:
            try:
                self._watch.recv_multipart(zmq.DONTWAIT)  # only losses are watched
            except zmq.Again:
                await self._watched.readable.wait()
                self._watched.readable.clear()
            else:
                return
