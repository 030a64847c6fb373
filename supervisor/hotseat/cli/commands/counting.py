"""Command about the size of prompts: count."""

import click

from hotseat.cli.completing import model_names, session_names
from hotseat.cli.home.connecting import JSON, connected
from hotseat.cli.terminal.output import show_result


@click.command()
@click.argument("model", shell_complete=model_names)
@click.argument("prompt")
@click.option(
    "--session", shell_complete=session_names, help="PROMPT is the next turn of this session."
)
@click.option("--render", is_flag=True, help="Show the text of the whole prompt too.")
@JSON
def count(model: str, prompt: str, session: str | None, *, render: bool, as_json: bool) -> None:
    """Count the tokens PROMPT would have as a turn of MODEL, and how many of them are stored.

    Nothing is loaded or swapped: the standby counts for models that are not seated.
    """
    from hotseat.cli.views.count import count_turn, render_count

    with connected() as client:
        view = count_turn(client, model, prompt, session, render=render)
    show_result(view, render_count, as_json=as_json)
