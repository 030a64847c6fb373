"""Command `gateway`: HTTP for agents that speak OpenAI's or Anthropic's dialect."""

import click


@click.command()
@click.option("--host", help="Address to listen on, in place of [http] host.")
@click.option("--port", type=int, help="Port to listen on, in place of [http] port.")
@click.option("--open-loopback", is_flag=True, help="Ask no key of programs on this machine.")
@click.option("--insecure-lan", is_flag=True, help="Beyond this machine without a certificate.")
@click.option("--print-env", is_flag=True, help="Print what agents need, and end.")
@click.option("--watched", is_flag=True, hidden=True)
def gateway(
    host: str | None,
    port: int | None,
    *,
    open_loopback: bool,
    insecure_lan: bool,
    print_env: bool,
    watched: bool,
) -> int:
    """Serve agents over HTTP until it is told to stop.

    It is an ordinary client of the daemon: without one it answers 503 and finds the next by itself.
    """
    from hotseat.cli.home.gateway_settings import (
        gateway_settings,
        need_http_extra,
        read_http_settings,
    )
    from hotseat.cli.runtimes.printed import agent_lines, printed_meeting
    from hotseat.client.endpoint import find_home

    need_http_extra()
    from hotseat.gateway.keys import owner_key
    from hotseat.gateway.server import run_gateway

    home, http = find_home(), read_http_settings()
    settings = gateway_settings(
        http, host=host, port=port, open_loopback=open_loopback, insecure_lan=insecure_lan
    )
    if print_env:
        key = "none" if settings.open_loopback else owner_key(home)
        print("\n".join(agent_lines(printed_meeting(home, settings.address, key))))
        return 0

    def say() -> None:
        click.echo(f"hotseat gateway at {settings.address}", err=True)

    run_gateway(home=home, settings=settings, digest=http.digest, watched=watched, on_bound=say)
    return 0
