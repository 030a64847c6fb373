"""Runs an agent over the gateway: daemon and gateway are there first, then this process is it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from hotseat.cli.home.connecting import CLIENT_NAME
from hotseat.cli.home.gateway_settings import gateway_settings, need_http_extra, read_http_settings
from hotseat.cli.home.lifecycle import current_endpoint, start_daemon
from hotseat.cli.runtimes.agents import AGENTS, Meeting, agent_run
from hotseat.cli.terminal.failures import MissingExtraError
from hotseat.cli.terminal.output import last_line, note
from hotseat.client.endpoint import find_home
from hotseat.client.errors import DaemonUnreachable
from hotseat.client.gateways import read_gateway, read_gateways
from hotseat.protocol.discovery import GatewayNote
from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.settings.http_values import HttpSettings

if TYPE_CHECKING:
    from hotseat.protocol.views import ModelView, StatusView

_START_S: Final = 20.0
_LOOK_S: Final = 0.05


def launch_agent(name: str, model: str | None, arguments: Sequence[str]) -> NoReturn:
    """Becomes that agent. Raises before anything is started if its program is not installed."""
    agent = AGENTS[name]
    program = shutil.which(agent.program)
    if program is None:
        text = f"{agent.title} is not installed (no `{agent.program}` on PATH); see {agent.site}"
        raise MissingExtraError(text)
    need_http_extra()
    run = agent_run(name, meet(model))
    kept = {key: value for key, value in os.environ.items() if key not in run.without}
    sys.stdout.flush()
    sys.stderr.flush()
    argv = [program, *run.arguments, *arguments]
    os.execve(program, argv, kept | run.variables)  # noqa: S606 - that is what a launch is


def meet(model: str | None) -> Meeting:
    """A gateway that listens, its key and a model; daemon and gateway are started if needed."""
    from hotseat.client.brief import BriefClient
    from hotseat.gateway.keys import owner_key

    home, http = find_home(), read_http_settings()
    try:
        current_endpoint()
    except DaemonUnreachable:
        note("starting the daemon")
        start_daemon(home)
    with BriefClient(name=CLIENT_NAME) as client:
        chosen = choose_model(model, client.models(), client.status())
    found = _gateway(home, http)
    return Meeting(
        address=found.address,
        key=owner_key(home),
        model=chosen.name,
        window_tokens=chosen.context_tokens or None,
        certificate=http.tls_cert,
    )


def choose_model(
    named: str | None, views: "Sequence[ModelView]", status: "StatusView"
) -> "ModelView":
    """The model an agent works with: the named, the seated, or the only one. Pure.

    Raises HotseatError (invalid_request) where several could be meant, and unknown_model.
    """
    usable = [view for view in views if view.state in ("seated", "ready")]
    names = ", ".join(view.name for view in usable) or "none; `hotseat import` registers one"
    wanted = named or status.model
    if wanted is not None:
        for view in views:
            if view.name == wanted:
                return view
        raise HotseatError("unknown_model", f"no model {wanted!r}; registered: {names}")
    if len(usable) == 1:
        return usable[0]
    raise HotseatError("invalid_request", f"which model? Name one with --model: {names}")


def _gateway(home: Path, http: HttpSettings) -> GatewayNote:
    """One that listens: as the settings say, or any of this home, or a new one."""
    found = read_gateway(home, http.port)
    if found is None and not http.enabled:
        found = next(iter(read_gateways(home)), None)
    if found is not None:
        return found
    output = home / "logs" / "gateway.out"
    child = None if http.enabled else _start(home, output)
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and (child is None or child.poll() is None):
        found = read_gateway(home, http.port)
        if found is not None:
            return found
        time.sleep(_LOOK_S)
    said = last_line(output.read_text(errors="replace")) if output.exists() else ""
    where = gateway_settings(http).address
    raise HotseatError("daemon_unreachable", f"no gateway at {where}: {said}; see {output}")


def _start(home: Path, output: Path) -> "subprocess.Popen[bytes]":
    """One that outlives this command, and ends some minutes after the daemon."""
    note("starting the gateway")
    with output.open("wb") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "hotseat.cli.main", "gateway", "--watched"],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            env={**os.environ, "HOTSEAT_HOME": str(home)},
        )
