"""The server around the application: addresses, limits and deadlines of connections.

uvicorn has no deadline for headers or a body that does not arrive; its protocol gets one here.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hotseat.client import AsyncClient
from hotseat.gateway.app import make_app
from hotseat.gateway.door import LOOPBACK, Door, DoorPolicy
from hotseat.protocol.errors import HotseatError

ARRIVAL_S: Final = 30.0
"""What a client gets to send its headers and its body."""
MAX_HEADER_BYTES: Final = 64 * 1024
MAX_CONNECTIONS: Final = 256
KEY_FILE: Final = "http.key"
_KEY_BYTES: Final = 24
_GRACE_S: Final = 5


class PatientProtocol(H11Protocol):
    """A connection that ends if its request does not arrive in time."""

    _arrival: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for headers."""
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Waits until the request is there as a whole."""
        super().data_received(data)
        cycle = self.cycle
        is_whole = cycle is not None and not cycle.response_complete and not cycle.more_body
        if is_whole:
            self._arrived()
        elif self._arrival is None:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        self._arrived()
        super().connection_lost(exc)

    def _expect(self) -> None:
        self._arrival = self.loop.call_later(ARRIVAL_S, self._give_up)

    def _arrived(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _give_up(self) -> None:
        self._arrival = None
        if not self.transport.is_closing():
            self.transport.close()


class QuietServer(uvicorn.Server):
    """A server that sleeps until it is asked or told to end, instead of looking ten times a second.

    What uvicorn does at each look (the date of answers, worker limits) is not used here.
    """

    _told_to_end: asyncio.Event | None = None
    _turning: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        """Returns when a signal came."""
        self._told_to_end, self._turning = asyncio.Event(), asyncio.get_running_loop()
        if not self.should_exit:
            await self._told_to_end.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Takes a signal."""
        super().handle_exit(sig, frame)
        if self._turning is not None and self._told_to_end is not None:
            self._turning.call_soon_threadsafe(self._told_to_end.set)


def key_of(home: Path) -> str:
    """The key of this home's door, made at the first start; readable by its owner only."""
    path = home / KEY_FILE
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = secrets.token_hex(_KEY_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        file.write(key + "\n")
    return key


def run_gateway(
    *, home: Path, host: str, port: int, key: str, on_bound: Callable[[], None]
) -> None:
    """Serves until it is told to stop. Raises HotseatError for an address that is not to be had.

    Without a `key` everybody on this machine may ask.
    """
    if host not in LOOPBACK:
        raise HotseatError(
            "invalid_config",
            f"host {host!r} is beyond this machine, where keys and texts would travel in the open; "
            "use 127.0.0.1 and let ssh carry it",
            host=host,
        )
    client = AsyncClient(home=home, name="http")
    app = Door(make_app(client), DoorPolicy(key=key))
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=PatientProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_graceful_shutdown=_GRACE_S,
    )
    with _bound(host, port) as listening:
        on_bound()
        QuietServer(config).run(sockets=[listening])


def _bound(host: str, port: int) -> socket.socket:
    """A socket of that address. A port that is taken is another server's: it is never shared."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, since only then asyncio sends small pieces at once (TCP_NODELAY), not 40 ms later.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise HotseatError(
            "invalid_config",
            f"cannot listen on {host}:{port}: {error.strerror}; see `lsof -i :{port}` for who "
            "does, or choose another --port",
            host=host,
            port=port,
        ) from error
    return listening
