"""Tables and verdicts from raw runs. Pure, except for printing."""

import statistics
from collections.abc import Iterable, Sequence

from msgspec import Struct
from rich.table import Table

from benchmarks.measure import MIB, Verdict, console
from benchmarks.proof.course import quantile
from benchmarks.proof.results import Run, reference_of

FIRST_SHARE, LONGEST_SHARE, SPREAD, SWAP_SHARE, DECODE_SHARE = 0.25, 0.2, 2.5, 0.01, 0.95
SEEN_HEADS = ("arm", "limit", "done", "first", "p95", "max", "return", "tok/s", "equal")
COST_TITLE = "the same runs, medians of a run: MiB, seconds; a bystander's milliseconds"
COST_HEADS = (
    *("arm", "limit", "faults", "in", "out", "refaults", "stalled", "disk", "KV", "CPU"),
    *("p50", "p99"),
)


class Row(Struct, frozen=True, kw_only=True):
    """What runs of one arm under one limit come to. Seconds, tokens a second, bytes, ms.

    Medians over all turns of all runs; `return_s` of turns whose context was there before. `equal`
    is the share of completed runs with the reference's tokens, None without a reference.
    """

    arm: str
    ratio: float | None
    runs: int
    completed: int
    turns: int
    first_s: float
    first_p95_s: float
    first_most_s: float
    return_s: float
    rate: float
    major_faults: float
    swap_in: float
    swap_out: float
    refaults: float
    psi_full_s: float
    written: float
    stored: float
    cpu_s: float
    beside_p50: float
    beside_p99: float
    equal: float | None
    failure: str


def row_of(arm: str, ratio: float | None, runs: Sequence[Run], references: Sequence[Run]) -> Row:
    """The row of these runs, which are of one arm and ratio."""
    turns = [turn for run in runs for turn in run.turns]
    firsts = [turn.first_s for turn in turns]
    failures = [run.outcome for run in runs if not run.is_completed]
    return Row(
        arm=arm,
        ratio=ratio,
        runs=len(runs),
        completed=sum(run.is_completed for run in runs),
        turns=len(turns),
        first_s=quantile(firsts, 0.5),
        first_p95_s=quantile(firsts, 0.95),
        first_most_s=max(firsts, default=0.0),
        return_s=quantile([turn.first_s for turn in turns if turn.round], 0.5),
        rate=quantile([turn.rate for turn in turns if turn.rate], 0.5),
        major_faults=_median(run.sums.major_faults for run in runs),
        swap_in=_median(run.sums.swap_in for run in runs),
        swap_out=_median(run.sums.swap_out for run in runs),
        refaults=_median(run.sums.refault_file + run.sums.refault_anon for run in runs),
        psi_full_s=_median(run.sums.psi_full_s for run in runs),
        written=_median(run.sums.disk_written for run in runs),
        stored=_median(run.stored_bytes for run in runs),
        cpu_s=_median(run.sums.cpu_s for run in runs),
        beside_p50=_median(run.beside.p50 for run in runs),
        beside_p99=_median(run.beside.p99 for run in runs),
        equal=_equal(runs, references),
        failure=failures[0] if failures else "",
    )


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """A row for each arm and ratio, references last, otherwise large limits first."""
    keys = sorted(
        {(run.arm, run.ratio) for run in runs},
        key=lambda key: (key[1] is None, -(key[1] or 0), key[0]),
    )
    references = [run for run in runs if run.ratio is None]
    return [
        row_of(arm, ratio, [r for r in runs if (r.arm, r.ratio) == (arm, ratio)], references)
        for arm, ratio in keys
    ]


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """Two tables: what an agent sees, and what the machine did for it; then why runs failed."""
    seen = Table(title=title, title_justify="left", title_style="bold")
    for name in SEEN_HEADS:
        seen.add_column(name, justify="left" if name == "arm" else "right")
    cost = Table(
        title=COST_TITLE,
        title_justify="left",
        title_style="bold",
    )
    for name in COST_HEADS:
        cost.add_column(name, justify="left" if name == "arm" else "right")
    for row in rows:
        seen.add_row(*seen_cells(row))
        cost.add_row(*cost_cells(row))
    console.print(seen)
    console.print(cost)
    for row in rows:
        if row.failure:
            console.print(f"{row.arm}, limit {limit_text(row)}: {row.failure}", soft_wrap=True)


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Control against chaos under one limit, as far as both were run.

    A missing arm has none, and one that never completed none about time and swap.
    """
    found = {row.arm: row for row in rows if row.ratio is not None}
    free = {row.arm: row for row in rows if row.ratio is None}
    ours, theirs = found.get("hotseat"), found.get("kept")
    made = []
    if ours and theirs and ours.completed and theirs.turns:
        made += [
            Verdict("first token, median over kept's", ours.first_s / theirs.first_s, FIRST_SHARE),
            Verdict(
                "first token, max over kept's",
                ours.first_most_s / theirs.first_most_s,
                LONGEST_SHARE,
            ),
        ]
        if theirs.swap_in:
            share = (ours.swap_in + ours.swap_out) / (theirs.swap_in + theirs.swap_out)
            made.append(Verdict("OS swap over kept's", share, SWAP_SHARE))
    for row in (ours, found.get("hotseat-no-swap")):
        if row is None:
            continue
        share = row.completed / row.runs
        made.append(Verdict(f"{row.arm}: completed", share, 1.0, sense=">="))
        if row.equal is not None:
            made.append(Verdict(f"{row.arm}: tokens equal", row.equal, 1.0, sense=">="))
    if ours and ours.completed:
        made.append(
            Verdict("first token, p95 over median", ours.first_p95_s / ours.first_s, SPREAD)
        )
        if "hotseat" in free and free["hotseat"].rate:
            share = ours.rate / free["hotseat"].rate
            made.append(Verdict("decode over unlimited", share, DECODE_SHARE, sense=">="))
    return made


def limit_text(row: Row) -> str:
    """The limit as it is printed."""
    return "none" if row.ratio is None else f"{row.ratio:g} x"


def seen_cells(row: Row) -> tuple[str, ...]:
    """What an agent sees, under `SEEN_HEADS`."""
    begun = (row.arm, limit_text(row), f"{row.completed} of {row.runs}")
    if not row.turns:
        return (*begun, *("-",) * 6)
    equal = "" if row.equal is None else f"{100 * row.equal:.0f} %"
    times = (row.first_s, row.first_p95_s, row.first_most_s, row.return_s)
    # No run may have come as far as a return.
    told = (f"{time:.2f} s" if time else "-" for time in times)
    return (*begun, *told, f"{row.rate:.1f}", equal)


def cost_cells(row: Row) -> tuple[str, ...]:
    """What the machine did for it, under `COST_HEADS`."""
    sizes = (row.swap_in, row.swap_out, row.refaults)
    return (
        row.arm,
        limit_text(row),
        f"{row.major_faults:.0f}",
        *(f"{size / MIB:.0f}" for size in sizes),
        f"{row.psi_full_s:.1f}",
        f"{row.written / MIB:.0f}",
        f"{row.stored / MIB:.0f}",
        f"{row.cpu_s:.0f}",
        f"{row.beside_p50:.1f}",
        f"{row.beside_p99:.0f}",
    )


def _equal(runs: Sequence[Run], references: Sequence[Run]) -> float | None:
    """Tokens of completed runs against those of the run of the same kind without a limit."""
    completed = [run for run in runs if run.is_completed]
    if not completed:
        return None
    wanted = reference_of(completed[0].arm)
    known = [run for run in references if run.arm == wanted and run.is_completed]
    if not known:
        return None
    tokens = [turn.tokens for turn in known[0].turns]
    return statistics.fmean([turn.tokens for turn in run.turns] == tokens for run in completed)


def _median(values: Iterable[float]) -> float:
    return quantile(list(values), 0.5)
