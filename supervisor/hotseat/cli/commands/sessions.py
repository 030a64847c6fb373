"""Commands about sessions: list, show, rm, fork, copy, rewind, replace, pin, unpin."""

from typing import TextIO

import click

from hotseat.cli.completing import model_names, session_names
from hotseat.cli.home.connecting import JSON, connected
from hotseat.cli.terminal.output import show_line, show_result, size
from hotseat.protocol.views import SessionChange

MODEL = click.option("--model", shell_complete=model_names, help="Only sessions of this model.")


@click.group(invoke_without_command=True)
@MODEL
@JSON
@click.pass_context
def sessions(ctx: click.Context, model: str | None, *, as_json: bool) -> None:
    """List, show, fork, rewind or remove sessions. A session belongs to one model."""
    given = {"as_json": as_json}
    ctx.default_map = dict.fromkeys(sessions.commands, given) | {"list": {"model": model, **given}}
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_, model=model, as_json=as_json)


@sessions.command("list")
@MODEL
@JSON
def list_(model: str | None, *, as_json: bool) -> None:
    """List sessions."""
    from hotseat.cli.views.session import render_sessions

    with connected() as client:
        views = client.sessions(model)
    show_result(views, render_sessions, as_json=as_json, plain={"sessions": views})


@sessions.command()
@click.argument("model", shell_complete=model_names)
@click.argument("session", shell_complete=session_names)
@JSON
def show(model: str, session: str, *, as_json: bool) -> None:
    """Show SESSION of MODEL with its messages."""
    from hotseat.cli.views.session import render_session

    with connected() as client:
        view = client.session(model, session)
    show_result(view, render_session, as_json=as_json)


@sessions.command("rm")
@click.argument("model", shell_complete=model_names)
@click.argument("session", shell_complete=session_names)
@JSON
def remove(model: str, session: str, *, as_json: bool) -> None:
    """Remove SESSION of MODEL and what only it used."""
    with connected() as client:
        freed = client.delete_session(model, session)
    line = f"removed {session} of {model}, freed {size(freed)}"
    show_line({"model": model, "session": session, "removed_bytes": freed}, line, as_json=as_json)


@sessions.command()
@click.argument("model", shell_complete=model_names)
@click.argument("session", shell_complete=session_names)
@click.argument("to")
@click.option("--at-turn", type=click.IntRange(0), help="Turn to fork at; the last if not given.")
@JSON
def fork(model: str, session: str, to: str, at_turn: int | None, *, as_json: bool) -> None:
    """Make session TO of what SESSION of MODEL was after a turn; they share what is stored."""
    with connected() as client:
        _tell("forked", client.fork_session(model, session, to, at_turn), as_json=as_json)


@sessions.command()
@click.argument("model", shell_complete=model_names)
@click.argument("session", shell_complete=session_names)
@click.argument("to_model", shell_complete=model_names)
@click.argument("to")
@JSON
def copy(model: str, session: str, to_model: str, to: str, *, as_json: bool) -> None:
    """Tell the conversation SESSION of MODEL to TO_MODEL, as its session TO.

    Calls and their results stay, reasoning is left out. The next turn computes it all; `hotseat
    quote` tells what that takes.
    """
    with connected() as client:
        changed = client.copy_session(model, session, to_model, to)
    _tell("copied", changed, as_json=as_json)


@sessions.command()
@click.argument("model", shell_complete=model_names)
@click.argument("session", shell_complete=session_names)
@click.argument("turn", type=click.IntRange(0))
@JSON
def rewind(model: str, session: str, turn: int, *, as_json: bool) -> None:
    """Cut SESSION of MODEL back to what it was after TURN."""
    with connected() as client:
        _tell("rewound", client.rewind_session(model, session, turn), as_json=as_json)


@sessions.command()
@click.argument("model", shell_complete=model_names)
@click.argument("session", shell_complete=session_names)
@click.argument("history", type=click.File("r", encoding="utf-8"))
@click.option("--expect-turn", type=click.IntRange(0), help="Refuse if it is at another turn.")
@JSON
def replace(
    model: str, session: str, history: TextIO, expect_turn: int | None, *, as_json: bool
) -> None:
    """Put another history in place of what SESSION of MODEL holds, for instance a summary.

    HISTORY is a file, or - for stdin: a JSON list of messages, or text for a model without a
    chat template.
    """
    from hotseat.cli.chat.histories import read_history

    given = read_history(history.read())
    with connected() as client:
        changed = client.replace_session(model, session, given, expect_turn)
    _tell("replaced", changed, as_json=as_json)


@sessions.command()
@click.argument("model", shell_complete=model_names)
@click.argument("session", shell_complete=session_names)
@JSON
def pin(model: str, session: str, *, as_json: bool) -> None:
    """Keep what SESSION of MODEL has on disk from being evicted."""
    with connected() as client:
        _tell("pinned", client.pin_session(model, session), as_json=as_json)


@sessions.command()
@click.argument("model", shell_complete=model_names)
@click.argument("session", shell_complete=session_names)
@JSON
def unpin(model: str, session: str, *, as_json: bool) -> None:
    """Let what SESSION of MODEL has on disk be evicted again."""
    with connected() as client:
        _tell("unpinned", client.pin_session(model, session, pinned=False), as_json=as_json)


def _tell(what: str, change: SessionChange, *, as_json: bool) -> None:
    from hotseat.cli.views.session import describe_change

    show_line(change, f"{what} {describe_change(change)}", as_json=as_json)
