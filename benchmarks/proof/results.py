"""Raw figures of runs: one JSON line each; which runs are still to be made."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from benchmarks.raw_lines import read_lines

REFERENCE_EVERY = 3
"""Rounds to a run without a limit, of each kind of arm."""


class TurnFigures(Struct, frozen=True, kw_only=True):
    """One turn; each one needs another model than the turn before. Bytes and seconds."""

    round: int
    model: str
    prompt: int
    restored: int
    first_s: float
    rate: float
    swap_in: int
    major_faults: int
    tokens: tuple[int, ...]


class Sums(Struct, frozen=True, kw_only=True):
    """Over a whole run, as `groups.Counters` has them."""

    major_faults: int = 0
    swap_in: int = 0
    swap_out: int = 0
    refault_file: int = 0
    refault_anon: int = 0
    psi_some_s: float = 0.0
    psi_full_s: float = 0.0
    cpu_s: float = 0.0
    disk_written: int = 0
    oom_kills: int = 0


class Beside(Struct, frozen=True, kw_only=True):
    """Milliseconds of the bystander's tasks; `alone` are those before the arm began."""

    count: int = 0
    p50: float = 0.0
    p99: float = 0.0
    most: float = 0.0
    alone_p50: float = 0.0
    alone_p99: float = 0.0
    was_killed: bool = False


class Run(Struct, frozen=True, kw_only=True):
    """One run of one arm. `ratio` of the limit to the largest model, None without a limit."""

    arm: str
    ratio: float | None
    number: int
    size_mb: int
    rounds: int
    outcome: str
    limit_bytes: int | None
    swap_bytes: int
    largest_bytes: int
    turns: tuple[TurnFigures, ...]
    wall_s: float
    start_s: float
    sums: Sums
    peak_bytes: int
    stored_bytes: int
    beside: Beside

    @property
    def is_completed(self) -> bool:
        """True when every turn was answered."""
        return self.outcome == COMPLETED


class Planned(Struct, frozen=True, kw_only=True):
    """A run to be made."""

    arm: str
    ratio: float | None
    number: int


COMPLETED = "completed"


def reference_of(arm: str) -> str:
    """The arm that is run once without a limit, for tokens and speed to be compared with."""
    return "hotseat" if arm.startswith("hotseat") else "kept"


def planned(
    arms: Sequence[str], ratios: Sequence[float], n: int, done: Sequence[Run]
) -> list[Planned]:
    """What is left to do: references first, then arms in turns, each round begun by another arm.

    References again with every third round: a machine that is slower for a while is so for them.
    """
    references = dict.fromkeys(map(reference_of, arms))
    wanted: list[Planned] = []
    for number in range(n):
        if number % REFERENCE_EVERY == 0:
            wanted += [Planned(arm=arm, ratio=None, number=number) for arm in references]
        for ratio in ratios:
            shift = number % len(arms)
            turned = (*arms[shift:], *arms[:shift])
            wanted += [Planned(arm=arm, ratio=ratio, number=number) for arm in turned]
    made = {(run.arm, run.ratio, run.number) for run in done}
    return [one for one in wanted if (one.arm, one.ratio, one.number) not in made]


def begun_in_time(
    todo: Sequence[Planned], budget_s: float, now: Callable[[], float]
) -> Iterator[Planned]:
    """Those that would end within the budget if they took as long as the longest one so far.

    Whoever takes them makes each one before the next is taken; `now`: seconds of some clock.
    """
    began, longest_s = now(), 0.0
    for one in todo:
        start = now()
        if start - began + longest_s > budget_s:
            return
        yield one
        longest_s = max(longest_s, now() - start)


def read_runs(path: Path, size_mb: int, rounds: int) -> list[Run]:
    """Those of a file that were made with the same models and script; cut lines are left out."""
    return [run for run in read_lines(path, Run) if (run.size_mb, run.rounds) == (size_mb, rounds)]
