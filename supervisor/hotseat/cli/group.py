"""The command tree. Names are listed here, code is imported when a command runs."""

import difflib
import importlib
from typing import Any, Final

import click

from hotseat.cli.examples import show_examples
from hotseat.protocol.version import VERSION

_PACKAGE: Final = "hotseat.cli.commands"
_COMMANDS: Final = {
    "serve": ("daemon:serve", "Run the daemon in the foreground."),
    "status": ("seat:status", "Show seat, worker, queue and memory."),
    "ps": ("seat:ps", "Show models that are seated or asked for."),
    "queue": ("seat:queue", "Show running and waiting requests."),
    "models": ("models:models", "List, discover, show, rename, verify or remove models."),
    "import": ("importing:import_", "Register a GGUF file or an MLX folder."),
    "pull": ("pulling:pull", "Fetch a model from the hub and register it."),
    "plan": ("models:plan", "Show what of a model fits into memory."),
    "run": ("run:run", "Generate text; a chat without PROMPT."),
    "swap": ("seat:swap", "Give the seat to another model."),
    "release": ("seat:release", "Give the seat up; contexts are kept."),
    "quote": ("quoting:quote", "Show what asking a model would cost."),
    "why": ("quoting:why", "Show who caused the last swaps."),
    "count": ("counting:count", "Count the tokens of a prompt."),
    "cancel": ("seat:cancel", "End a request."),
    "sessions": ("sessions:sessions", "List, show, fork, rewind or remove sessions."),
    "forget": ("forgetting:forget", "Remove what an agent, or anybody, said here."),
    "disk": ("disk:disk", "Show KV on disk and its limits."),
    "kv": ("disk:kv", "Verify, collect or rebuild stored contexts."),
    "top": ("telemetry:top", "Watch memory, seat and swaps live."),
    "events": ("watch:events", "Show what happened."),
    "record": ("telemetry:record", "Record memory and swaps to a file."),
    "report": ("telemetry:report", "Draw a recording as a web page."),
    "logs": ("watch:logs", "Show the daemon's log."),
    "endpoint": ("daemon:endpoint", "Print where clients find the daemon."),
    "gateway": ("gateway:gateway", "Serve agents that speak HTTP."),
    "launch": ("launch:launch", "Run Claude Code, Codex or opencode."),
    "key": ("keys:key", "Make, list or revoke keys of the gateway."),
    "stop": ("daemon:stop", "End the daemon, or release MODEL."),
    "restart": ("daemon:restart", "End the daemon and start it again."),
    "config": ("config:config", "Check or show the settings."),
    "reload": ("config:reload", "Have the daemon read config.toml again."),
    "upgrade": ("upgrade:upgrade", "Show what an upgrade makes cold."),
    "doctor": ("doctor:doctor", "Look for what is wrong, with remedies."),
    "selftest": ("selftest:selftest", "Measure what this machine gives hotseat."),
    "service": ("service:service", "Have launchd run the daemon."),
    "demo": ("daemon:demo", "Watch two models share the seat."),
    "completion": ("help:completion", "Make a shell complete names."),
    "help": ("help:help_", "Show all commands, or the help of one."),
    "version": ("daemon:version", "Print the version."),
}
_FIRST: Final = (
    "demo",
    "serve",
    "import",
    "run",
    "ps",
    "swap",
    "status",
    "sessions",
    "doctor",
    "help",
)
"""What a first screen shows; the rest is behind `hotseat help`."""
WANTS_ALL: Final = "hotseat.help.all"
_ALL: Final = "--all"


class LateGroup(click.Group):
    """Knows every command by name and one line; imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table: what is needed first comes first."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a command; None for unknown names."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: Any = getattr(importlib.import_module(f"{_PACKAGE}.{module}"), name)
        return show_examples(command, cmd_name) if isinstance(command, click.Command) else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`--help --all` shows every command."""
        if _ALL in args and set(args) <= {_ALL, *ctx.help_option_names}:
            ctx.meta[WANTS_ALL] = True
            args = ["--help"]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Names what is near to an unknown command."""
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, _COMMANDS)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them: the first ones, or all if that was asked."""
        is_all = ctx.meta.get(WANTS_ALL, False)
        with formatter.section("Commands" if is_all else "First commands"):
            shown = _COMMANDS if is_all else _FIRST
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in shown])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Exit codes with all commands; on the first screen the way to them."""
        if ctx.meta.get(WANTS_ALL, False):
            super().format_epilog(ctx, formatter)
            return
        more = len(_COMMANDS) - len(_FIRST)
        formatter.write_paragraph()
        formatter.write_text(f"{more} more commands: `hotseat help`. One: `hotseat help COMMAND`.")


@click.command(
    cls=LateGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 a check found something, 2 wrong request, 3 no daemon, "
    "4 unknown, 5 model unusable, 6 busy, 7 work lost, 8 no memory or disk, 9 launchd, "
    "69 missing extra, 70 defect, 130 interrupted.",
)
@click.version_option(VERSION)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """One seat, many local models.

    The daemon keeps exactly one MLX model loaded and hands the seat over without losing a
    context. Start it with `hotseat serve`.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
