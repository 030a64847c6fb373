"""Commands about models: models list, rm, and all that are on this machine; plan."""

from functools import partial
from typing import TYPE_CHECKING

import click
from msgspec import to_builtins

from hotseat.cli.completing import model_names
from hotseat.cli.home.connecting import JSON, connected, read_or_absent
from hotseat.cli.terminal.output import show_line, show_result, size
from hotseat.cli.terminal.sizes import SIZE

if TYPE_CHECKING:
    from hotseat.cli.views.advice import Purpose

PURPOSE = click.Choice(["coding-agent", "chat"])
FOLDER = click.Path(exists=True, file_okay=False)


@click.group(invoke_without_command=True)
@click.option("--discover", is_flag=True, help="List models that other programs left here.")
@click.option("--register", is_flag=True, help="With --discover: use MLX folders where they lie.")
@click.option("--root", "roots", multiple=True, type=FOLDER, help="A further folder to look into.")
@click.option("--for", "purpose", type=PURPOSE, help="With --discover: rank for this work.")
@JSON
@click.pass_context
def models(
    ctx: click.Context,
    *,
    discover: bool,
    register: bool,
    roots: tuple[str, ...],
    purpose: "Purpose | None",
    as_json: bool,
) -> int:
    """List registered models, or all on this machine; show, rename, verify or remove one."""
    ctx.default_map = {name: {"as_json": as_json} for name in models.commands}
    if ctx.invoked_subcommand is None and discover:
        return _discover(roots, purpose, register=register, as_json=as_json)
    if discover or register or roots or purpose:
        raise click.UsageError(
            "--register, --root and --for go with --discover, which takes no command"
        )
    code: int = ctx.invoke(list_, as_json=as_json) if ctx.invoked_subcommand is None else 0
    return code


def _discover(
    roots: tuple[str, ...], purpose: "Purpose | None", *, register: bool, as_json: bool
) -> int:
    """Exit code 1 when a model could not be registered."""
    from hotseat.cli.home.discovery import discover, register_all
    from hotseat.cli.home.library_process import ImportBar
    from hotseat.cli.views.discovery import render_discovery

    with ImportBar() as bar:
        view = discover(roots, bar.show, purpose)
        if register:
            view = register_all(view, bar.show)
    show_result(view, render_discovery, as_json=as_json)
    return 1 if any(attempt.error for attempt in view.registered) else 0


@models.command("list")
@JSON
def list_(*, as_json: bool) -> int:
    """List registered models."""
    from hotseat.cli.views.model import absent_models, render_models

    answer, code = read_or_absent(lambda client: (True, client.models(), ""), absent_models)
    is_running, views, reason = answer
    if is_running and not views:
        reason = _why_none()
    plain = {"running": is_running, "models": views}
    show_result(views, partial(render_models, reason=reason), as_json=as_json, plain=plain)
    return code


@models.command()
@click.argument("name", shell_complete=model_names)
@JSON
def show(name: str, *, as_json: bool) -> None:
    """Show what is known of model NAME, where it lies and what is stored of it."""
    from hotseat.cli.home.model_facts import Library
    from hotseat.cli.views.model_facts import render_facts

    show_result(Library().show(name), render_facts, as_json=as_json)


@models.command()
@click.argument("old", shell_complete=model_names)
@click.argument("new")
@JSON
def rename(old: str, new: str, *, as_json: bool) -> None:
    """Give model OLD the name NEW, its sessions with it. No daemon may run."""
    from hotseat.cli.home.model_facts import rename as rename_model

    name, sessions = rename_model(old, new)
    line = f"{name} is {new} now, with {sessions} sessions; settings that name {name} stay"
    show_line({"renamed": name, "to": new, "sessions": sessions}, line, as_json=as_json)


@models.command()
@click.argument("name", shell_complete=model_names)
@JSON
def verify(name: str, *, as_json: bool) -> int:
    """Read all files of model NAME and compare them with what was registered.

    Exit code 1 when one is damaged, missing or was written anew.
    """
    from hotseat.cli.home.library_process import ImportBar
    from hotseat.cli.home.model_facts import Library
    from hotseat.cli.views.model_facts import render_checked

    with ImportBar() as bar:
        model, files = Library().verify(name, bar.show)
    show_result(
        files,
        partial(render_checked, model),
        as_json=as_json,
        plain={"name": model, "files": files},
    )
    return 1 if any(file.state != "sound" for file in files) else 0


@models.command("rm")
@click.argument("name", shell_complete=model_names)
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def remove(name: str, *, yes: bool, as_json: bool) -> None:
    """Unregister model NAME and delete what hotseat made for it.

    A folder that was registered in place keeps its files. On a terminal it asks first.
    """
    from hotseat.cli.home.agreeing import agree_to_removal
    from hotseat.cli.home.removal import remove_model

    removal = agree_to_removal(name, is_sure=yes, as_json=as_json)
    freed = remove_model(removal.name)
    plain = to_builtins(removal) | {"removed": removal.name, "removed_bytes": freed}
    show_line(plain, f"removed {removal.name}, freed {size(freed)}", as_json=as_json)


@click.command()
@click.argument("model", shell_complete=model_names)
@click.option("--ram", type=SIZE, help="On a Mac with so much memory, for instance 24GiB.")
@click.option("--working-set", type=SIZE, help="What Metal may wire there, if not its default.")
@JSON
def plan(model: str, ram: int | None, working_set: int | None, *, as_json: bool) -> None:
    """Show what of MODEL fits into memory, without loading it.

    MODEL is a registered name, or a folder with config.json and weights (their headers are
    enough), for which no daemon is needed.
    """
    from hotseat.cli.home.folder_plan import is_folder, plan_folder
    from hotseat.cli.views.model import render_plan

    if is_folder(model):
        view = plan_folder(model, ram, working_set)
    else:
        with connected() as client:
            view = client.plan(model, ram, working_set)
    show_result(view, render_plan, as_json=as_json)


def _why_none() -> str:
    """A folder of models that is away; empty where there simply are none."""
    from hotseat.supervisor.machine.volumes import missing_volume
    from hotseat.supervisor.settings.placed_home import find_placed

    folder = find_placed().models_dir
    gone = missing_volume(folder)
    return f"no models: {folder} is away ({gone}); mount it" if gone else ""
