"""Whether the seated model should wait a moment for an agent that is expected back. Pure.

An agent whose reply ended in a tool call comes back when the tool has run; one that said `hold_s`
comes back by its own word. How long tools take is learned from those that came back.
"""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hotseat.supervisor.settings.values import SchedulerSettings

MAX_EXPECTED: Final = 64
"""Agents remembered at a time; the oldest are forgotten first."""
MAX_MODELS: Final = 64
NEWEST_SHARE: Final = 0.3
"""Of the newest gap in the running estimate of what tools take."""


class ExpectedAgent(Struct, frozen=True, kw_only=True):
    """An agent that is out. `who` tells agents apart; `until` is when we stop waiting for it."""

    who: str
    model: str
    left_at: float
    until: float
    runs_tool: bool


class Lingering(Struct, frozen=True, kw_only=True):
    """Who is out, of any model, and how long tools took, by model."""

    model: str | None = None
    """The seated one."""
    expected: tuple[ExpectedAgent, ...] = ()
    tool_s: tuple[tuple[str, float], ...] = ()

    @property
    def until(self) -> float:
        """The seated model may wait until then; 0 when nobody is expected."""
        return max((e.until for e in self.expected if e.model == self.model), default=0.0)

    def learned_s(self, model: str) -> float | None:
        """How long the tools of this model's agents take; None when nobody came back yet."""
        return dict(self.tool_s).get(model)


class Ending(Struct, frozen=True, kw_only=True):
    """The end of a turn, as far as it says whether its agent comes back."""

    who: str
    model: str
    at: float
    runs_tool: bool = False
    hold_s: float | None = None
    yields: bool = False


def note_seat(state: Lingering, model: str | None) -> Lingering:
    """Another model has the seat: nobody is waited for by the one before, but all may come back."""
    if state.model == model:
        return state
    expected = tuple(replace(entry, until=0.0) for entry in state.expected)
    return replace(state, model=model, expected=expected)


def note_end(
    state: Lingering, end: Ending, swap_cost_s: float, settings: SchedulerSettings
) -> Lingering:
    """A turn of the seated model ended; others change nothing."""
    if end.model != state.model:
        return state
    rest = tuple(entry for entry in state.expected if entry.who != end.who)
    wait_s = _wait_s(state, end, swap_cost_s, settings)
    if wait_s <= 0.0 and not end.runs_tool:
        return replace(state, expected=rest)
    entry = ExpectedAgent(
        who=end.who,
        model=end.model,
        left_at=end.at,
        until=end.at + wait_s if wait_s > 0.0 else 0.0,
        runs_tool=end.runs_tool,
    )
    return replace(state, expected=(*rest, entry)[-MAX_EXPECTED:])


def _wait_s(
    state: Lingering, end: Ending, swap_cost_s: float, settings: SchedulerSettings
) -> float:
    """Waiting longer than a swap takes costs more than the swap it may save.

    A tool that is known to take longer than that is not waited for at all: all of the wait would
    be in vain, and somebody else has work.
    """
    if end.yields or not (end.runs_tool or end.hold_s):
        return 0.0
    longest_s = min(settings.tool_linger_s, swap_cost_s)
    if end.hold_s is not None:
        return min(end.hold_s, longest_s)
    learned_s = state.learned_s(end.model)
    if learned_s is None:
        return longest_s
    return learned_s if learned_s <= longest_s else 0.0


def note_arrival(state: Lingering, who: str, model: str, at: float) -> Lingering:
    """A request came: its agent is back, and how long its tool took is known.

    Also when it comes too late, and to another model's seat: learning only from those that were
    quick would make every tool look quick.
    """
    found = next((entry for entry in state.expected if entry.who == who), None)
    if found is None:
        return state
    state = replace(state, expected=tuple(e for e in state.expected if e.who != who))
    if not found.runs_tool or found.model != model:
        return state
    gap_s = max(0.0, at - found.left_at)
    before = state.learned_s(model)
    now_s = gap_s if before is None else before + NEWEST_SHARE * (gap_s - before)
    others = tuple(pair for pair in state.tool_s if pair[0] != model)
    return replace(state, tool_s=(*others, (model, now_s))[-MAX_MODELS:])
