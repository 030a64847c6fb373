"""Command `import`: registers a model through the library's own process."""

import click

from hotseat.cli.home.connecting import JSON
from hotseat.cli.terminal.output import show_result


@click.command("import")
@click.argument("source")
@click.option("--name", help="Name of the model; by default from the source.")
@click.option("--licence", help="Licence to record with the model.")
@click.option("--context", type=click.IntRange(min=1), help="Shorter context, in tokens.")
@click.option("--adapter", type=click.Path(), help="Folder of a LoRA adapter to load with it.")
@JSON
def import_(
    source: str,
    name: str | None,
    licence: str | None,
    context: int | None,
    adapter: str | None,
    *,
    as_json: bool,
) -> None:
    """Register SOURCE: a GGUF file (converted) or an MLX folder (used in place)."""
    from hotseat.cli.home.cold_note import telling_what_becomes_cold
    from hotseat.cli.home.library_process import ImportBar, import_model
    from hotseat.cli.views.record import render_record

    with ImportBar() as bar:
        show = telling_what_becomes_cold(bar.show)
        record = import_model(source, name, licence, context, show, adapter)
    show_result(record, render_record, as_json=as_json)
