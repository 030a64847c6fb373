"""One connection: a DEALER socket and the watch over it. Knows frames, not what they mean.

The socket never reconnects by itself: a lost connection is a new `Wire`, so that Hello is the
first message on every connection by construction.
"""

from types import TracebackType
from typing import Final, Self

import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from hotseat.client.errors import DaemonUnreachable
from hotseat.protocol.limits import MAX_FRAME_BYTES

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


class Wire:
    """A context manager around one connection attempt."""

    def __init__(self, context: zmq.asyncio.Context, address: str) -> None:
        self._address = address
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL, _NEVER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._watch = self._socket.get_monitor_socket(_LOSSES)

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
        self._socket.disable_monitor()
        self._watch.close(0)
        self._socket.close()

    async def send(self, frames: list[bytes]) -> None:
        """Waits until the connection takes the message."""
        await self._socket.send_multipart(frames)

    async def receive(self) -> list[bytes]:
        """Waits for a message."""
        frames: list[bytes] = await self._socket.recv_multipart()
        return frames

    async def receive_left(self) -> list[bytes] | None:
        """A message that came before the connection was lost, or None."""
        if not await self._socket.poll(0):
            return None
        return await self.receive()

    async def lost(self) -> None:
        """Returns when the connection failed or ended."""
        event = parse_monitor_message(await self._watch.recv_multipart())
        del event  # only losses are watched
