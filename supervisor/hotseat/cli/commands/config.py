"""Commands about settings: config check, config show, reload."""

from functools import partial
from pathlib import Path

import click

from hotseat.cli.home.connecting import JSON, connected
from hotseat.cli.terminal.output import show_line, show_result


@click.group()
def config() -> None:
    """Check or show the settings. The file is config.toml in HOTSEAT_HOME; it need not exist."""


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@JSON
def check(file: Path | None, *, as_json: bool) -> None:
    """Read FILE, by default that of the home folder, as the daemon would."""
    from hotseat.cli.views.settings import config_file
    from hotseat.supervisor.settings.reader import load_settings

    path = config_file(file)
    load_settings(path)
    line = f"{path}: {'good' if path.exists() else 'does not exist; defaults apply'}"
    show_line({"file": str(path), "exists": path.exists(), "ok": True}, line, as_json=as_json)


@config.command()
@JSON
def show(*, as_json: bool) -> None:
    """Show every setting with its meaning; what the file sets stands without a #."""
    from hotseat.cli.views.settings import config_file, render_settings
    from hotseat.supervisor.settings.reader import load_settings

    settings = load_settings(config_file(None))
    text = render_settings(settings)
    show_result(text, partial(print, end=""), as_json=as_json, plain=settings)


@click.command()
@JSON
def reload(*, as_json: bool) -> None:
    """Have the daemon read config.toml again.

    A file with a mistake is refused and the old settings stay. The running model is only touched
    if its own settings changed: then it is swapped for itself, contexts saved first.
    """
    from hotseat.cli.views.settings import render_reload

    with connected() as client:
        view = client.reload()
    show_result(view, render_reload, as_json=as_json)
