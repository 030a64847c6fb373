"""A ZeroMQ socket on the event loop: one receive loop, sends that never wait. Knows no protocol."""

import asyncio
import os
import socket as socket_module
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import zmq

from hotseat.protocol.link_socket import widen

BACKLOG: Final = 100
"""ZeroMQ's own."""
Frames = list[bytes]
BURST: Final = 64
"""Messages handled before the loop gets a turn."""


class LoopSocket:
    """Calls `on_frames` for each message. ZeroMQ's fd is edge triggered: events are re-read.

    Owned by the loop's thread. `send` raises `zmq.ZMQError` (EAGAIN: the peer does not read;
    EHOSTUNREACH: there is no such peer) and never blocks.
    """

    def __init__(self, socket: "zmq.Socket[bytes]", on_frames: Callable[[Frames], None]) -> None:
        self._socket = socket
        self._on_frames = on_frames
        self._loop = asyncio.get_running_loop()
        self._fd: int = socket.getsockopt(zmq.FD)  # type: ignore[assignment]
        self._pending: asyncio.Handle | None = None
        self._loop.add_reader(self._fd, self._receive)
        self._schedule()

    @property
    def is_open(self) -> bool:
        """False after `close`."""
        return not self._socket.closed

    def send(self, frames: Sequence[bytes]) -> None:
        """Hands a message to ZeroMQ."""
        try:
            self._socket.send_multipart(frames, zmq.DONTWAIT)
        finally:
            # One that fails, for a peer that is gone, has swallowed the edge all the same.
            self._schedule()

    def close(self, linger_ms: int = 0) -> None:
        """Stops receiving; unsent messages get `linger_ms`."""
        if self._socket.closed:
            return
        self._loop.remove_reader(self._fd)
        if self._pending is not None:
            self._pending.cancel()
        self._socket.close(linger=linger_ms)

    def _schedule(self) -> None:
        """Looks for messages soon: a send may have swallowed the edge that announced them."""
        if self._pending is None and not self._socket.closed:
            self._pending = self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Mostly there is nothing, and asking for that is cheaper than to fail at it."""
        self._pending = None
        if not self._socket.closed and int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._receive()

    def _receive(self) -> None:
        for _ in range(BURST):
            if self._socket.closed:
                return
            try:
                frames: Any = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self._on_frames(frames)
        self._schedule()


def bind_router(
    context: "zmq.Context[Any]",
    address: str,
    *,
    max_frame_bytes: int,
    is_narrow: bool = sys.platform == "darwin",
) -> "zmq.Socket[bytes]":
    """A bound ROUTER; only processes of this user get in where the system can tell.

    `is_narrow`: connections have small buffers (8 KiB on macOS), and those of the listener.
    ZeroMQ sets no buffers of ipc sockets, so it is given a listener that has them.
    """
    socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.MAXMSGSIZE, max_frame_bytes)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    if hasattr(zmq, "IPC_FILTER_UID") and sys.platform == "linux":
        socket.setsockopt(zmq.IPC_FILTER_UID, os.getuid())
    if is_narrow:
        socket.setsockopt(zmq.USE_FD, _wide_listener(Path(address.removeprefix("ipc://"))))
    socket.bind(address)
    return socket


def _wide_listener(path: Path) -> int:
    """A descriptor that ZeroMQ owns from then on. Raises zmq.ZMQError, as a bind does."""
    path.unlink(missing_ok=True)
    listener = socket_module.socket(socket_module.AF_UNIX, socket_module.SOCK_STREAM)
    try:
        widen(listener)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise zmq.ZMQError(error.errno) from error
    return listener.detach()
