"""Commands about the command line itself: help, completion."""

from typing import Final

import click

SHELLS: Final = ("bash", "zsh", "fish")
_NAMES: Final = {
    "complete_func": "_hotseat_completion",
    "complete_var": "_HOTSEAT_COMPLETE",
    "prog_name": "hotseat",
}
"""For click's templates: its own way would start a bash to look at its version."""


@click.command("help")
@click.argument("command", nargs=-1)
@click.pass_context
def help_(ctx: click.Context, command: tuple[str, ...]) -> None:
    """Show all commands, or the help of COMMAND."""
    from hotseat.cli.group import WANTS_ALL, cli

    outer = click.Context(cli, info_name="hotseat")
    outer.meta[WANTS_ALL] = True
    found: click.Command = cli
    for name in command:
        if not isinstance(found, click.Group):
            raise click.UsageError(f"`{outer.command_path}` has no commands below it", ctx)
        inner = found.get_command(outer, name)
        if inner is None:
            found.resolve_command(outer, [name])  # says what is near
            raise click.UsageError(f"no command {name!r}; see `{outer.command_path} --help`", ctx)
        outer = click.Context(inner, info_name=name, parent=outer)
        found = inner
    click.echo(found.get_help(outer))


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options, models and sessions.

    For good: put the line below into the file your shell reads at its start (~/.zshrc, ~/.bashrc).
    bash has to be 4.4 or newer; the one that comes with macOS is not.
    """
    from click.shell_completion import get_completion_class

    from hotseat.cli.group import cli

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - the choices are those that click knows
    click.echo(kind(cli, {}, "hotseat", "_HOTSEAT_COMPLETE").source_template % _NAMES)
