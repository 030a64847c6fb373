"""What runs with a model that is larger than its memory come to. Pure.

Ratios are medians over pairs of the same turn, so that drift of the machine falls out.
"""

import statistics
from collections.abc import Callable, Collection, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from benchmarks.measure import MIB, Verdict
from benchmarks.proof.beyond_steps import Kind, Steps

KILLED = "ended with -9"
OVER_SWAP = {"dense": 5.0, "experts": 2.5, "context": 4.0}
"""What streaming has to be as fast as the OS's swapping, times."""
OVER_MAPPED = {"dense": 2.5, "experts": 4.0}
"""The same with weights that are pages of their files."""
SHARE_OVER, BYTES_OVER = 0.02, 32 * MIB
"""What a peak may be above its plan: the larger of both."""


class Way(Struct, frozen=True, kw_only=True):
    """How an arm computes. `readahead_kb`: of the disk meanwhile; 0 as the machine has it."""

    kind: Kind = "whole"
    is_limited: bool = False
    has_swap: bool = False
    rows: int = 1
    readahead_kb: int = 0


_BOTH = {
    "whole": Way(),
    "streamed": Way(kind="streamed", is_limited=True),
    "plain, swap": Way(is_limited=True, has_swap=True),
    "plain, no swap": Way(is_limited=True),
}
MAPPED, MAPPED_BEST = "plain, mmap", "plain, mmap, best read-ahead"
BEST_KB = {"dense": 512, "experts": 256}
"""The quickest of 64, 128, 256, 512, 1,024 and 8,192; advice to the system made each slower."""


def _mapped(family: str) -> dict[str, Way]:
    mapped = Way(kind="mapped", is_limited=True)
    return {MAPPED: mapped, MAPPED_BEST: replace(mapped, readahead_kb=BEST_KB[family])}


WAYS = {
    "dense": _BOTH
    | _mapped("dense")
    | {
        "whole, 4 rows": Way(rows=4),
        "streamed, 4 rows": Way(kind="streamed", is_limited=True, rows=4),
    },
    "experts": _BOTH | _mapped("experts") | {"all in slots": Way(kind="slots")},
    "context": _BOTH,
}


def with_whole(family: str, chosen: Collection[str]) -> list[str]:
    """The family's arms of these, in order, and the whole models that they are compared with."""
    ways = WAYS[family]
    rows = {ways[arm].rows for arm in chosen if arm in ways}
    whole = [Way(rows=count) for count in rows]
    return [arm for arm, way in ways.items() if arm in chosen or way in whole]


class Outcome(Struct, frozen=True, kw_only=True):
    """One run of one arm; `steps` is None when it did not complete, and `words` say why."""

    family: str
    arm: str
    number: int
    words: str
    steps: Steps | None

    @property
    def step_ms(self) -> float:
        """Mean of the counted steps."""
        assert self.steps is not None
        return 1000 * statistics.fmean(self.steps.step_s)


def verdicts(family: str, outcomes: Sequence[Outcome]) -> list[Verdict]:
    """The figures of one family that the runs can tell, each with its target."""
    arms = {arm: {one.number: one for one in outcomes if one.arm == arm} for arm in WAYS[family]}
    ours, plain = arms["streamed"], arms["plain, no swap"]
    is_dense = family == "dense"
    swapped = _pairs(arms["plain, swap"], ours, _times)
    found = [(f"{family} over swap, times as fast", swapped, OVER_SWAP[family], ">=")]
    if family in OVER_MAPPED:
        found += _over_mapped(family, arms, ours)
    if family == "context":
        found += [
            ("context, share of the device's bound", _each(ours, _share_of_bound), 0.7, ">="),
            (
                "context, a chunk of a prompt over whole",
                _pairs(ours, arms["whole"], _times_of_prompt),
                1.2,
                "<=",
            ),
        ]
    elif is_dense:
        found += [
            ("dense, share of the device's bound", _each(ours, _share_of_bound), 0.75, ">="),
            (
                "dense, 4 rows over whole",
                _pairs(arms["streamed, 4 rows"], arms["whole, 4 rows"], _times),
                1.15,
                "<=",
            ),
        ]
    else:
        found += [
            ("experts' law over measured", _pairs(arms["whole"], ours, _law), 0.8, ">="),
            (
                "all experts in slots over whole",
                _pairs(arms["all in slots"], arms["whole"], _times),
                1.15,
                "<=",
            ),
        ]
    made = [
        Verdict(name, statistics.median(values), target, sense=sense)
        for name, values, target, sense in found
        if values
    ]
    return [*made, *_held(family, outcomes, ours, plain)]


def _over_mapped(
    family: str, arms: dict[str, dict[int, Outcome]], ours: dict[int, Outcome]
) -> list[tuple[str, list[float], float, Literal["<=", ">="]]]:
    """Against the read-ahead that suits the model best, and against the machine's own."""
    target = OVER_MAPPED[family]
    named = ((MAPPED_BEST, "over mmap"), (MAPPED, "over mmap with the machine's read-ahead"))
    return [
        (f"{family} {words}, times as fast", _pairs(arms[arm], ours, _times), target, ">=")
        for arm, words in named
    ]


def _held(
    family: str,
    outcomes: Sequence[Outcome],
    ours: dict[int, Outcome],
    plain: dict[int, Outcome],
) -> list[Verdict]:
    """What must hold in every run."""
    planned = [one.steps for one in outcomes if one.steps and one.steps.plan_bytes]
    made = []
    if planned:
        over = max(map(over_plan, planned))
        made.append(Verdict(f"{family}: peak above plan, of what is allowed", over, 1.0))
    if ours:
        done = statistics.fmean(one.steps is not None for one in ours.values())
        made.append(Verdict(f"{family}: completes without swap", done, 1.0, sense=">="))
    if plain:
        killed = statistics.fmean(one.words.startswith(KILLED) for one in plain.values())
        made.append(Verdict(f"{family}: plain killed without swap", killed, 1.0, sense=">="))
    made.append(Verdict(f"{family}: logits equal", equal_share(family, outcomes), 1.0, sense=">="))
    return made


def over_plan(steps: Steps) -> float:
    """How much of what a peak may be above its plan it is; negative below the plan."""
    allowed = max(SHARE_OVER * steps.plan_bytes, BYTES_OVER)
    return (steps.peak_bytes - steps.plan_bytes) / allowed


def equal_share(family: str, outcomes: Sequence[Outcome]) -> float:
    """Of completed runs, those whose logits are all the whole model's of as many rows."""
    expected = {
        WAYS[family][one.arm].rows: one.steps.digests
        for one in outcomes
        if one.steps and WAYS[family][one.arm] == Way(rows=WAYS[family][one.arm].rows)
    }
    compared = [
        one.steps.digests == expected.get(WAYS[family][one.arm].rows)
        for one in outcomes
        if one.steps
    ]
    return statistics.fmean(compared) if compared else 0.0


def row_of(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Cells of an arm's row: completed, ms a step, seconds, MiB, MB a step, GB/s, hits."""
    steps = [one.steps for one in outcomes if one.steps]
    done = f"{len(steps)} of {len(outcomes)}"
    if not steps:
        return (done, *("-",) * 8)
    ms = statistics.median(one.step_ms for one in outcomes if one.steps)
    first = steps[0]

    def middle(of: Callable[[Steps], float]) -> float:
        return statistics.median(map(of, steps))

    return (
        done,
        f"{ms:.0f} ms",
        f"{middle(lambda one: one.prompt_s):.1f} s",
        f"{middle(lambda one: one.load_s):.1f} s",
        f"{middle(lambda one: one.peak_bytes) / MIB:.0f}",
        f"{middle(lambda one: one.plan_bytes) / MIB:.0f}" if first.plan_bytes else "",
        f"{middle(lambda one: one.read_bytes) / 1e6:.0f} MB"
        if first.plan_bytes or first.read_bytes
        else "",
        f"{middle(lambda one: one.rate) / 1e9:.2f}" if first.rate else "",
        f"{middle(lambda one: one.hits):.2f}" if first.hits else "",
    )


def _pairs(
    over: dict[int, Outcome], under: dict[int, Outcome], of: Callable[[Outcome, Outcome], float]
) -> list[float]:
    """Of runs of the same turn that both completed."""
    both = [(over[number], under[number]) for number in over if number in under]
    return [of(one, other) for one, other in both if one.steps and other.steps]


def _each(of: dict[int, Outcome], figure: Callable[[Steps], float]) -> list[float]:
    return [figure(one.steps) for one in of.values() if one.steps]


def _times(over: Outcome, under: Outcome) -> float:
    return over.step_ms / under.step_ms


def _times_of_prompt(over: Outcome, under: Outcome) -> float:
    assert over.steps is not None
    assert under.steps is not None
    return over.steps.prompt_s / under.steps.prompt_s


def _share_of_bound(steps: Steps) -> float:
    """What reading a step's bytes takes at the device's rate, over what the step takes."""
    return steps.read_bytes / steps.rate / statistics.fmean(steps.step_s)


def _law(whole: Outcome, streamed: Outcome) -> float:
    """What the whole model takes and reading what was missed, over what the step takes."""
    assert streamed.steps is not None
    missed_ms = 1000 * streamed.steps.read_bytes / streamed.steps.rate
    return (whole.step_ms + missed_ms) / streamed.step_ms
