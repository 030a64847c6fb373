"""The page around the picture: legend, figures, table of swaps. One file, nothing from outside."""

import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from msgspec import Struct

from hotseat.cli.recording.file import Recording
from hotseat.cli.recording.report_svg import LINES, PHASE_COLOURS, picture
from hotseat.cli.terminal.memory_bars import CLASSES
from hotseat.cli.terminal.output import size
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Event
from hotseat.protocol.telemetry import MemoryPages

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #222; --soft: #444; --paper: #fff; --line: #333 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --soft: #bbb; --paper: #16181c; --line: #ccc }
}
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px;
       color: var(--ink); background: var(--paper); padding: 0 1rem }
svg { width: 100%; height: auto } svg text { font: 11px system-ui, sans-serif; fill: var(--soft) }
svg text.band { fill: #222 }
svg line.swap, svg line.mark { stroke: var(--line) }
table { border-collapse: collapse } td, th { padding: .15rem .8rem .15rem 0; text-align: left }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.key span { display: inline-block; margin-right: 1.2rem; white-space: nowrap }
.key i { display: inline-block; width: .9rem; height: .9rem; margin-right: .3rem;
         vertical-align: -2px; border: 1px solid #bbb }
"""


class ReportFacts(Struct, frozen=True, kw_only=True):
    """What a report was made of."""

    file: str
    samples: int
    swaps: int
    seconds: float


def report_facts(recording: Recording, target: Path) -> ReportFacts:
    """Facts for the one line the command prints."""
    samples = recording.samples
    return ReportFacts(
        file=str(target),
        samples=len(samples),
        swaps=len(_swaps(recording)),
        seconds=round(samples[-1].at - samples[0].at, 1) if samples else 0.0,
    )


def write_report(recording: Recording, target: Path, sections: Sequence[str] = ()) -> None:
    """Writes the page, `sections` of HTML last; refuses a recording without samples."""
    if not recording.samples:
        raise HotseatError(
            "invalid_request",
            "the recording holds no samples; let `hotseat record` run while something happens",
        )
    try:
        target.write_text(page(recording, sections), encoding="utf-8")
    except OSError as error:
        raise HotseatError("invalid_request", f"{target}: {error.strerror}") from error


def page(recording: Recording, sections: Sequence[str] = ()) -> str:
    """The HTML text; `sections` come after everything else."""
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(recording.samples[0].at))
    return document(
        f"hotseat, {began}",
        picture(recording.samples, recording.events),
        _key(),
        _figures(recording),
        _pages(recording),
        _swap_table(recording),
        *sections,
    )


def document(title: str, *parts: str) -> str:
    """A page of its own, light and dark, around pieces of HTML."""
    return "\n".join(
        (
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            *parts,
            "</body></html>\n",
        )
    )


def _key() -> str:
    marks = [
        *((shade.colour, shade.name) for shade in CLASSES),
        *((colour, label) for _, label, colour in LINES),
    ]
    phases = [(colour, name.replace("_", " ")) for name, colour in PHASE_COLOURS.items()]
    rows = [
        "".join(f'<span><i style="background:{colour}"></i>{name}</span>' for colour, name in row)
        for row in (marks, phases)
    ]
    return "".join(f'<p class="key">{row}</p>' for row in rows)


def _figures(recording: Recording) -> str:
    samples = recording.samples
    pairs: tuple[tuple[str, str], ...] = (
        ("peak of weights", size(max(s.weights_bytes for s in samples))),
        ("peak of live KV", size(max(s.live_kv_bytes for s in samples))),
        ("least free", size(min(s.free_bytes for s in samples))),
        ("KV on SSD at the end", size(samples[-1].cold_kv_bytes)),
        ("written by hotseat", size(sum(s.offloaded_bytes for s in samples))),
        ("swapped out by the system", size(sum(s.os_swapped_out_bytes for s in samples))),
        ("swapped in by the system", size(sum(s.os_swapped_in_bytes for s in samples))),
    )
    if errors := max(s.gpu_errors for s in samples):
        pairs += (("errors of the GPU since the daemon's start", str(errors)),)
    rows = "".join(f'<tr><td>{name}</td><td class="n">{text}</td></tr>' for name, text in pairs)
    return f"<h2>Figures</h2><table>{rows}</table>"


def _pages(recording: Recording) -> str:
    """What macOS had in each class; nothing for a recording from elsewhere."""
    seen = [sample.pages for sample in recording.samples if sample.pages is not None]
    if not seen:
        return ""
    head = "<tr><th>class<th>at the start<th>least<th>most<th>at the end</tr>"
    rows = ""
    for name in MemoryPages.__struct_fields__:
        held = [int(getattr(pages, name)) for pages in seen]
        cells = (held[0], min(held), max(held), held[-1])
        numbers = "".join(f'<td class="n">{size(cell)}</td>' for cell in cells)
        rows += f"<tr><td>{name.removesuffix('_bytes').replace('_', ' ')}</td>{numbers}</tr>"
    return f"<h2>Pages of macOS</h2><table>{head}{rows}</table>"


def _swap_table(recording: Recording) -> str:
    rows = "".join(_swap_row(event) for event in _swaps(recording))
    head = "<tr><th>at<th>from<th>to<th>seconds<th>written<th>caused by</tr>"
    return f"<h2>Swaps</h2><table>{head}{rows}</table>" if rows else "<p>No swaps.</p>"


def _swap_row(event: Event) -> str:
    facts, cause = event.facts, event.facts.get("cause") or {}
    when = time.strftime("%H:%M:%S", time.localtime(event.at))
    cells = (when, str(facts.get("from") or "-"), str(facts.get("to")))
    numbers = (f"{facts.get('total_s', 0):.2f}", size(facts.get("bytes_written")))
    return (
        "<tr>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "".join(f'<td class="n">{text}</td>' for text in numbers)
        + f"<td>{escape(str(cause.get('client', '')))}</td></tr>"
    )


def _swaps(recording: Recording) -> list[Event]:
    return [event for event in recording.events if event.name == "swap.finished"]
