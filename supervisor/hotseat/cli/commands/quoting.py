"""Commands about prices and causes: quote, why."""

import click

from hotseat.cli.completing import model_names, session_names
from hotseat.cli.home.connecting import JSON, connected
from hotseat.cli.terminal.output import show_result


@click.command()
@click.argument("model", nargs=-1, shell_complete=model_names)
@click.option("--session", shell_complete=session_names, help="For the next turn of this session.")
@JSON
def quote(model: tuple[str, ...], session: str | None, *, as_json: bool) -> None:
    """Show what asking MODELs would cost now, the cheapest first; all without MODEL.

    Costs are those measured so far; "?" was never measured.
    """
    from hotseat.cli.views.quote import cheapest_first, quote_facts, render_quotes

    with connected() as client:
        names = model or tuple(view.name for view in client.models())
        views = cheapest_first(client.quote(names, session))
    plain = {"quotes": [quote_facts(view) for view in views]}
    show_result(views, render_quotes, as_json=as_json, plain=plain)


@click.command()
@click.option("-n", "limit", type=click.IntRange(1, 1000), default=10, show_default=True)
@JSON
def why(limit: int, *, as_json: bool) -> None:
    """Show who made the last swaps happen and what they cost, the newest first."""
    from hotseat.cli.views.quote import render_why

    with connected() as client:
        views = client.why(limit)
    show_result(views, render_why, as_json=as_json, plain={"swaps": views})
