"""How the service looks to a person, and the questions it asks."""

import sys
from pathlib import Path

import click

from hotseat.cli.launchd.launchctl import Launchctl
from hotseat.cli.launchd.purge import Doomed, list_home, remove_home
from hotseat.cli.launchd.service import Service, open_service
from hotseat.cli.launchd.state import ServiceState, read_state
from hotseat.cli.terminal.findings import render_findings, worst
from hotseat.cli.terminal.output import note, print_facts, print_json, print_table, size
from hotseat.protocol.discovery import Endpoint
from hotseat.protocol.errors import ERRORS, HotseatError
from hotseat.protocol.version import VERSION
from hotseat.supervisor.daemon.logs import SERVICE_LOG
from hotseat.supervisor.settings.home import Home


def service_log() -> Path:
    """What launchd caught."""
    return Home.find().logs_dir / SERVICE_LOG


def show_running(service: Service, endpoint: Endpoint, verb: str, *, as_json: bool) -> None:
    """Two lines: what runs, and where a person meets it."""
    if as_json:
        facts = {"label": service.job.label, "plist": str(service.plist_path)}
        print_json({**facts, "pid": endpoint.pid, "version": endpoint.version})
        return
    print(f"{service.job.label} {verb}: daemon {endpoint.version}, process {endpoint.pid}")
    note(
        f'Login Items lists it as "{service.job.login_item}"; `hotseat service status` looks at it'
    )


def show_state(*, as_json: bool) -> int:
    """Facts, then findings; 0 if all is well."""
    state = read_state(open_service(), VERSION)
    level = worst(state.findings)
    if as_json:
        print_json(state)
    else:
        print_facts(_facts(state))
        render_findings(state.findings)
    return ERRORS["service_failed"].exit_code if level == "failed" else 0


def _facts(state: ServiceState) -> list[tuple[str, str]]:
    loaded = "yes" if state.loaded else "no"
    return [
        ("job", state.label),
        ("Login Items", f'as "{state.login_item}"'),
        ("property list", state.plist if state.installed else "not installed"),
        ("program", state.program),
        ("loaded", f"{loaded}, switched off" if state.disabled else loaded),
        ("daemon", f"process {state.pid}, {state.daemon_version}" if state.running else ""),
        ("ExitTimeOut", f"{state.exit_time_out_s} s" if state.exit_time_out_s else ""),
    ]


def uninstall_service(*, purges: bool, is_sure: bool, as_json: bool) -> None:
    """Removes the job; with `purges` the home folder too, after it was listed and agreed to."""
    home = Home.find()
    doomed = list_home(home) if purges else []
    if purges and not is_sure:
        _ask(doomed, as_json=as_json)
    was_installed = _uninstall_job(purges=purges)
    freed = remove_home(home) if purges else 0
    if as_json:
        result = {"uninstalled": was_installed, "removed": doomed, "removed_bytes": freed}
        print_json(result)
        return
    print("service uninstalled" if was_installed else "service was not installed")
    if purges:
        print(f"removed {home.root}, freed {size(freed)}")
    else:
        print(f"models and contexts stay in {home.root}; --purge removes them")


def _uninstall_job(*, purges: bool) -> bool:
    """Without launchd there is no job, and a purge still makes sense."""
    if purges and not Launchctl().is_there:
        return False
    return open_service().uninstall()


def _ask(doomed: list[Doomed], *, as_json: bool) -> None:
    if not doomed:
        return
    if as_json or not sys.stdin.isatty():
        raise HotseatError(
            "invalid_request",
            f"--purge removes {len(doomed)} entries, "
            f"{size(sum(entry.size_bytes for entry in doomed))}; add --yes to agree",
            field="yes",
        )
    rows = [(entry.path, entry.what, size(entry.size_bytes)) for entry in doomed]
    print_table(("PATH", "WHAT", "SIZE "), rows)
    total = size(sum(entry.size_bytes for entry in doomed))
    click.confirm(f"Remove all of this ({total}) for good?", abort=True)
