"""Commands about the seat: status, ps, queue, swap, release, cancel."""

from typing import TYPE_CHECKING

import click

from hotseat.cli.completing import model_names
from hotseat.cli.home.connecting import JSON, connected, read_or_absent
from hotseat.cli.terminal.durations import Duration
from hotseat.cli.terminal.output import show_line, show_result

if TYPE_CHECKING:
    from hotseat.client.aio import SwapMode
    from hotseat.protocol.views import StatusView


@click.command()
@JSON
def status(*, as_json: bool) -> int:
    """Show seat, worker, queue and memory."""
    from hotseat.cli.views.seat import render_status

    view, code = _status()
    show_result(view, render_status, as_json=as_json)
    return code


@click.command()
@JSON
def ps(*, as_json: bool) -> int:
    """Show models that are seated or asked for, like `ollama ps`.

    SESSIONS are live/cold, QUEUE is running+waiting, UNTIL says when an idle model gives the seat
    up by itself.
    """
    from hotseat.cli.views.ps import PsAnswers, look, ps_facts, render_ps
    from hotseat.cli.views.seat import absent_status

    seen, code = read_or_absent(look, lambda error: PsAnswers(status=absent_status(error)))
    show_result(seen, render_ps, as_json=as_json, plain=ps_facts(seen))
    return code


@click.command()
@JSON
def queue(*, as_json: bool) -> int:
    """Show running and waiting requests."""
    from hotseat.cli.views.seat import render_queue

    view, code = _status()
    plain = {"running": view.running, "queue": view.queue, "requests": view.requests}
    show_result(view, render_queue, as_json=as_json, plain=plain)
    return code


@click.command()
@click.argument("model", shell_complete=model_names)
@click.option(
    "--mode",
    type=click.Choice(["auto", "process", "in-process"]),
    default="auto",
    show_default=True,
    help="How the worker is replaced.",
)
@click.option(
    "--unload-others",
    is_flag=True,
    help="If memory is short, have Ollama and LM Studio unload their models first.",
)
@click.option(
    "--force", is_flag=True, help="Load although less memory is available than MODEL needs."
)
@JSON
def swap(model: str, mode: "SwapMode", *, unload_others: bool, force: bool, as_json: bool) -> None:
    """Give the seat to MODEL; running work keeps its context."""
    from hotseat.cli.terminal.live_line import PhaseLine
    from hotseat.cli.views.seat import render_swap

    with connected(shares_identity=True) as client, PhaseLine() as line:
        report = client.swap(
            model, mode, force=force, unload_others=unload_others, on_progress=line.show
        )
    show_result(report, render_swap, as_json=as_json)


@click.command()
@click.option("--for", "for_s", type=Duration(), help="Keep it empty so long: 90s, 30m, 2h.")
@JSON
def release(for_s: float | None, *, as_json: bool) -> None:
    """Give the seat up: contexts go to disk, the memory to other programs.

    The next request takes the seat again, with --for only after that time; `hotseat swap` always.
    """
    from hotseat.cli.home.lifecycle import release_seat
    from hotseat.cli.views.seat import render_release

    with connected(shares_identity=True) as client:
        view = release_seat(client, for_s)
    show_result(view, render_release, as_json=as_json)


@click.command()
@click.argument("request_id", metavar="ID")
@JSON
def cancel(request_id: str, *, as_json: bool) -> None:
    """End request ID of a `run` or `swap`; what it computed is kept.

    Requests of other programs are ended by those programs.
    """
    with connected(shares_identity=True) as client:
        is_cancelled = client.cancel(request_id)
    plain = {"cancelled": is_cancelled, "request_id": request_id}
    line = f"{request_id} {'cancelled' if is_cancelled else 'had already ended'}"
    show_line(plain, line, as_json=as_json)


def _status() -> "tuple[StatusView, int]":
    from hotseat.cli.views.seat import absent_status

    return read_or_absent(lambda client: client.status(), absent_status)
