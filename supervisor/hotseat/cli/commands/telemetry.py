"""Commands that watch numbers: top, record, report."""

from pathlib import Path

import click

from hotseat.cli.home.connecting import JSON, connected
from hotseat.cli.terminal.durations import Duration
from hotseat.cli.terminal.output import note, show_line


@click.command()
def top() -> None:
    """Watch memory, seat, queue and swaps live; q ends it.

    Where the output is no terminal, one screen is printed.

    """
    from hotseat.cli.recording.top import watch_top

    with connected() as client:
        watch_top(client)


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File; else stdout.")
@click.option("--for", "for_s", type=Duration(), help="End after so long: 90s, 30m, 2h.")
@click.option("--kept", is_flag=True, help="Begin with what the daemon still remembers.")
def record(out: Path | None, for_s: float | None, *, kept: bool) -> None:
    """Write samples and swaps as JSONL until interrupted; 5 lines a second."""
    from hotseat.cli.recording.recorder import record_to

    with connected() as client:
        count = record_to(client, out, for_s=for_s, kept=kept)
    note(f"{count} samples" + (f" in {out}; hotseat report {out} -o report.html" if out else ""))


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="HTML file; else FILE with the ending .html.",
)
@JSON
def report(file: Path, out: Path | None, *, as_json: bool) -> None:
    """Draw a recording as one HTML page that needs nothing else."""
    from hotseat.cli.recording.file import read_recording
    from hotseat.cli.recording.report_page import report_facts, write_report

    recording = read_recording(file)
    target = out or file.with_suffix(".html")
    write_report(recording, target)
    facts = report_facts(recording, target)
    line = f"{target}: {facts.samples} samples, {facts.swaps} swaps, {facts.seconds:.0f} s"
    show_line(facts, line, as_json=as_json)
