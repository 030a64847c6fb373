"""Command `run`: one turn, or a chat."""

import sys

import click

from hotseat.cli.chat.options import RunOptions
from hotseat.cli.completing import model_names, session_names
from hotseat.cli.home.connecting import connected


@click.command()
@click.argument("model", shell_complete=model_names)
@click.argument("prompt", required=False)
@click.option("--session", shell_complete=session_names, help="Continue this session, or begin it.")
@click.option("--max-tokens", type=int, help="End after so many tokens.")
@click.option("--temperature", type=float, help="0 is greedy.", show_default="the model's own")
@click.option("--top-p", type=float, help="Draw from the likeliest tokens of this share.")
@click.option("--top-k", type=int, help="Draw among so many tokens.")
@click.option("--min-p", type=float, help="Drop tokens below this share of the likeliest.")
@click.option("--repeat-penalty", type=float, help="Above 1 avoids tokens that were there.")
@click.option("--no-sampling-defaults", is_flag=True, help="What is not given is greedy or off.")
@click.option("--seed", type=int, help="Makes a draw repeatable.")
@click.option("--stop", multiple=True, help="End before this text; may be repeated.")
@click.option("--system", help="System message that opens the conversation.")
@click.option("--raw", is_flag=True, help="Continue PROMPT as text, without a chat template.")
@click.option("--priority", type=int, help="-10 to 10, among requests of the same model.")
@click.option("--deadline", "deadline_s", type=float, help="End after so many seconds.")
@click.option("--tools", "tools_file", type=click.Path(), help="JSON file with a list of tools.")
@click.option("--tool-choice", help="auto, none, required, or the name of a tool.")
@click.option("--format", "answer_format", help='"json", or a file with a JSON schema.')
@click.option("--template-arg", multiple=True, help="NAME=VALUE for the chat template.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.option("--jsonl", "as_lines", is_flag=True, help="Print one JSON object per event.")
def run(model: str, prompt: str | None, *, as_json: bool, as_lines: bool, **given: object) -> int:
    """Generate text with MODEL; the seat changes hands if it has to.

    PROMPT "-" or a pipe is read from stdin. Without PROMPT on a terminal it is a chat.
    """
    from hotseat.cli.chat.talk import run_chat
    from hotseat.cli.chat.turn import run_turn

    options = RunOptions.of(model, given)
    if prompt == "-" or (prompt is None and not sys.stdin.isatty()):
        prompt = sys.stdin.read()
    with connected(shares_identity=True) as client:
        if prompt is None and not (as_json or as_lines):
            return run_chat(client, options)
        return run_turn(client, options, prompt or "", as_json=as_json, as_lines=as_lines)
