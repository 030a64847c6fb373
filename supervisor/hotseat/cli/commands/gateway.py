"""Command `gateway`: HTTP for agents that speak OpenAI's or Anthropic's dialect."""

import importlib.util
from typing import Final

import click

_NEEDED: Final = ("starlette", "uvicorn", "h11")
_PORT: Final = 4687


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=_PORT, show_default=True, help="Port to listen on.")
@click.option("--open-loopback", is_flag=True, help="Ask no key of programs on this machine.")
@click.option("--print-env", is_flag=True, help="Print what agents need, and end.")
def gateway(host: str, port: int, *, open_loopback: bool, print_env: bool) -> int:
    """Serve agents over HTTP until it is told to stop.

    It is an ordinary client of the daemon: without one it answers 503 and finds the next by itself.
    """
    from hotseat.cli.terminal.failures import MissingExtraError
    from hotseat.client.endpoint import find_home

    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        text = f"the gateway needs {', '.join(missing)}: pip install 'hotseat[http]'"
        raise MissingExtraError(text)
    from hotseat.gateway.server import key_of, run_gateway

    home = find_home()
    key = "" if open_loopback else key_of(home)
    if print_env:
        print("\n".join(agent_lines(f"http://{host}:{port}", key or "none")))
        return 0

    def say() -> None:
        click.echo(f"hotseat gateway at http://{host}:{port}", err=True)

    run_gateway(home=home, host=host, port=port, key=key, on_bound=say)
    return 0


def agent_lines(address: str, key: str) -> list[str]:
    """Lines for a shell, by agent. Pure."""
    return [
        "# OpenAI's packages, and everything built on them",
        f"export OPENAI_BASE_URL={address}/v1",
        f"export OPENAI_API_KEY={key}",
        "# Claude Code and Anthropic's packages",
        f"export ANTHROPIC_BASE_URL={address}",
        f"export ANTHROPIC_AUTH_TOKEN={key}",
        "export ANTHROPIC_DEFAULT_HAIKU_MODEL=seated",
        "export CLAUDE_CODE_ATTRIBUTION_HEADER=0",
        "export CLAUDE_STREAM_IDLE_TIMEOUT_MS=900000",
        "export API_TIMEOUT_MS=900000",
    ]
