"""What a check found: its name, how bad it is, what is so, what to do about it; and how that looks.

Must not know what is checked.
"""

import os
import sys
from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from hotseat.cli.terminal.output import printable

Level = Literal["ok", "warning", "failed"]
_MARKS: Final[dict[Level, tuple[str, str]]] = {
    "ok": ("ok", "32"),
    "warning": ("look", "33"),
    "failed": ("bad", "31"),
}


class Finding(Struct, frozen=True, kw_only=True):
    """One result. `remedy` is empty where nothing has to be done."""

    name: str
    level: Level
    text: str
    remedy: str = ""


def good(name: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(name=name, level="ok", text=text)


def doubtful(name: str, text: str, remedy: str) -> Finding:
    """Works, but will hurt one day."""
    return Finding(name=name, level="warning", text=text, remedy=remedy)


def bad(name: str, text: str, remedy: str) -> Finding:
    """Does not work."""
    return Finding(name=name, level="failed", text=text, remedy=remedy)


def worst(findings: Sequence[Finding]) -> Level:
    """The level of the worst one."""
    levels = {finding.level for finding in findings}
    return "failed" if "failed" in levels else "warning" if "warning" in levels else "ok"


def render_findings(findings: Sequence[Finding]) -> None:
    """Aligned by name; colours only on a terminal that has them and nobody forbade."""
    has_colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = max((len(finding.name) for finding in findings), default=0)
    for finding in findings:
        word, colour = _MARKS[finding.level]
        mark = f"{word:<4}"
        if has_colours:
            mark = f"\x1b[{colour}m{mark}\x1b[0m"
        print(f"{mark}  {finding.name:<{width}}  {printable(finding.text)}")
        if finding.remedy:
            print(f"      {'':<{width}}  -> {printable(finding.remedy)}")
