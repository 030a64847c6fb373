"""Commands about the daemon's life: serve, endpoint, stop, restart, demo, version."""

import os
import shlex
from pathlib import Path

import click

from hotseat.cli.completing import model_names
from hotseat.cli.home.connecting import JSON
from hotseat.cli.terminal.output import show_line, show_result
from hotseat.cli.terminal.sizes import SIZE


@click.command()
@click.option("--verbose", "-v", is_flag=True, help="Say more on stderr.")
def serve(*, verbose: bool) -> int:
    """Run the daemon in the foreground; this is what launchd runs."""
    from hotseat.supervisor.daemon.serve import serve as serve_home

    return serve_home(None, verbose=verbose)


@click.command()
@JSON
@click.option("--env", "as_env", is_flag=True, help="Print a line for a shell to evaluate.")
@click.option("--http", "of_http", is_flag=True, help="The gateway's address instead.")
def endpoint(*, as_json: bool, as_env: bool, of_http: bool) -> None:
    """Print where clients find the daemon."""
    from hotseat.cli.home.lifecycle import current_endpoint, gateway_address

    found = current_endpoint()
    export = f"export HOTSEAT_ENDPOINT={shlex.quote(found.requests)}"
    plain = gateway_address(found) if of_http else found.requests
    show_line(found, export if as_env else plain, as_json=as_json)


@click.command()
@click.argument("model", required=False, shell_complete=model_names)
@click.option("--timeout", "timeout_s", type=float, default=960.0, show_default=True)
@JSON
def stop(model: str | None, timeout_s: float, *, as_json: bool) -> None:
    """End the daemon in order: it drains, checkpoints and stops the worker.

    With MODEL the daemon stays and only the seat of that model is given up.
    """
    from hotseat.cli.home.lifecycle import release_model, render_stopped, stop_daemon
    from hotseat.cli.views.seat import render_release

    if model is not None:
        show_result(release_model(model), render_release, as_json=as_json)
    else:
        show_result(stop_daemon(timeout_s), render_stopped, as_json=as_json)


@click.command()
@click.option("--timeout", "timeout_s", type=float, default=960.0, show_default=True)
@JSON
def restart(timeout_s: float, *, as_json: bool) -> None:
    """End the daemon, if it runs, and start it in the background."""
    from hotseat.cli.home.lifecycle import restart_daemon

    started = restart_daemon(timeout_s)
    show_line(started, f"daemon {started.pid} runs, instance {started.instance}", as_json=as_json)


@click.command()
@click.option("--without-gemma", is_flag=True, help="Leave out the model under Gemma's terms.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where downloads are kept.")
@click.option("--keep", is_flag=True, help="Keep the demo's home folder.")
@click.option("--too-large", is_flag=True, help="Have a model answer that its memory cannot hold.")
@click.option("--five-phases", is_flag=True, help="Record how a large model comes and goes.")
@click.option("--models", help="SMALL,LARGE of yours for --five-phases; else the samples.")
@click.option("--limit", type=SIZE, help="Run --five-phases in so much memory; Linux, as root.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("five-phases.html"),
    show_default=True,
    help="Page of --five-phases; figures and recording lie beside it.",
)
@JSON
def demo(
    *,
    without_gemma: bool,
    cache: Path | None,
    keep: bool,
    too_large: bool,
    five_phases: bool,
    models: str | None,
    limit: int | None,
    out: Path,
    as_json: bool,
) -> int:
    """Watch two real models share the seat, in a home folder of its own."""
    if five_phases:
        from hotseat.cli.demo.five_phases_run import run_five_phases

        return run_five_phases(
            models=None if models is None else _pair(models),
            cache=cache or demo_cache(),
            out=out,
            limit_bytes=limit,
            as_json=as_json,
        )
    if limit is not None:
        raise click.UsageError("--limit goes with --five-phases")
    if too_large:
        from hotseat.cli.demo.too_large_run import run_too_large

        return run_too_large(cache=cache or demo_cache(), keep=keep, as_json=as_json)
    from hotseat.cli.demo.run import run_demo

    return run_demo(
        with_gemma=not without_gemma, cache=cache or demo_cache(), keep=keep, as_json=as_json
    )


def _pair(models: str) -> tuple[str, str]:
    small, comma, large = models.partition(",")
    if not (small and comma and large):
        raise click.BadParameter("two names with a comma: SMALL,LARGE", param_hint="--models")
    return small, large


def demo_cache() -> Path:
    """Where downloads for the demo are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hotseat"


@click.command()
@JSON
def version(*, as_json: bool) -> None:
    """Print the version of hotseat and of its protocol."""
    from hotseat.protocol.limits import PROTOCOL_MAX, PROTOCOL_MIN
    from hotseat.protocol.version import VERSION

    facts = {"version": VERSION, "protocol_min": PROTOCOL_MIN, "protocol_max": PROTOCOL_MAX}
    line = f"hotseat {VERSION}, protocol {PROTOCOL_MIN} to {PROTOCOL_MAX}"
    show_line(facts, line, as_json=as_json)
