"""The page of the experiment, drawn from raw runs: what each arm made of one limit. Pure.

Axes, colours and the page around it are those of `hotseat report`.
"""

from collections.abc import Callable, Iterator, Sequence
from html import escape

from msgspec import Struct

from benchmarks.measure import MIB
from benchmarks.proof.results import Run
from benchmarks.proof.tables import (
    COST_HEADS,
    COST_TITLE,
    SEEN_HEADS,
    Row,
    cost_cells,
    limit_text,
    rows_of,
    seen_cells,
)
from hotseat.cli.recording.report_page import document
from hotseat.cli.recording.report_svg import LINES, Axis, element

TOP, LINE, BOTTOM = 46, 44, 34
"""Pixels: above the first arm, of an arm, below the last one for the scale."""
FIRSTS, COMPLETED, SWAPPED, STORED = (170, 400), 610, (700, 150), (910, 110)
"""Left edge of each column, and its width; numbers stand to the right of a bar."""
BOLD = "font-weight:bold"
JITTER = (0, -7, 7, -3.5, 3.5)
SWAP_COLOUR, OWN_COLOUR = (
    next(colour for name, _, colour in LINES if name == wanted)
    for wanted in ("os_swapped_in_bytes", "offloaded_bytes")
)
COLOURS = {"kept": "#c0392b", "one": "#8a8f97", "hotseat": "#3d7edb"}
"""By the first word of an arm's name."""
LABEL = "for each arm: time to the first token, completed runs, swap in, bytes of contexts written"
LEGEND = (
    "A dot is a turn, a hollow one of a run that did not complete; the bar is the median, the thin"
    " line the 95th percentile. Swap and contexts are medians of a run."
)


class Column(Struct, frozen=True, kw_only=True):
    """Bars of one figure; `value` takes it from a row, in MiB."""

    title: str
    place: tuple[int, int]
    colour: str
    value: Callable[[Row], float]


BARS = (
    Column(
        title="OS swap in, MiB",
        place=SWAPPED,
        colour=SWAP_COLOUR,
        value=lambda row: row.swap_in / MIB,
    ),
    Column(
        title="contexts written, MiB",
        place=STORED,
        colour=OWN_COLOUR,
        value=lambda row: row.stored / MIB,
    ),
)


def page(runs: Sequence[Run]) -> str:
    """The HTML text: picture, both tables, why runs failed."""
    rows = rows_of(runs)
    failures = [f"{row.arm}, limit {limit_text(row)}: {row.failure}" for row in rows if row.failure]
    return document(
        "Control against chaos",
        drawn(runs),
        f"<p>{LEGEND}</p>",
        "<h2>Change of the model to the first token</h2>",
        _table(SEEN_HEADS, map(seen_cells, rows)),
        f"<h2>{escape(COST_TITLE[0].upper() + COST_TITLE[1:])}</h2>",
        _table(COST_HEADS, map(cost_cells, rows)),
        *(f"<p>{escape(failure)}</p>" for failure in failures),
    )


def drawn(runs: Sequence[Run]) -> str:
    """The picture as an SVG element."""
    rows = rows_of(runs)
    most_s = max((row.first_most_s for row in rows), default=0.0) or 1.0
    across = Axis(low=0, high=most_s, start=FIRSTS[0], length=FIRSTS[1])
    foot = TOP + LINE * len(rows)
    parts = [*_scale(across, most_s, foot), _head(COMPLETED, "completed")]
    for place, row in enumerate(rows):
        middle = TOP + LINE * place + LINE / 2
        own = [run for run in runs if (run.arm, run.ratio) == (row.arm, row.ratio)]
        parts += _arm(row, own, across, middle)
    for column in BARS:
        parts += _bars(column, rows)
    return element(parts, foot + BOTTOM, LABEL)


def _arm(row: Row, runs: Sequence[Run], across: Axis, middle: float) -> Iterator[str]:
    """Name, turns and completion of one row."""
    colour = _colour(row)
    yield f'<text x="10" y="{middle:.1f}" style="{BOLD}">{escape(row.arm)}</text>'
    limit = "no limit" if row.ratio is None else f"limit {limit_text(row)}"
    yield f'<text x="10" y="{middle + 14:.1f}">{limit}</text>'
    turns = [(turn.first_s, run.is_completed) for run in runs for turn in run.turns]
    for number, (first_s, is_completed) in enumerate(turns):
        fill = f'fill="{colour}"' if is_completed else f'fill="none" stroke="{colour}"'
        yield (
            f'<circle class="turn" cx="{across(first_s):.1f}" '
            f'cy="{middle + JITTER[number % len(JITTER)]:.1f}" r="3.5" {fill} opacity="0.7">'
            f"<title>{first_s:.2f} s</title></circle>"
        )
    if turns:
        yield _tick(across(row.first_s), middle, 13, f"median {row.first_s:.2f} s", colour, 3.5)
        yield _tick(across(row.first_p95_s), middle, 13, f"p95 {row.first_p95_s:.2f} s", colour, 1)
    style = "" if row.completed == row.runs else f' style="{BOLD};fill:{COLOURS["kept"]}"'
    yield (
        f'<text class="done" x="{COMPLETED}" y="{middle + 4:.1f}"{style}>'
        f"{row.completed} of {row.runs}</text>"
    )


def _colour(row: Row) -> str:
    return COLOURS[row.arm.partition("-")[0]]


def _tick(left: float, middle: float, half: int, title: str, colour: str, width: float) -> str:
    return (
        f'<line x1="{left:.1f}" x2="{left:.1f}" y1="{middle - half:.1f}" y2="{middle + half:.1f}" '
        f'stroke="{colour}" stroke-width="{width}"><title>{title}</title></line>'
    )


def _bars(column: Column, rows: Sequence[Row]) -> Iterator[str]:
    """A bar an arm with its number; none where no run came far enough to be counted."""
    left, width = column.place
    yield _head(left, column.title)
    most = max(map(column.value, rows), default=0.0) or 1.0
    for place, row in enumerate(rows):
        value, top = column.value(row), TOP + LINE * place + LINE / 2 - 8
        length = value / most * width
        yield (
            f'<rect x="{left}" y="{top:.1f}" width="{length:.1f}" height="16" '
            f'fill="{column.colour}" opacity="0.85"/>'
        )
        yield f'<text x="{left + length + 5:.1f}" y="{top + 12:.1f}">{value:,.0f}</text>'


def _head(left: float, title: str) -> str:
    return f'<text x="{left}" y="{TOP - 18}" style="{BOLD}">{title}</text>'


def _scale(across: Axis, most_s: float, foot: int) -> Iterator[str]:
    """Seconds below the dots, and lines through all arms."""
    yield _head(FIRSTS[0], "change of the model to the first token, s")
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 50, 100, 1e9) if most_s / step <= 8)
    for number in range(int(most_s / step) + 1):
        left = across(number * step)
        yield (
            f'<line x1="{left:.1f}" x2="{left:.1f}" y1="{TOP - 6}" y2="{foot}" stroke="#888" '
            'stroke-width="0.4"/>'
        )
        yield (
            f'<text x="{left:.1f}" y="{foot + 18}" text-anchor="middle">{number * step:g}</text>'
        )


def _table(heads: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    head = "".join(f"<th>{name}" for name in heads)
    body = "".join(
        "<tr>" + "".join(_cell(cell, place) for place, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(text: str, place: int) -> str:
    return f"<td>{escape(text)}</td>" if not place else f'<td class="n">{escape(text)}</td>'
