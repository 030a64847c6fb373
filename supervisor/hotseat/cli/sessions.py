"""Commands about sessions: list, show, rm."""

import click

from hotseat.cli.output import print_json, size
from hotseat.cli.reading import JSON, connected

MODEL = click.option("--model", help="Only sessions of this model.")


@click.group(invoke_without_command=True)
@MODEL
@JSON
@click.pass_context
def sessions(ctx: click.Context, model: str | None, *, as_json: bool) -> None:
    """List, show or remove sessions. A session belongs to one model."""
    given = {"as_json": as_json}
    ctx.default_map = {"list": {"model": model, **given}, "show": given, "rm": given}
    if ctx.invoked_subcommand is None:
        _list(model, as_json=as_json)


@sessions.command("list")
@MODEL
@JSON
def list_(model: str | None, *, as_json: bool) -> None:
    """List sessions."""
    _list(model, as_json=as_json)


@sessions.command()
@click.argument("model")
@click.argument("session")
@JSON
def show(model: str, session: str, *, as_json: bool) -> None:
    """Show SESSION of MODEL with its messages."""
    from hotseat.cli.session_view import render_session

    with connected() as client:
        view = client.session(model, session)
    if as_json:
        print_json(view)
    else:
        render_session(view)


@sessions.command("rm")
@click.argument("model")
@click.argument("session")
@JSON
def remove(model: str, session: str, *, as_json: bool) -> None:
    """Remove SESSION of MODEL and what only it used."""
    with connected() as client:
        freed = client.delete_session(model, session)
    if as_json:
        print_json({"model": model, "session": session, "removed_bytes": freed})
    else:
        print(f"removed {session} of {model}, freed {size(freed)}")


def _list(model: str | None, *, as_json: bool) -> None:
    from hotseat.cli.session_view import render_sessions

    with connected() as client:
        views = client.sessions(model)
    if as_json:
        print_json({"sessions": views})
    else:
        render_sessions(views)
