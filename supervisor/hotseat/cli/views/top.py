"""What `hotseat top` shows: one screen made of samples, requests and swaps. Reads no socket.

Every screen fits into 80 columns and 24 lines; colours only repeat what letters say.
"""

import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from msgspec import Struct, field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hotseat.cli.terminal.memory_bars import CLASSES, shares
from hotseat.cli.terminal.output import count, duration, printable, size
from hotseat.cli.views.streamed import streamed_line
from hotseat.protocol.telemetry import Sample
from hotseat.protocol.views import StatusView, WhyView

_HISTORY: Final = 600
_REQUESTS: Final = 3
_SWAPS: Final = 5
_SPARKS: Final = "▁▂▃▄▅▆▇█"
_PRESSURE: Final = {1: "normal", 2: "warning", 4: "critical"}
_WINDOW_S: Final = 10.0
_ROWS: Final = 5
_FINE: Final = 8
"""Cells of a column per row that is shown."""


class TopState(Struct, kw_only=True):
    """All that the screen is made of."""

    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    status: StatusView | None = None
    swaps: Sequence[WhyView] = ()
    is_lost: bool = False

    def add(self, sample: Sample) -> None:
        """A newer sample; one that came before is passed over."""
        if not self.samples or sample.at > self.samples[-1].at:
            self.samples.append(sample)


def render_top(state: TopState, width: int, *, blocks: bool = True) -> RenderableType:
    """The screen; `blocks` False draws the stack with letters."""
    if not state.samples:
        return Text("waiting for the first sample …")
    sample = state.samples[-1]
    return Group(
        *_seat_lines(state, sample),
        _memory_bar(sample, width, blocks=blocks),
        memory_history(state.samples, width, blocks=blocks),
        _legend(sample),
        _flow_table(state),
        _queue(state, sample, width),
        _swap_table(state),
        Text("q or Ctrl-C ends" + ("; the daemon is gone" if state.is_lost else ""), style="dim"),
    )


def _seat_lines(state: TopState, sample: Sample) -> list[Text]:
    """A second line for a model that does not fit whole, which is why it is slow."""
    held = None if state.status is None else state.status.streamed
    more = [Text(streamed_line(held), style="dim")] if held and sample.phase == "ready" else []
    return [_seat_line(state, sample), *more]


def _seat_line(state: TopState, sample: Sample) -> Text:
    line = Text.assemble(("hotseat  ", "bold"), (sample.phase, "bold yellow"), "  ")
    line.append(printable(sample.model or "no model"), style="bold")
    if sample.swap_to and sample.swap_to != sample.model:
        line.append(f" → {printable(sample.swap_to)}")
    if sample.load_percent is not None:
        line.append(f"  {sample.load_percent:.0f} %")
    status = state.status
    if status is not None and sample.phase == "ready":
        line.append(f"  seated for {duration(status.seated_for_s)}", style="dim")
    line.append(f"  epoch {sample.epoch}", style="dim")
    line.truncate(80)
    return line


def _memory_bar(sample: Sample, width: int, *, blocks: bool) -> Text:
    bar = Text()
    for shade, cells in shares(sample, max(20, width)):
        is_free = shade.attribute == "free_bytes"
        bar.append(
            ("░" if is_free else "█") * cells if blocks else shade.letter * cells, shade.style
        )
    return bar


def memory_history(samples: Sequence[Sample], width: int, *, blocks: bool) -> Text:
    """The last minute or so as a stack that grows to the right: a column a second."""
    by_second = {int(sample.at): sample for sample in samples}
    columns = [
        [shade for shade, cells in shares(sample, _ROWS * _FINE) for _ in range(cells)]
        for sample in list(by_second.values())[-width:]
    ]
    picture = Text()
    for row in reversed(range(_ROWS)):
        for column in columns:
            shade = column[row * _FINE + _FINE // 2]
            is_free = shade.attribute == "free_bytes"
            picture.append(("·" if is_free else "█") if blocks else shade.letter, shade.style)
        picture.append("\n" if row else "")
    return picture


def _legend(sample: Sample) -> Table:
    table = Table.grid(padding=(0, 2))
    for start in (0, 3):
        cells = []
        for shade in CLASSES[start : start + 3]:
            mark = Text.assemble((f"{shade.letter} ", f"bold {shade.style}"), f"{shade.name:<8}")
            cells.append(mark.append(f"{size(getattr(sample, shade.attribute)):>10}"))
        table.add_row(*cells)
    pressure = _PRESSURE.get(sample.pressure or 0, "")
    table.add_row(
        Text(f"M active {size(sample.active_bytes):>11}"),
        Text(f"  cache   {size(sample.cache_bytes):>10}"),
        Text(f"  peak    {size(sample.peak_bytes):>10}"),
        Text(f"pressure {pressure}" if pressure else ""),
    )
    return table


def _flow_table(state: TopState) -> Table:
    recent = [s for s in state.samples if s.at > state.samples[-1].at - _WINDOW_S]
    table = Table.grid(padding=(0, 2))
    table.add_row(
        f"tokens/s {_mean([s.tokens_per_s for s in recent[-10:]]):7.1f}",
        Text(_spark([s.tokens_per_s for s in recent]), style="green"),
        f"KV on SSD {size(state.samples[-1].cold_kv_bytes)}",
    )
    table.add_row(
        "offload  " + _sum(recent, "offloaded_bytes"),
        Text(_spark([float(s.offloaded_bytes) for s in recent]), style="blue"),
        f"OS swap in {_sum(recent, 'os_swapped_in_bytes')}"
        f"  out {_sum(recent, 'os_swapped_out_bytes')}  in 10 s",
    )
    return table


def _queue(state: TopState, sample: Sample, width: int) -> RenderableType:
    head = Text.assemble(
        f"requests  {sample.running} running, {sample.waiting} waiting",
        f" ({sample.suspended} suspended)" if sample.suspended else "",
        f"    sessions  {sample.sessions_live} live, {sample.sessions_cold} cold",
    )
    lines: list[RenderableType] = [head]
    requests = state.status.requests if state.status else ()
    for request in requests[:_REQUESTS]:
        line = Text(
            f"  {request.state:<9} {printable(request.model):<18} {printable(request.client):<20} "
            f"{count(request.completion_tokens):>6} tok  {duration(request.age_s)}"
        )
        line.truncate(width)
        lines.append(line)
    if len(requests) > _REQUESTS:
        lines.append(Text(f"  … and {len(requests) - _REQUESTS} more", style="dim"))
    return Group(*lines)


def _swap_table(state: TopState) -> RenderableType:
    if not state.swaps:
        return Text("no swaps yet", style="dim")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, most in (("swapped at", 10), ("from", 16), ("to", 16), ("took", 9), ("cause", 20)):
        table.add_column(name, no_wrap=True, max_width=most, overflow="ellipsis")
    for view in state.swaps[:_SWAPS]:
        took = f"{view.total_s:.2f} s" if view.total_s is not None else view.outcome
        table.add_row(
            time.strftime("%H:%M:%S", time.localtime(view.at)),
            Text(printable(view.origin or "-")),
            Text(printable(view.target or "-")),
            took,
            Text(printable(view.client)),
        )
    return table


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _sum(samples: Sequence[Sample], attribute: str) -> str:
    return size(sum(getattr(sample, attribute) for sample in samples))


def _spark(values: Sequence[float], cells: int = 20) -> str:
    """The last values as a row of little bars; nothing where all are zero."""
    shown = list(values)[-cells:]
    top = max(shown, default=0.0)
    if top <= 0:
        return "·" * cells
    last = len(_SPARKS) - 1
    return "".join(_SPARKS[round(value / top * last)] for value in shown).rjust(cells, "·")
