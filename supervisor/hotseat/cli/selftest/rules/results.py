"""What a run came to, as its file has it. Must not know how anything was measured."""

from typing import Final, Literal

from msgspec import Struct

from hotseat.protocol.selftest import Absent, Fact, Figure, Measured

FORMAT: Final = 1
Verdict = Literal[
    "ok",
    "slow",
    "wrong",
    "unknown",
    "failed",
    "timed out",
    "not on this system",
    "skipped",
    "running",
    "interrupted",
]
BAD: Final = frozenset({"wrong", "failed", "timed out"})
State = Literal["running", "finished", "interrupted"]


class Judged(Struct, frozen=True):
    """A verdict and, unless all is well, why."""

    verdict: Verdict
    reason: str = ""


class Result(Struct, frozen=True, kw_only=True):
    """An entry of the file. `figures` hold every sample; `absent` is what this system has not."""

    name: str
    measures: str
    expected: str
    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0
    figures: tuple[Figure, ...] = ()
    facts: tuple[Fact, ...] = ()
    absent: tuple[Absent, ...] = ()


class Report(Struct, frozen=True, kw_only=True):
    """The file. `heartbeat_at`: Unix time at which it was written last."""

    selftest: int = FORMAT
    hotseat: str
    began_at: str
    scale: str
    state: State
    heartbeat_at: float
    results: tuple[Result, ...] = ()

    @property
    def is_good(self) -> bool:
        """Nothing is wrong, failed or timed out."""
        return not any(result.verdict in BAD for result in self.results)


def merged(parts: tuple[Measured, ...]) -> Measured:
    """Samples of one name behind each other; of a fact that is told again, the last one."""
    figures: dict[str, tuple[float, ...]] = {}
    for part in parts:
        for one in part.figures:
            figures[one.name] = figures.get(one.name, ()) + one.samples
    return Measured(
        figures=tuple(Figure(name=name, samples=found) for name, found in figures.items()),
        facts=tuple({fact.name: fact for part in parts for fact in part.facts}.values()),
        absent=tuple({one.name: one for part in parts for one in part.absent}.values()),
        skipped=next((part.skipped for part in parts if part.skipped), ""),
        is_last=bool(parts) and parts[-1].is_last,
    )


def quantile(samples: tuple[float, ...], share: float) -> float:
    """The smallest sample that is not below so large a share of all."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
