"""What a check found: its name, how bad it is, what is so, and what to do about it. Data only."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

Level = Literal["ok", "warning", "failed"]


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
