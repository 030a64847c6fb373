"""Command `pull`: fetches a repository of the hub and registers it where it lies."""

import click

from hotseat.cli.home.connecting import JSON
from hotseat.cli.terminal.output import show_result


@click.command()
@click.argument("repository", metavar="REPO[@REV]")
@click.option("--file", help="One GGUF file of it: fetched, then imported.")
@click.option("--name", help="Name of the model; by default that of the repository.")
@click.option("--dry-run", is_flag=True, help="Only say how large it is and whether it fits.")
@click.option("--force", is_flag=True, help="Fetch it even if it does not fit this machine.")
@JSON
def pull(
    repository: str,
    file: str | None,
    name: str | None,
    *,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Fetch the model of a repository into the hub's cache and register it there.

    Of a repository of GGUF files, --file says which one; without it they are listed.
    Run it again after it broke off: whole files are kept. HF_ENDPOINT names a mirror, HF_TOKEN who
    you are.
    """
    from hotseat.cli.home.library_process import ImportBar
    from hotseat.cli.home.pulling import fetch_model, plan_pull
    from hotseat.cli.views.pull import render_pull
    from hotseat.cli.views.record import render_record

    with ImportBar() as bar:
        view = plan_pull(repository, bar.show, file)
        if dry_run:
            record = None
        else:
            record = fetch_model(view, repository, name, bar.show, even_if_unfit=force)
    if record is None:
        show_result(view, render_pull, as_json=as_json)
    else:
        show_result(record, render_record, as_json=as_json)
