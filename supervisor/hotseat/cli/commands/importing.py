"""Command `import`: registers a model through the library's own process."""

from typing import Final

import click

from hotseat.cli.home.connecting import JSON
from hotseat.cli.terminal.output import show_result

_BITS: Final = click.Choice(["4", "6", "8"])
_GROUPS: Final = click.Choice(["32", "64", "128"])


@click.command("import")
@click.argument("source")
@click.option("--name", help="Name of the model; by default from the source.")
@click.option("--licence", help="Licence to record with the model.")
@click.option("--context", type=click.IntRange(min=1), help="Shorter context, in tokens.")
@click.option("--adapter", type=click.Path(), help="Folder of a LoRA adapter to load with it.")
@click.option("--bits", type=_BITS, help="Quantise a file's weights to this.")
@click.option("--group-size", type=_GROUPS, help="Of --bits; by default 64.")
@click.option("--keep", is_flag=True, help="With --bits: leave alone what MLX has as it is.")
@click.option("--dry-run", is_flag=True, help="Only say what a file would become.")
@JSON
def import_(
    source: str,
    name: str | None,
    licence: str | None,
    context: int | None,
    adapter: str | None,
    bits: str | None,
    group_size: str | None,
    *,
    keep: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Register SOURCE: a GGUF file or ollama:NAME[:TAG] (converted), or an MLX folder (in place).

    A file's codes are kept where MLX has the same; other types are quantised again, unless --bits
    says how.
    """
    from hotseat.cli.home.cold_note import telling_what_becomes_cold
    from hotseat.cli.home.library_process import ImportBar, Making, import_model, plan_import
    from hotseat.cli.views.conversion import render_conversion
    from hotseat.cli.views.record import render_record

    making = Making.of(bits, group_size, keep=keep)
    with ImportBar() as bar:
        if dry_run:
            plan = plan_import(source, making, bar.show)
        else:
            show = telling_what_becomes_cold(bar.show)
            record = import_model(source, name, licence, context, show, adapter, making)
    if dry_run:
        show_result(plan, render_conversion, as_json=as_json)
    else:
        show_result(record, render_record, as_json=as_json)
