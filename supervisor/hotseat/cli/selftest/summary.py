"""A run as a table for a person, and two of them side by side. Runs nothing."""

from pathlib import Path
from typing import Any, Final

import msgspec

from hotseat.cli.selftest.file import read_report
from hotseat.cli.selftest.rules.comparing import Pair, compare
from hotseat.cli.selftest.rules.results import Report, Result, quantile
from hotseat.cli.terminal.output import print_table

_SHOWN: Final = 2
_HEADLINES: Final[dict[str, tuple[str, ...]]] = {
    "machine": ("memory_bytes", "disk_free_bytes"),
    "memory": ("available_bytes", "psutil_available_bytes"),
    "footprint": ("touched_bytes", "outside_held_bytes"),
    "syncs": ("fsync_file_ms", "full_fsync_file_ms"),
    "store": ("write_mib_per_s", "read_mib_per_s"),
    "kernels": ("first_token_ms", "second_token_ms"),
    "speed": ("mlx_lm_decode_tokens_per_s", "engine_decode_tokens_per_s"),
    "exactness": ("compared_tokens", "restored_from_disk_tokens"),
    "swaps": ("total_process_s", "total_in_process_s"),
    "processes": ("hello_s", "kill_noticed_ms"),
    "churn": ("requests", "tokens"),
}
"""Figures that say most of an entry; of others the first ones are shown."""


def render_run(run: tuple[Path, Report]) -> None:
    """A line an entry, and where the rest is."""
    path, report = run
    rows = [
        (result.name, result.verdict, f"{result.seconds:.1f}", result.reason or _headline(result))
        for result in report.results
    ]
    print_table(("entry", "verdict", "s ", "what"), rows)
    print(f"{path}: every number; it names no user, no machine, no path and no prompt")


def plain_run(run: tuple[Path, Report]) -> dict[str, Any]:
    """The same for `--json`."""
    path, report = run
    return {"file": str(path), "good": report.is_good, "report": msgspec.to_builtins(report)}


def _headline(result: Result) -> str:
    samples = {figure.name: figure.samples for figure in result.figures if figure.samples}
    named = [name for name in _HEADLINES.get(result.name, ()) if name in samples]
    shown = (named or list(samples))[:_SHOWN]
    return ", ".join(f"{name} {quantile(samples[name], 0.5):.4g}" for name in shown)


def read_pairs(first: Path, second: Path) -> tuple[Pair, ...]:
    """Two files, figure by figure."""
    return compare(read_report(first), read_report(second))


def render_pairs(pairs: tuple[Pair, ...]) -> None:
    """Medians, and how the second compares to the first."""
    rows = [
        (
            pair.entry,
            pair.figure,
            *("" if value is None else f"{value:.4g}" for value in (pair.first, pair.second)),
            "" if pair.ratio is None else f"{pair.ratio:.3f}",
            pair.verdicts,
        )
        for pair in pairs
    ]
    print_table(("entry", "figure", "A ", "B ", "B/A ", "verdicts"), rows)
