"""What is so about the launchd job: facts, and what is wrong with them. Changes nothing."""

import plistlib
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from hotseat.cli.launchd.service import Service
from hotseat.cli.terminal.findings import Finding, bad, doubtful, good
from hotseat.client.endpoint import read_endpoint
from hotseat.client.errors import DaemonUnreachable

_NAME = "service"


class ServiceState(Struct, frozen=True, kw_only=True):
    """What `service status --json` prints, with the findings."""

    label: str
    login_item: str
    plist: str
    installed: bool
    current: bool
    """False when `install` would write other bytes."""
    loaded: bool
    disabled: bool
    running: bool
    """The job's own daemon said Welcome."""
    pid: int | None
    last_exit_code: int | None
    program: str
    exit_time_out_s: int | None
    daemon_version: str
    findings: tuple[Finding, ...] = ()


def read_state(service: Service, version: str) -> ServiceState:
    """Looks at the property list, at launchd and at the socket."""
    label = service.job.label
    content = _read_plist(service.plist_path)
    loaded = service.launchctl.find(label)
    pid = loaded.pid if loaded else None
    daemon_version = _greeted_version(service, pid)
    state = ServiceState(
        label=label,
        login_item=service.job.login_item,
        plist=str(service.plist_path),
        installed=service.is_installed,
        current=content is not None and service.plist_path.read_bytes() == service.job.plist(),
        loaded=loaded is not None,
        disabled=service.launchctl.is_disabled(label),
        running=daemon_version is not None,
        pid=pid,
        last_exit_code=loaded.last_exit_code if loaded else None,
        program=str((content or {}).get("ProgramArguments", [""])[0]),
        exit_time_out_s=(content or {}).get("ExitTimeOut"),
        daemon_version=daemon_version or "",
    )
    return replace(state, findings=tuple(_findings(state, service, content, version)))


def _findings(
    state: ServiceState, service: Service, content: dict[str, Any] | None, version: str
) -> list[Finding]:
    if not state.installed:
        return [doubtful(_NAME, "not installed", "`hotseat service install` to have it at login")]
    if content is None:
        return [bad(_NAME, f"{state.plist} is damaged", "`hotseat service install` writes it anew")]
    found = [*_of_the_plist(state, service.job.exit_time_out_s), *_of_the_process(state, version)]
    if state.disabled:
        remedy = "`hotseat service start`, or Login Items in System Settings"
        found.append(bad(_NAME, f"{state.label} is switched off", remedy))
    return found or [good(_NAME, f"runs as {state.label}, process {state.pid}")]


def _of_the_plist(state: ServiceState, needed_s: int) -> list[Finding]:
    found = []
    if not Path(state.program).exists():
        text = f"its program {state.program} is gone"
        found.append(bad(_NAME, text, "install hotseat again, then `hotseat service install`"))
    if (state.exit_time_out_s or 0) < needed_s:
        text = (
            f"ExitTimeOut is {state.exit_time_out_s} s, a stop may take {needed_s} s: launchd "
            "would kill it while it saves"
        )
        found.append(bad(_NAME, text, "`hotseat service install`"))
    elif not state.current:
        text = "the property list differs from what this version writes"
        found.append(doubtful(_NAME, text, "`hotseat service install`"))
    return found


def _of_the_process(state: ServiceState, version: str) -> list[Finding]:
    if not state.loaded:
        return [bad(_NAME, "launchd does not know the job", "`hotseat service start`")]
    if state.pid is None:
        ended = f", its last exit code was {state.last_exit_code}" if state.last_exit_code else ""
        level = bad if state.last_exit_code else doubtful
        return [level(_NAME, f"it does not run{ended}", "`hotseat service start`")]
    if not state.running:
        text = f"process {state.pid} runs but does not answer"
        return [bad(_NAME, text, "`hotseat service logs`, then `hotseat service restart`")]
    if state.daemon_version != version:
        text = f"the daemon is version {state.daemon_version}, this command {version}"
        remedy = "`hotseat service restart` saves every context and starts the new one"
        return [doubtful(_NAME, text, remedy)]
    return []


def _greeted_version(service: Service, pid: int | None) -> str | None:
    """The version of the job's daemon; None when it does not answer."""
    if pid is None:
        return None
    try:
        found = read_endpoint(service.job.home.root)
        if found.pid != pid:
            return None
        service.greet(found)
    except DaemonUnreachable:
        return None
    return found.version


def _read_plist(path: Path) -> dict[str, Any] | None:
    try:
        content = plistlib.loads(path.read_bytes())
    except (OSError, ValueError, plistlib.InvalidFileException):
        return None
    return content if isinstance(content, dict) else None
