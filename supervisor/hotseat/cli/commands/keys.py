"""Command `key`: keys of the gateway's door for people beside the owner."""

import click

from hotseat.cli.home.connecting import JSON
from hotseat.cli.terminal.output import show_line, show_result


@click.group()
def key() -> None:
    """Make, list or revoke keys for others; the owner's own is printed by `gateway`."""


@key.command()
@click.argument("name")
@click.option("--models", help="Names of models, with commas; all without it.")
@click.option("--priority", type=int, help="Of its requests, -10 to 10.")
@click.option("--no-swap", is_flag=True, help="Its requests wait until others seat the model.")
@click.option("--max-waiting", type=click.IntRange(1), help="So many may be without output yet.")
@JSON
def add(
    name: str,
    models: str | None,
    priority: int | None,
    max_waiting: int | None,
    *,
    no_swap: bool,
    as_json: bool,
) -> None:
    """Make a key for NAME and print it, this once."""
    from hotseat.cli.home.known_models import check_model_names
    from hotseat.client.endpoint import find_home
    from hotseat.gateway.callers import Caller
    from hotseat.gateway.keys import add_key

    names = tuple(part.strip() for part in (models or "").split(",") if part.strip())
    check_model_names(names)
    caller = Caller(
        name=name,
        models=names,
        priority=priority,
        may_swap=not no_swap,
        max_waiting=max_waiting,
    )
    made = add_key(find_home(), caller)
    show_line({"name": name, "key": made}, made, as_json=as_json)


@key.command(name="list")
@JSON
def list_(*, as_json: bool) -> None:
    """List keys and what they may; the keys themselves are not kept."""
    from hotseat.cli.views.keys import render_keys
    from hotseat.client.endpoint import find_home
    from hotseat.gateway.keys import read_keys

    entries = [(entry.caller, entry.created_at) for entry in read_keys(find_home())]
    plain = {"keys": [{"created_at": at, "caller": caller} for caller, at in entries]}
    show_result(entries, render_keys, as_json=as_json, plain=plain)


@key.command()
@click.argument("name")
@JSON
def revoke(name: str, *, as_json: bool) -> None:
    """End the key of NAME; what it has under way goes on."""
    from hotseat.client.endpoint import find_home
    from hotseat.gateway.keys import revoke_key

    revoke_key(find_home(), name)
    show_line({"revoked": name}, f"key {name} is revoked", as_json=as_json)
