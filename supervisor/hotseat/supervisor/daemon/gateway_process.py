"""Keeps the HTTP gateway: a process of its own, started, watched, started again.

It outlives a daemon that dies, so that its streams go on under the next one, which takes it over.
Whether and when it is started is decided in `rules/gateway_starts.py`. Must not know HTTP.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

import structlog

from hotseat.client.gateways import read_gateway
from hotseat.protocol.discovery import ENDPOINT_VARIABLE, HOME_VARIABLE, GatewayNote
from hotseat.protocol.version import VERSION
from hotseat.protocol.views import GatewayState, GatewayView
from hotseat.supervisor.daemon.endpoint_file import EndpointFile
from hotseat.supervisor.daemon.rules.gateway_starts import Attempts, after_end, is_ours
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.machine.child_exit import ended
from hotseat.supervisor.machine.processes import is_alive
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.http_values import HttpSettings
from hotseat.supervisor.settings.values import Settings

START_S: Final = 20.0
_LOOK_S: Final = 0.05
_END_S: Final = 7.0
"""What it takes to end its streams, and some."""
_OUTPUT: Final = "gateway.out"
_COMMAND: Final = ("-m", "hotseat.cli.main", "gateway", "--watched")
log = structlog.get_logger()


class GatewayProcess:
    """The gateway of this home, if the settings want one."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        events: EventLog,
        figures: Figures,
        endpoint: EndpointFile,
    ) -> None:
        self._home = home
        self._http = settings.http
        self._events = events
        self._figures = figures
        self._endpoint = endpoint
        self._changed = asyncio.Event()
        self._child: asyncio.subprocess.Process | None = None
        self._pid: int | None = None
        """Of the one that is ours to end."""
        self._starts = 0
        self._is_closing = False

    def use(self, settings: Settings) -> None:
        """A gateway with other settings is another process."""
        if settings.http != self._http:
            self._http = settings.http
            self._changed.set()

    async def run(self) -> None:
        """Until it is cancelled, or told to end."""
        attempts = Attempts()
        while not self._is_closing:
            self._changed.clear()
            http = self._http
            if not http.enabled:
                self._figures.gateway = None
                await self._changed.wait()
                continue
            self._show(http, "starting")
            attempts = after_end(attempts, await self._keep(http))
            if not self._changed.is_set() and not self._is_closing:
                reason = self._reason()
                self._show(http, "ended", reason=reason)
                self._events.publish("gateway.exited", reason=reason)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), attempts.wait_s)

    def tell_to_end(self) -> None:
        """The daemon ends: no other one is started, and streams get a moment."""
        self._is_closing = True
        self._changed.set()
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    async def close(self) -> None:
        """Returns when it is gone, by force if that takes too long."""
        pid, self._pid = self._pid, None
        if pid is not None:
            await self._end(pid)

    async def _keep(self, http: HttpSettings) -> float:
        """One gateway, from its start or taking over to its end; seconds for which it listened."""
        note = await self._found(http) or await self._started(http)
        if note is None:
            return 0.0
        began = time.monotonic()
        self._show(http, "running", note)
        self._tell(note.address)
        over = asyncio.ensure_future(self._over(note.pid))
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({over, changed}, return_when=asyncio.FIRST_COMPLETED)
            if not over.done() and note.pid == self._pid:
                await self._end(note.pid)
        finally:
            over.cancel()
            changed.cancel()
        self._pid = None
        self._tell(None)
        return time.monotonic() - began

    def _tell(self, address: str | None) -> None:
        try:
            self._endpoint.show_gateway(address)
        except OSError as error:  # a full disk must not end the gateway too
            log.warning("gateway.not_told", address=address, error=str(error))

    async def _found(self, http: HttpSettings) -> GatewayNote | None:
        """One that outlived a daemon, or that a person started."""
        note = read_gateway(self._home.root, http.port)
        if note is None:
            return None
        if not is_ours(note, VERSION, http.digest):
            await self._end(note.pid)
            return None
        self._pid = note.pid if note.watched else None
        log.info("gateway.taken_over", pid=note.pid, address=note.address)
        return note

    async def _started(self, http: HttpSettings) -> GatewayNote | None:
        """A new one once it listens; None if it ended before."""
        self._starts += 1
        try:
            with self._output.open("wb") as output:
                # A group of its own: launchd ends ours when the daemon dies.
                self._child = child = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *_COMMAND,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    env=gateway_environment(self._home.root),
                )
        except OSError as error:
            log.warning("gateway.not_started", error=str(error))
            return None
        self._pid = child.pid
        deadline = time.monotonic() + START_S
        while child.returncode is None and time.monotonic() < deadline:
            note = read_gateway(self._home.root, http.port)
            if note is not None and note.pid == child.pid:
                self._events.publish("gateway.started", pid=note.pid, address=note.address)
                return note
            await asyncio.sleep(_LOOK_S)
        if child.returncode is None:
            await self._end(child.pid)
        self._pid = None
        return None

    async def _over(self, pid: int) -> None:
        if self._child is not None and self._child.pid == pid:
            await self._child.wait()
            return
        with contextlib.suppress(OSError):
            await ended(pid)
        # Where the kernel does not tell of processes that are not ours.
        while is_alive(pid):  # noqa: ASYNC110
            await asyncio.sleep(1.0)

    async def _end(self, pid: int) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over(pid), _END_S)
                return

    def _show(
        self,
        http: HttpSettings,
        state: GatewayState,
        note: GatewayNote | None = None,
        reason: str = "",
    ) -> None:
        self._figures.gateway = GatewayView(
            address=f"{http.host}:{http.port}" if note is None else note.address,
            state=state,
            pid=None if note is None else note.pid,
            reason=reason,
            starts=self._starts,
        )

    def _reason(self) -> str:
        """A signal, or the last words of one that ended by itself."""
        code = self._child.returncode if self._child is not None else None
        if code is not None and code < 0:
            return f"signal {-code}"
        try:
            lines = self._output.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return next((line[:500] for line in reversed(lines) if line.strip()), "")

    @property
    def _output(self) -> Path:
        return self._home.logs_dir / _OUTPUT


def gateway_environment(home: Path) -> dict[str, str]:
    """As the daemon's, but for this home and no other daemon."""
    kept = {name: value for name, value in os.environ.items() if name != ENDPOINT_VARIABLE}
    return kept | {HOME_VARIABLE: str(home)}
