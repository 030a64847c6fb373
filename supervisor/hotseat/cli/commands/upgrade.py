"""Command `upgrade`: says what the installed version makes of stored contexts."""

import click

from hotseat.cli.home.connecting import JSON
from hotseat.cli.terminal.output import show_result


@click.command()
@click.option("--check", is_flag=True, help="Say which contexts become cold; changes nothing.")
@JSON
def upgrade(*, check: bool, as_json: bool) -> None:
    """Show which contexts the installed version makes cold, and what computing them again costs.

    Run it after the new version is installed and before `hotseat restart`.
    """
    from hotseat.cli.views.upgrade import render_upgrade
    from hotseat.supervisor.daemon.upgrade_check import check_upgrade

    if not check:
        raise click.UsageError(
            "hotseat is upgraded by what installed it (`uv tool upgrade hotseat`, `pipx upgrade "
            "hotseat`); `hotseat upgrade --check` then says what becomes of contexts"
        )
    show_result(check_upgrade(), render_upgrade, as_json=as_json)
