"""Commands about the launchd service: install, uninstall, start, stop, restart, status, logs."""

import click

from hotseat.cli.home.connecting import JSON
from hotseat.cli.terminal.output import note, show_line


@click.group()
def service() -> None:
    """Have launchd run the daemon: at login, and again after a crash.

    `install` works again after an upgrade; `uninstall` leaves contexts and models.
    """


@service.command()
@click.option("--system", is_flag=True, help="Run without anybody logged in; needs sudo.")
@JSON
def install(*, system: bool, as_json: bool) -> None:
    """Write the property list, load the job, and wait for the daemon's Welcome."""
    from hotseat.cli.launchd.screen import show_running
    from hotseat.cli.launchd.service import open_service

    job = open_service(system=system)
    show_running(job, job.install(), "installed", as_json=as_json)


@service.command()
@click.option("--purge", is_flag=True, help="Remove models, contexts, logs and settings too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def uninstall(*, purge: bool, yes: bool, as_json: bool) -> None:
    """End the daemon in order and remove the job. Everything else stays, unless --purge."""
    from hotseat.cli.launchd.screen import uninstall_service

    uninstall_service(purges=purge, is_sure=yes, as_json=as_json)


@service.command()
@JSON
def start(*, as_json: bool) -> None:
    """Start the installed service."""
    from hotseat.cli.launchd.screen import show_running
    from hotseat.cli.launchd.service import open_service

    job = open_service()
    show_running(job, job.start(), "runs", as_json=as_json)


@service.command()
@JSON
def stop(*, as_json: bool) -> None:
    """End the daemon in order, until the next login or `service start`."""
    from hotseat.cli.launchd.service import open_service

    job = open_service()
    was_running = job.stop()
    line = f"{job.job.label} {'stopped' if was_running else 'was not running'}"
    show_line({"stopped": was_running, "label": job.job.label}, line, as_json=as_json)


@service.command()
@JSON
def restart(*, as_json: bool) -> None:
    """End the daemon in order, every context saved, and start it again."""
    from hotseat.cli.launchd.screen import show_running
    from hotseat.cli.launchd.service import open_service

    job = open_service()
    show_running(job, job.restart(), "restarted", as_json=as_json)


@service.command()
@JSON
def status(*, as_json: bool) -> int:
    """Show the job, its property list, and what is wrong with them. Exit 9 if something is."""
    from hotseat.cli.launchd.screen import show_state

    return show_state(as_json=as_json)


@service.command()
@click.option("--lines", "-n", type=click.IntRange(min=0), default=50, show_default=True)
@click.option("--follow", "-f", is_flag=True, help="Go on until interrupted.")
def logs(*, lines: int, follow: bool) -> None:
    """Show what launchd caught of the daemon's output: why it did not start.

    The daemon's own log is `hotseat logs`.
    """
    from hotseat.cli.home.log_reader import show_log
    from hotseat.cli.launchd.screen import service_log

    path = service_log()
    if not path.exists():
        note(f"launchd caught nothing yet ({path}); the daemon's log is `hotseat logs`")
    else:
        show_log(path, lines, follow=follow, as_json=False)
