"""The picture of a recording: memory stacked by class, phases as bands, disk traffic as lines.

Pure: samples in, one SVG element out. No scripts, no fonts, nothing from outside.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hotseat.cli.terminal.memory_bars import CLASSES
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.replies import Event
from hotseat.protocol.telemetry import Sample

WIDTH: Final = 1100
_LEFT: Final = 70
_RIGHT: Final = 20
_MARKS: Final = (2, 16)
_PHASES: Final = (20, 18)
_MEMORY: Final = (60, 300)
_TRAFFIC: Final = (400, 120)
_RATE: Final = (560, 80)
HEIGHT: Final = 680
_HEADROOM: Final = 1.3
"""Of the memory that was in use at most, in the picture."""
_MOST_POINTS: Final = 1500
_MOST_MARKS: Final = 10
PHASE_COLOURS: Final = {
    "empty": "#eef0f3",
    "starting": "#f6d77a",
    "loading": "#f2a65a",
    "warming": "#f7c59f",
    "ready": "#bfe3c0",
    "draining": "#b9d3ee",
    "checkpointing": "#7fb0df",
    "stopping": "#c9b6dd",
    "reclaiming": "#a58cc4",
    "memory_stranded": "#d9534f",
    "failed": "#d9534f",
}
MARK: Final = "demo.phase"
"""Event of a recording where a part of a demonstration begins."""
LINES: Final = (
    ("os_swapped_out_bytes", "OS swap out", "#c0392b"),
    ("os_swapped_in_bytes", "OS swap in", "#e08e0b"),
    ("offloaded_bytes", "hotseat offload (KV written)", "#2456a6"),
)


class Axis(Struct, frozen=True, kw_only=True):
    """Values to pixels; `top` is the pixel row of `high`."""

    low: float
    high: float
    start: float
    length: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        span = self.high - self.low or 1.0
        return self.start + (value - self.low) / span * self.length


def picture(samples: Sequence[Sample], events: Sequence[Event]) -> str:
    """The whole SVG element."""
    samples = thinned(samples)
    first, last = samples[0].at, samples[-1].at
    across = Axis(low=first, high=max(last, first + 1), start=_LEFT, length=WIDTH - _LEFT - _RIGHT)
    parts = [
        *_bands(samples, across),
        *_stack(samples, across),
        *_lines(samples, across),
        *_rate(samples, across),
        *_swaps(events, across),
        *_marks(events, across),
        *_time_axis(across),
    ]
    return element(parts, HEIGHT, "memory, phases and disk traffic over time")


def element(parts: Iterable[str], height: int, label: str) -> str:
    """An SVG element as wide as all pictures; `label` is what it is for who cannot see it."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(label)}">\n{body}\n</svg>'
    )


def thinned(samples: Sequence[Sample]) -> list[Sample]:
    """At most so many points; what was moved between two shown ones is added up, not lost."""
    stride = math.ceil(len(samples) / _MOST_POINTS)
    if stride <= 1:
        return list(samples)
    return [_merged(samples[start : start + stride]) for start in range(0, len(samples), stride)]


def _merged(group: Sequence[Sample]) -> Sample:
    sums = {name: sum(getattr(entry, name) for entry in group) for name, _, _ in LINES}
    mean = sum(entry.tokens_per_s for entry in group) / len(group)
    return replace(group[-1], tokens_per_s=mean, **sums)


def _bands(samples: Sequence[Sample], across: Axis) -> Iterator[str]:
    """Runs of one phase; the model's name where there is room."""
    top, height = _PHASES
    bottom = _RATE[0] + _RATE[1]
    for run, end in runs(samples):
        left, right = across(run.at), across(end)
        colour = PHASE_COLOURS.get(run.phase, "#dddddd")
        title = escape(f"{run.phase} {run.model or ''}".strip())
        yield (
            f'<rect class="phase" x="{left:.1f}" y="{top}" width="{max(right - left, 0.6):.1f}" '
            f'height="{height}" fill="{colour}"><title>{title}</title></rect>'
        )
        if run.phase not in {"ready", "empty"}:
            yield (
                f'<rect x="{left:.1f}" y="{_MEMORY[0]}" width="{max(right - left, 0.6):.1f}" '
                f'height="{bottom - _MEMORY[0]}" fill="{colour}" opacity="0.35"/>'
            )
        name = run.model or ""
        if run.phase == "ready" and right - left > 7 * len(name) + 6:
            yield f'<text class="band" x="{left + 4:.1f}" y="{top + 13}">{escape(name)}</text>'


def runs(samples: Sequence[Sample]) -> Iterator[tuple[Sample, float]]:
    """First sample of each run of one phase and model, and when the run ended."""
    first = samples[0]
    for sample in samples[1:]:
        if (sample.phase, sample.model) != (first.phase, first.model):
            yield first, sample.at
            first = sample
    yield first, samples[-1].at


def _stack(samples: Sequence[Sample], across: Axis) -> Iterator[str]:
    top, height = _MEMORY
    total = max(sample.total_bytes for sample in samples) or 1
    used = max(sample.total_bytes - sample.free_bytes for sample in samples)
    # Small models on a large machine would be a line at the bottom.
    shown = min(total, int(used * _HEADROOM) or total)
    up = Axis(low=0, high=shown, start=top + height, length=-height)
    floors = [0.0] * len(samples)
    for shade in CLASSES:
        roofs = [
            min(floor + getattr(sample, shade.attribute), shown)
            for floor, sample in zip(floors, samples, strict=True)
        ]
        there = [f"{across(s.at):.1f},{up(v):.1f}" for s, v in zip(samples, roofs, strict=True)]
        back = [f"{across(s.at):.1f},{up(v):.1f}" for s, v in zip(samples, floors, strict=True)]
        opacity = "0.25" if shade.attribute == "free_bytes" else "0.85"
        yield (
            f'<polygon class="{shade.attribute}" points="{" ".join(there + back[::-1])}" '
            f'fill="{shade.colour}" fill-opacity="{opacity}"><title>{shade.name}</title></polygon>'
        )
        floors = roofs
    name = "memory" if shown == total else f"memory, of {total / GIB:.3g} GiB"
    yield from _y_axis(up, name, shown, lambda value: f"{value / GIB:.3g} GiB")


def _lines(samples: Sequence[Sample], across: Axis) -> Iterator[str]:
    """Bytes a second: what the system swapped and what hotseat wrote, never added together."""
    top, height = _TRAFFIC
    series = [(name, label, colour, _per_second(samples, name)) for name, label, colour in LINES]
    most = max(max(values, default=0.0) for _, _, _, values in series) or float(MIB)
    up = Axis(low=0, high=most, start=top + height, length=-height)
    for name, label, colour, values in series:
        points = " ".join(
            f"{across(s.at):.1f},{up(v):.1f}" for s, v in zip(samples, values, strict=True)
        )
        yield (
            f'<polyline class="{name}" points="{points}" fill="none" stroke="{colour}" '
            f'stroke-width="1.5"><title>{label}</title></polyline>'
        )
    yield from _y_axis(up, "disk traffic", most, lambda value: f"{value / MIB:.3g} MiB/s")


def _per_second(samples: Sequence[Sample], name: str) -> list[float]:
    values = [0.0]
    for before, sample in pairwise(samples):
        passed_s = sample.at - before.at
        values.append(getattr(sample, name) / passed_s if passed_s > 0 else 0.0)
    return values


def _rate(samples: Sequence[Sample], across: Axis) -> Iterator[str]:
    top, height = _RATE
    most = max(sample.tokens_per_s for sample in samples) or 1.0
    up = Axis(low=0, high=most, start=top + height, length=-height)
    points = " ".join(f"{across(s.at):.1f},{up(s.tokens_per_s):.1f}" for s in samples)
    yield (
        f'<polyline class="tokens_per_s" points="{points}" fill="none" stroke="#2e7d32" '
        'stroke-width="1.5"><title>tokens per second</title></polyline>'
    )
    yield from _y_axis(up, "tokens/s", most, lambda value: f"{value:.3g}")


def _swaps(events: Sequence[Event], across: Axis) -> Iterator[str]:
    """A line where a swap ended, with what it was and who caused it."""
    for event in events:
        if event.name != "swap.finished" or not across.low <= event.at <= across.high:
            continue
        left = across(event.at)
        yield (
            f'<line class="swap" x1="{left:.1f}" x2="{left:.1f}" y1="{_PHASES[0]}" '
            f'y2="{_RATE[0] + _RATE[1]}" stroke-dasharray="3 3">'
            f"<title>{escape(swap_text(event))}</title></line>"
        )


def _marks(events: Sequence[Event], across: Axis) -> Iterator[str]:
    """Where a part of a recorded demonstration begins, in percent of its work."""
    for event in events:
        if event.name != MARK or not across.low <= event.at <= across.high:
            continue
        left, facts = across(event.at), event.facts
        yield (
            f'<line class="mark" x1="{left:.1f}" x2="{left:.1f}" y1="{_MARKS[0]}" '
            f'y2="{_MARKS[0] + _MARKS[1]}"/>'
        )
        yield (
            f'<text x="{left + 4:.1f}" y="{_MARKS[0] + 11}">{facts.get("percent")} %'
            f"<title>{escape(str(facts.get('title', '')))}</title></text>"
        )


def swap_text(event: Event) -> str:
    """One swap in words."""
    facts = event.facts
    cause = facts.get("cause") or {}
    return (
        f"{facts.get('from') or 'nothing'} → {facts.get('to')} in {facts.get('total_s', 0):.2f} s, "
        f"caused by {cause.get('client', 'nobody')}"
    )


def _y_axis(up: Axis, name: str, most: float, text: Callable[[float], str]) -> Iterator[str]:
    for share in (0.0, 0.5, 1.0):
        row = up(most * share)
        yield (
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{row:.1f}" y2="{row:.1f}" '
            'stroke="#888" stroke-width="0.4"/>'
        )
        yield (
            f'<text x="{_LEFT - 6}" y="{row + 4:.1f}" text-anchor="end">{text(most * share)}</text>'
        )
    yield f'<text x="{_LEFT}" y="{up(most) - 6:.1f}" font-weight="bold">{name}</text>'


def _time_axis(across: Axis) -> Iterator[str]:
    seconds = across.high - across.low
    step = next(
        (s for s in (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600) if seconds / s <= _MOST_MARKS),
        7200,
    )
    for number in range(int(seconds / step) + 1):
        left = across(across.low + number * step)
        minutes, rest = divmod(number * step, 60)
        yield (
            f'<text x="{left:.1f}" y="{_RATE[0] + _RATE[1] + 18}" text-anchor="middle">'
            f"{minutes}:{rest:02d}</text>"
        )
