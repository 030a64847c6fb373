"""Commands about models: models list, models rm, plan."""

import click

from hotseat.cli.output import print_json, size
from hotseat.cli.reading import JSON, connected, read_or_absent


@click.group(invoke_without_command=True)
@JSON
@click.pass_context
def models(ctx: click.Context, *, as_json: bool) -> int:
    """List registered models, or remove one."""
    ctx.default_map = {"list": {"as_json": as_json}, "rm": {"as_json": as_json}}
    return _list(as_json=as_json) if ctx.invoked_subcommand is None else 0


@models.command("list")
@JSON
def list_(*, as_json: bool) -> int:
    """List registered models."""
    return _list(as_json=as_json)


@models.command("rm")
@click.argument("name")
@JSON
def remove(name: str, *, as_json: bool) -> None:
    """Unregister model NAME and delete what hotseat made for it.

    A folder that was registered in place keeps its files.
    """
    from hotseat.cli.removal import remove_model

    freed = remove_model(name)
    if as_json:
        print_json({"removed": name, "removed_bytes": freed})
    else:
        print(f"removed {name}, freed {size(freed)}")


@click.command()
@click.argument("model")
@JSON
def plan(model: str, *, as_json: bool) -> None:
    """Show what of MODEL fits into memory, without loading it."""
    from hotseat.cli.model_view import render_plan

    with connected() as client:
        view = client.plan(model)
    if as_json:
        print_json(view)
    else:
        render_plan(view)


def _list(*, as_json: bool) -> int:
    from hotseat.cli.model_view import absent_models, render_models

    answer, code = read_or_absent(lambda client: (True, client.models(), ""), absent_models)
    is_running, views, reason = answer
    if as_json:
        print_json({"running": is_running, "models": views})
    else:
        render_models(views, reason)
    return code
