"""Command `launch`: an agent program over the gateway, for one process."""

import click

from hotseat.cli.completing import model_names

_AGENTS = ("claude", "codex", "opencode")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("agent", type=click.Choice(_AGENTS))
@click.option("--model", shell_complete=model_names, help="A registered model.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def launch(agent: str, model: str | None, arguments: tuple[str, ...]) -> None:
    """Run an agent with this home's models; ARGUMENTS go to it.

    Daemon and gateway are started if they are not there. The agent's own settings files stay as
    they are: what it needs to know is told to this one process.
    """
    from hotseat.cli.runtimes.launching import launch_agent

    launch_agent(agent, model, arguments)
