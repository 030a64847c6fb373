"""The five phases: which agent works when, and the figures of each phase. Pure.

Phases and their places in the work are those of the project's first notes: a small model begins
at 5 %, a large one takes the seat at 25 %, has it at 50 %, the small one is back at 70 %, the work
ends after 90 %.
"""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final, Literal

from msgspec import Struct

from hotseat.cli.demo.story import Agent, TurnResult
from hotseat.protocol.replies import Event, SwapReport
from hotseat.protocol.telemetry import Sample

TURN_PERCENT: Final = 5
"""Share of the work that a turn is; what comes before the first one is as much: the baseline."""
TURNS: Final = 100 // TURN_PERCENT - 1
Role = Literal["small", "large"]


class Phase(Struct, frozen=True, kw_only=True):
    """Where in the work it begins, in percent, and who has the seat."""

    percent: int
    title: str
    role: Role


BASELINE: Final = Phase(percent=0, title="empty seat", role="small")
PHASES: Final = (
    Phase(percent=5, title="small model works", role="small"),
    Phase(percent=25, title="large one takes seat", role="large"),
    Phase(percent=50, title="large one stays", role="large"),
    Phase(percent=70, title="small one is back", role="small"),
    Phase(percent=90, title="last turns", role="small"),
)
_SPOKEN: Final = {
    "planner": (
        "Name three things to pack for a day at the sea.",
        "Which of them is the most important?",
        "Why?",
        "Say it in five words.",
        "Now as a question.",
    ),
    "critic": (
        "What makes a good title for a short story?",
        "Give me one about a lighthouse.",
        "Make it shorter.",
        "Is it better now?",
        "Then keep it, and say why.",
    ),
    "writer": (
        "Begin a story about a lighthouse that was dark for years.",
        "Who comes to light it?",
        "What does the village say?",
        "Let it rain.",
        "End it.",
    ),
    "editor": (
        "What should an editor look for first?",
        "And then?",
        "What may be left out?",
        "Sum it up.",
    ),
}
_WRITTEN: Final = {
    "planner": (
        "Things to pack for a day at the sea:",
        " The most important of them",
        " because",
        " In short,",
        " And yet",
    ),
    "critic": (
        "A good title for a short story",
        " For a story about a lighthouse",
        " Shorter:",
        " That is better, since",
        " It stays, because",
    ),
    "writer": (
        "The lighthouse had been dark for years when, one evening in October,",
        " Nobody in the village spoke of it, because",
        " Then the rain",
        " In the morning",
        " In the end",
    ),
    "editor": ("An editor looks first for", " After that", " What may go", " In sum"),
}
_CAST: Final[dict[Role, tuple[str, ...]]] = {
    "small": ("planner", "critic"),
    "large": ("writer", "editor"),
}


class PhaseFigures(Struct, frozen=True, kw_only=True):
    """What counters said between the beginning of a phase and that of the next. Bytes, seconds."""

    percent: int
    title: str
    at: float
    seconds: float
    model: str | None
    turns: int
    restored_tokens: int
    computed_tokens: int
    swap_s: float | None
    peak_worker_bytes: int
    """Weights, live contexts and what else the worker holds."""
    least_free_bytes: int
    os_swapped_in_bytes: int
    os_swapped_out_bytes: int
    offloaded_bytes: int


class SwapSummary(Struct, frozen=True, kw_only=True):
    """Swaps in one direction: how many, and what they took in seconds."""

    origin: str | None
    target: str
    swaps: int
    median_s: float
    max_s: float


def phase_at(percent: int) -> Phase:
    """The phase that this share of the work belongs to."""
    return [BASELINE, *(phase for phase in PHASES if phase.percent <= percent)][-1]


def agents_of(models: dict[Role, str], raw: frozenset[str]) -> dict[str, Agent]:
    """All agents by name. `raw`: models without a chat template, whose agents write on."""
    return {
        name: Agent(
            name=name,
            model=models[role],
            lines=(_WRITTEN if models[role] in raw else _SPOKEN)[name],
            raw=models[role] in raw,
        )
        for role, names in _CAST.items()
        for name in names
    }


def turn_order() -> list[tuple[int, str]]:
    """Percent of the work before each turn, and the agent whose turn it is."""
    order, taken = [], dict.fromkeys(_CAST, 0)
    for number in range(1, TURNS + 1):
        percent = number * TURN_PERCENT
        role = phase_at(percent).role
        order.append((percent, _CAST[role][taken[role] % len(_CAST[role])]))
        taken[role] += 1
    return order


def phase_figures(
    marks: Sequence[Event],
    samples: Sequence[Sample],
    turns: Sequence[TurnResult],
    swaps: Sequence[tuple[float, SwapReport]],
) -> list[PhaseFigures]:
    """Of each phase whose mark is there. `swaps` with the time at which each ended."""
    began = [mark.at for mark in marks]
    ended = [*began[1:], max((sample.at for sample in samples), default=began[-1])]
    percents = [percent for percent, _ in turn_order()]
    found = []
    for mark, start, end in zip(marks, began, ended, strict=True):
        phase = phase_at(mark.facts["percent"])
        inside = [sample for sample in samples if start <= sample.at < end]
        own = [
            turn.done.usage
            for percent, turn in zip(percents, turns, strict=False)
            if phase_at(percent) == phase
        ]
        took = [report.total_s for at, report in swaps if start <= at < end]
        found.append(
            PhaseFigures(
                percent=phase.percent,
                title=phase.title,
                at=start,
                seconds=end - start,
                model=next((s.model for s in reversed(inside) if s.model), None),
                turns=len(own),
                restored_tokens=sum(usage.restored_tokens for usage in own),
                computed_tokens=sum(usage.computed_tokens for usage in own),
                swap_s=sum(took) if took else None,
                peak_worker_bytes=max(map(_held, inside), default=0),
                least_free_bytes=min((s.free_bytes for s in inside), default=0),
                os_swapped_in_bytes=sum(s.os_swapped_in_bytes for s in inside),
                os_swapped_out_bytes=sum(s.os_swapped_out_bytes for s in inside),
                offloaded_bytes=sum(s.offloaded_bytes for s in inside),
            )
        )
    return found


def summaries(swaps: Iterable[SwapReport]) -> list[SwapSummary]:
    """By direction, in the order in which each came first."""
    took: dict[tuple[str | None, str], list[float]] = {}
    for report in swaps:
        took.setdefault((report.from_, report.to), []).append(report.total_s)
    return [
        SwapSummary(
            origin=origin,
            target=target,
            swaps=len(seconds),
            median_s=median(seconds),
            max_s=max(seconds),
        )
        for (origin, target), seconds in took.items()
    ]


def _held(sample: Sample) -> int:
    return sample.weights_bytes + sample.live_kv_bytes + sample.runtime_bytes
