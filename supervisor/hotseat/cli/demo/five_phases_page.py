"""What is shown of the five phases: a table here, sections of the page. Measures nothing."""

from collections.abc import Sequence
from html import escape
from typing import Final

from rich import box
from rich.console import JustifyMethod
from rich.table import Table

from hotseat.cli.demo.five_phases import PhaseFigures, SwapSummary
from hotseat.cli.demo.story import Story
from hotseat.protocol.limits import GIB, MIB

_HEADS: Final = ("%", "phase", "swap", "worker", "free", "restored", "computed", "OS", "KV")
_TITLE: Final = "Phases (swap: s; most of the worker, least free: GiB; OS swap, KV: MiB)"
BESIDE: Final = (
    "beside them, as published before hotseat: 5 to 10 s a swap and 30 to 60 s with the operating"
    " system's paging (the project's notes), 15 to 30 s within one process and 60 s and more by"
    " process (the decision it began with); conditions of both unknown"
)


def phase_table(phases: Sequence[PhaseFigures]) -> Table:
    """One row a phase; 80 columns are enough."""
    table = Table(
        title=_TITLE,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading in _HEADS:
        justify: JustifyMethod = "left" if heading == "phase" else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    for phase in phases:
        table.add_row(*_cells(phase))
    return table


def summary_lines(swaps: Sequence[SwapSummary]) -> list[str]:
    """Each direction in a line, then what was published before."""
    lines = [
        f"{swap.origin or 'nothing'} → {swap.target}: {_count(swap.swaps)},"
        f" median {swap.median_s:.2f} s, longest {swap.max_s:.2f} s"
        for swap in swaps
    ]
    return [*lines, BESIDE]


def sections(
    phases: Sequence[PhaseFigures], story: Story, swaps: Sequence[SwapSummary]
) -> tuple[str, ...]:
    """HTML of the phases, the turns and the swaps by direction."""
    turns = [
        (
            turn.agent,
            turn.model,
            str(turn.number),
            str(turn.done.usage.prompt_tokens),
            str(turn.done.usage.restored_tokens),
            str(turn.done.usage.computed_tokens),
            f"{turn.done.timing.swap_s:.2f}",
            f"{turn.first_token_s:.2f}",
        )
        for turn in story.turns
    ]
    turn_heads = ("agent", "model", "turn", "prompt", "restored", "computed", "swap s", "first s")
    return (
        f"<h2>{_TITLE}</h2>" + _html(_HEADS, [_cells(phase) for phase in phases], words=2),
        "<h2>Turns</h2>" + _html(turn_heads, turns, words=2),
        "<h2>Swaps by direction</h2>"
        + "".join(f"<p>{escape(line)}</p>" for line in summary_lines(swaps)),
    )


def _count(swaps: int) -> str:
    return "1 swap" if swaps == 1 else f"{swaps} swaps"


def _cells(phase: PhaseFigures) -> tuple[str, ...]:
    moved = phase.os_swapped_in_bytes + phase.os_swapped_out_bytes
    return (
        str(phase.percent),
        phase.title,
        "" if phase.swap_s is None else f"{phase.swap_s:.2f}",
        f"{phase.peak_worker_bytes / GIB:.2f}",
        f"{phase.least_free_bytes / GIB:.1f}",
        str(phase.restored_tokens),
        str(phase.computed_tokens),
        f"{moved / MIB:.1f}",
        f"{phase.offloaded_bytes / MIB:.1f}",
    )


def _html(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> str:
    """A table whose first columns hold words, the others numbers."""
    head = "".join(f"<th>{escape(name)}" for name in heads)
    body = "".join(f"<tr>{_row(cells, words)}</tr>" for cells in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _row(cells: Sequence[str], words: int) -> str:
    left = "".join(f"<td>{escape(cell)}</td>" for cell in cells[:words])
    return left + "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells[words:])
