"""Commands about KV on disk: disk, kv verify, kv gc, kv rebuild."""

from functools import partial
from typing import TYPE_CHECKING

import click

from hotseat.cli.home.connecting import JSON, connected, read_or_absent
from hotseat.cli.terminal.output import note, show_result
from hotseat.client.errors import DaemonUnreachable

if TYPE_CHECKING:
    from hotseat.protocol.disk_views import GcView, VerifyView


@click.command()
@JSON
def disk(*, as_json: bool) -> int:
    """Show KV on disk: whose it is, within which limits, and how much was written."""
    from hotseat.cli.views.disk import disk_dict, render_disk

    answer, code = read_or_absent(lambda client: client.disk(), lambda _error: None)
    show_result(answer, render_disk, as_json=as_json, plain=disk_dict(answer))
    return code


@click.group()
def kv() -> None:
    """Check, collect or rebuild what is stored of contexts."""


@kv.command()
@JSON
def verify(*, as_json: bool) -> int:
    """Read every KV file and check it; damaged ones are put aside and computed again.

    Exit code 1 when something was damaged or missing.
    """
    from hotseat.cli.views.disk import render_verified

    note("reading all KV files")
    view = _verified()
    show_result(view, render_verified, as_json=as_json)
    return 1 if view.damaged or view.missing else 0


@kv.command()
@click.option("--dry-run", is_flag=True, help="Only list what would go, with sizes.")
@JSON
def gc(*, dry_run: bool, as_json: bool) -> None:
    """Remove what no session needs and what no registered model can use."""
    from hotseat.cli.views.disk import render_collected

    view = _collected(dry_run=dry_run)
    show_result(view, render_collected, as_json=as_json)


@kv.command()
@JSON
def rebuild(*, as_json: bool) -> None:
    """Make the catalogue anew from KV files and session files; the daemon must not run.

    After going back to an older hotseat this takes the home back too: no conversation is lost.
    """
    from hotseat.cli.views.disk import render_rebuilt
    from hotseat.supervisor.kv.offline import rebuild_offline

    note("reading KV and session files")
    rebuilt, aside = rebuild_offline()
    plain = {"rebuilt": rebuilt, "kept_as": None if aside is None else str(aside)}
    show_result(rebuilt, partial(render_rebuilt, aside=aside), as_json=as_json, plain=plain)


def _verified() -> "VerifyView":
    """By the daemon, or here if none runs."""
    try:
        with connected() as client:
            return client.verify_kv()
    except DaemonUnreachable:
        from hotseat.supervisor.kv.offline import verify_home

        return verify_home()


def _collected(*, dry_run: bool) -> "GcView":
    """By the daemon, or here if none runs."""
    try:
        with connected() as client:
            return client.collect_kv(dry_run=dry_run)
    except DaemonUnreachable:
        from hotseat.supervisor.kv.offline import collect_home

        return collect_home(dry_run=dry_run)
