"""How findings look: one line each, the remedy below."""

import os
import sys
from collections.abc import Sequence
from typing import Final

from hotseat.cli.terminal.findings import Finding, Level
from hotseat.cli.terminal.output import printable

_MARKS: Final[dict[Level, tuple[str, str]]] = {
    "ok": ("ok", "32"),
    "warning": ("look", "33"),
    "failed": ("bad", "31"),
}


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
