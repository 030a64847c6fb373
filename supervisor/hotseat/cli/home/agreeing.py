"""Asks a person before a model goes. A program is taken at its word, in full."""

import sys

import click

from hotseat.cli.home.model_facts import Library
from hotseat.cli.home.removal import refuse_in_use
from hotseat.cli.views.model_facts import Removal, render_removal
from hotseat.protocol.errors import HotseatError


def agree_to_removal(asked: str, *, is_sure: bool, as_json: bool) -> Removal:
    """What is about to go. Raises `HotseatError`, or `click.Abort` where somebody says no."""
    refuse_in_use(asked)
    library = Library()
    name = library.find(asked)
    removal = library.plan_removal(name)
    asks = not is_sure and not as_json and sys.stdin.isatty()
    if asks:
        render_removal(removal)
        click.confirm(f"Remove {name}?", abort=True)
    elif name != asked:
        raise HotseatError(
            "invalid_request",
            f"{asked!r} could mean {name}; removing a model takes its full name",
            name=asked,
            near=[name],
        )
    return removal
