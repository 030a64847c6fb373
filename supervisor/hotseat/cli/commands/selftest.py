"""Command `selftest`: measures what hotseat needs of this machine, in a home of its own."""

from pathlib import Path

import click

from hotseat.cli.completing import model_names
from hotseat.cli.home.connecting import JSON
from hotseat.cli.selftest.rules.scales import SCALES
from hotseat.cli.terminal.durations import Duration
from hotseat.cli.terminal.output import show_result

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--quick", is_flag=True, help="About 5 minutes, with a small random model.")
@click.option(
    "--model",
    metavar="NAME|PATH",
    shell_complete=model_names,
    help="Measure with this model; else the largest registered one that fits.",
)
@click.option("--soak", "soak_s", type=Duration(), help="Two streams for so long instead: 2h.")
@click.option("--compare", nargs=2, type=_FILE, help="Show two files side by side, run nothing.")
@click.option("--out", type=_FILE, help="File; else hotseat-selftest-DATE-TIME.json here.")
@click.option("--scale", type=click.Choice(sorted(SCALES)), default="full", hidden=True)
@JSON
def selftest(
    quick: bool,
    model: str | None,
    soak_s: float | None,
    compare: tuple[Path, Path] | None,
    out: Path | None,
    scale: str,
    *,
    as_json: bool,
) -> int:
    """Measure disk, memory, speed, swaps, kills and exactness on this machine: 20-25 minutes.

    Runs beside your daemon in a home of its own, without a network, and leaves one file with every
    number: no prompts, names or paths. Each entry has a process and a time limit of its own, so
    that a hang or a crash is a line. Exit code 1 if something is wrong or failed.
    """
    from hotseat.cli.selftest import summary

    if compare is not None:
        if quick or model or soak_s or out:
            raise click.UsageError("--compare runs nothing: leave the other options out")
        pairs = summary.read_pairs(*compare)
        show_result(pairs, summary.render_pairs, as_json=as_json, plain={"figures": pairs})
        return 0
    from hotseat.cli.selftest.run import chosen_scale, run_selftest

    run = run_selftest(chosen_scale("quick" if quick else scale, soak_s), model, out)
    show_result(run, summary.render_run, as_json=as_json, plain=summary.plain_run(run))
    return 0 if run[1].is_good else 1
