"""Finds, stops and starts the daemon of the home folder."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from hotseat.cli.home.connecting import connected
from hotseat.cli.terminal.output import last_line, note
from hotseat.client.endpoint import HOW_TO_START, find_home, read_endpoint
from hotseat.client.errors import DaemonUnreachable
from hotseat.client.gateways import read_gateways
from hotseat.protocol.discovery import Endpoint
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Progress
from hotseat.protocol.views import ReleaseView

if TYPE_CHECKING:
    from hotseat.cli.launchd.service import Service
    from hotseat.client.sync import Client

_POLL_S: Final = 0.05
_NOTE_AFTER_S: Final = 1.0
_START_S: Final = 30.0


class DaemonStopped(msgspec.Struct, frozen=True, kw_only=True):
    """What `stop --json` prints."""

    stopped: bool
    pid: int
    waited_s: float


def current_endpoint() -> Endpoint:
    """The endpoint file, if the process that wrote it lives; a gateway that nobody watches, too."""
    from hotseat.supervisor.machine.processes import is_alive

    found = read_endpoint(find_home())
    if not is_alive(found.pid):
        raise DaemonUnreachable(
            f"daemon not running: process {found.pid} of {find_home()} is gone; {HOW_TO_START}",
            endpoint=found.requests,
        )
    if found.http is None and (others := read_gateways(find_home())):
        return msgspec.structs.replace(found, http=others[0].address)
    return found


def gateway_address(found: Endpoint) -> str:
    """Where HTTP clients come. Raises DaemonUnreachable where no gateway lives."""
    if found.http is None:
        text = "no gateway runs; set [http] enabled = true, or start `hotseat gateway`"
        raise DaemonUnreachable(text, endpoint="")
    return found.http


def release_model(model: str) -> ReleaseView:
    """Gives the seat up if that model holds it or is about to: the daemon looks in time."""
    with connected(shares_identity=True) as client:
        try:
            return release_seat(client, None, model)
        except HotseatError as error:
            if error.code != "not_seated":
                raise
            text = f"{error.message}; `hotseat stop` without a name ends the daemon"
            raise HotseatError("not_seated", text, **error.facts) from error


def release_seat(client: "Client", for_s: float | None, model: str | None = None) -> ReleaseView:
    """Gives the seat up, and says meanwhile that this takes its time."""
    from hotseat.cli.terminal.live_line import PhaseLine

    with PhaseLine() as line:
        line.show(Progress(phase="releasing"))
        return client.release(for_s, model)


def render_stopped(stopped: DaemonStopped) -> None:
    """One line."""
    print(f"daemon {stopped.pid} stopped after {stopped.waited_s:.1f} s")


def stop_daemon(timeout_s: float) -> DaemonStopped:
    """Asks the daemon to end and waits until its process is gone."""
    from hotseat.supervisor.machine.processes import is_alive

    found = current_endpoint()
    started = time.monotonic()
    with connected() as client:
        client.shutdown()
    was_noted = False
    while is_alive(found.pid):
        waited_s = time.monotonic() - started
        if waited_s > timeout_s:
            raise HotseatError(
                "deadline_exceeded",
                f"daemon {found.pid} still runs {timeout_s:g} s after it was asked to stop; see "
                "`hotseat logs`, or raise --timeout",
                pid=found.pid,
                timeout_s=timeout_s,
            )
        if waited_s > _NOTE_AFTER_S and not was_noted:
            note(f"waiting for daemon {found.pid} to drain and checkpoint")
            was_noted = True
        time.sleep(_POLL_S)
    waited_s = round(time.monotonic() - started, 3)
    return DaemonStopped(stopped=True, pid=found.pid, waited_s=waited_s)


def restart_daemon(timeout_s: float) -> Endpoint:
    """Ends a running daemon and starts one that outlives this command.

    Where launchd runs the daemon of this home, launchd restarts it: a second one would be in its
    way. Settings that the next daemon would refuse leave the running one alone.
    """
    from hotseat.supervisor.settings.placed_home import open_home

    open_home()
    service = _installed_service()
    if service is not None:
        return service.restart()
    try:
        stop_daemon(timeout_s)
    except DaemonUnreachable:
        note("daemon was not running")
    return start_daemon(find_home())


def _installed_service() -> "Service | None":
    from hotseat.cli.launchd.launchctl import Launchctl

    if not Launchctl().is_there:
        return None
    from hotseat.cli.launchd.service import open_service

    service = open_service()
    return service if service.is_installed else None


def start_daemon(home: Path) -> Endpoint:
    """Starts `hotseat serve` in the background; returns when it says Welcome."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    logs = home / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    output = logs / "serve.out"
    with output.open("wb") as sink:
        child = subprocess.Popen(
            [sys.executable, "-m", "hotseat.cli.main", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            env={**os.environ, "HOTSEAT_HOME": str(home)},
        )
    deadline = time.monotonic() + _START_S
    while child.poll() is None and time.monotonic() < deadline:
        try:
            found = read_endpoint(home)
            if found.pid == child.pid:
                with connected():
                    return found
        except DaemonUnreachable:
            pass
        time.sleep(_POLL_S)
    said = last_line(output.read_text(errors="replace"))
    raise DaemonUnreachable(
        f"daemon did not start within {_START_S:g} s: {said}; see {output}"
        if child.poll() is None
        else f"daemon ended with code {child.returncode}: {said}"
    )
