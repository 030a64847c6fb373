"""The server around the application: addresses, limits and deadlines of connections.

uvicorn has no deadline for headers or a body that does not arrive; its protocol gets one here.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from hotseat.client import AsyncClient
from hotseat.client.endpoint import read_endpoint
from hotseat.gateway.accounts import Accounting
from hotseat.gateway.app import make_app
from hotseat.gateway.door import Door, DoorPolicy, refuse_crowd
from hotseat.gateway.keys import KeyRing, owner_key
from hotseat.gateway.metrics import Metrics
from hotseat.gateway.ports import bind_port
from hotseat.gateway.presence import Presence
from hotseat.gateway.settings import GatewaySettings, check_settings
from hotseat.protocol.discovery import GatewayNote
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.version import VERSION

ARRIVAL_S: Final = 30.0
"""What a client gets to send its headers and its body."""
MAX_HEADER_BYTES: Final = 64 * 1024
MAX_CONNECTIONS: Final = 256
ALONE_S: Final = 600.0
LOOK_S: Final = 15.0
_GRACE_S: Final = 5
_CROWD: Final[Any] = refuse_crowd
"""uvicorn's types of an application are others than starlette's, and name the same."""


class PatientProtocol(H11Protocol):
    """A connection that ends if its request does not arrive in `arrival_s`."""

    arrival_s = ARRIVAL_S
    most = MAX_CONNECTIONS
    _arrival: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for headers."""
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Waits until the request is there as a whole."""
        crowded = len(self.connections) > self.most
        self.app = _CROWD if crowded else self.config.loaded_app
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
        self._arrival = self.loop.call_later(self.arrival_s, self._give_up)

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

    def stop(self) -> None:
        """As a signal does."""
        self.should_exit = True
        if self._told_to_end is not None:
            self._told_to_end.set()


def run_gateway(
    *,
    home: Path,
    settings: GatewaySettings,
    digest: str,
    watched: bool,
    on_bound: Callable[[], None],
) -> None:
    """Serves until it is told to stop. Raises HotseatError for an address that is not to be had.

    `watched`: a daemon started it; without one for long it ends. `digest`: of the settings file's
    part, by which a daemon knows what its gateway was started with.
    """
    check_settings(settings)
    note = GatewayNote(
        pid=os.getpid(),
        address=settings.address,
        version=VERSION,
        watched=watched,
        settings=digest,
    )
    # The key is there before anybody can knock.
    server = QuietServer(_config(home, settings))
    with (
        bind_port(settings.host, settings.port) as listening,
        Presence(home, settings.port, note),
    ):
        on_bound()
        asyncio.run(_serve(server, listening, home if watched else None))


async def _serve(server: QuietServer, listening: socket.socket, watched: Path | None) -> None:
    watch = None if watched is None else asyncio.create_task(_end_alone(server, watched))
    try:
        await server.serve(sockets=[listening])
    finally:
        if watch is not None:
            watch.cancel()


async def _end_alone(server: QuietServer, home: Path) -> None:
    """Ends the server when no daemon was there for long: nobody else would."""
    seen_at = time.monotonic()
    while time.monotonic() - seen_at < ALONE_S:
        await asyncio.sleep(LOOK_S)
        with contextlib.suppress(HotseatError, OSError):
            os.kill(read_endpoint(home).pid, 0)
            seen_at = time.monotonic()
    server.stop()


def _config(home: Path, settings: GatewaySettings) -> uvicorn.Config:
    return uvicorn.Config(
        _application(home, settings),
        host=settings.host,
        port=settings.port,
        http=PatientProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


def _application(home: Path, settings: GatewaySettings) -> ASGIApp:
    """From outside in: the door, pages of other origins, accounts, paths."""
    metrics = Metrics()
    inside: ASGIApp = Accounting(
        make_app(AsyncClient(home=home, name="http"), home, settings, metrics), metrics
    )
    if settings.origins:
        inside = CORSMiddleware(
            inside,
            allow_origins=settings.origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),
        )
    ring = KeyRing(home, owner_key(home), is_open=settings.open_loopback)
    policy = DoorPolicy(hosts=settings.known_hosts, origins=frozenset(settings.origins))
    return Door(inside, policy, ring.find)
