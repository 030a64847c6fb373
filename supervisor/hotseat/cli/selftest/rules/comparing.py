"""Two runs side by side: the middle of each figure that either has."""

from msgspec import Struct

from hotseat.cli.selftest.rules.results import Report, Result, quantile


class Pair(Struct, frozen=True, kw_only=True):
    """A figure in both runs; None where one has it not. `ratio`: the second over the first."""

    entry: str
    figure: str
    first: float | None
    second: float | None
    ratio: float | None
    verdicts: str = ""
    """Where the two differ."""


def compare(first: Report, second: Report) -> tuple[Pair, ...]:
    """In the order of the first run, then what only the second one has."""
    ours = {result.name: result for result in first.results}
    theirs = {result.name: result for result in second.results}
    found: list[Pair] = []
    for name in dict.fromkeys((*ours, *theirs)):
        found += _pairs(name, ours.get(name), theirs.get(name))
    return tuple(found)


def _pairs(entry: str, one: Result | None, other: Result | None) -> list[Pair]:
    left, right = _medians(one), _medians(other)
    told = [result.verdict if result else "none" for result in (one, other)]
    verdicts = " / ".join(told) if told[0] != told[1] else ""
    names = list(dict.fromkeys((*left, *right))) or [""]
    return [
        Pair(
            entry=entry,
            figure=name,
            first=left.get(name),
            second=right.get(name),
            ratio=_ratio(left.get(name), right.get(name)),
            verdicts=verdicts,
        )
        for name in names
    ]


def _ratio(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None or first == 0 else second / first


def _medians(result: Result | None) -> dict[str, float]:
    if result is None:
        return {}
    return {one.name: quantile(one.samples, 0.5) for one in result.figures if one.samples}
