"""Command `forget`: what was said goes, with its replies and its KV."""

import click

from hotseat.cli.home.connecting import JSON, connected
from hotseat.cli.terminal.output import show_result


@click.command()
@click.option("--agent", metavar="LABEL", help="Only what this agent asked last.")
@click.option("--older", type=click.FloatRange(0), metavar="DAYS", help="Only if unused so long.")
@click.option("--all", "everything", is_flag=True, help="Every session.")
@click.option("--yes", is_flag=True, help="Do it; without it only the list is shown.")
@JSON
def forget(
    agent: str | None, older: float | None, *, everything: bool, yes: bool, as_json: bool
) -> None:
    """Remove sessions with their messages, replies and KV; pinned ones stay.

    LABEL is an agent's as `hotseat sessions show` tells it, or the product before its slash.
    """
    from hotseat.cli.home.forgetting import Chosen, forget_sessions
    from hotseat.cli.views.forgetting import render_forgotten

    chosen = Chosen(agent=agent, older_days=older)
    if everything == (agent is not None or older is not None):
        raise click.UsageError("say --agent LABEL, --older DAYS or both, or --all alone")
    with connected() as client:
        found = forget_sessions(client, chosen, is_asked=yes)
    show_result(found, render_forgotten, as_json=as_json)
