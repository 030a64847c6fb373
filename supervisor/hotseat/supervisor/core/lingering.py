"""Whether the seated model should wait a moment for an agent that is expected back. Pure.

An agent whose reply ended in a tool call comes back when the tool has run; one that said `hold_s`
comes back by its own word. How long tools take is learned from those that came back.
"""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hotseat.supervisor.core.scheduler import SchedulerSettings

MAX_EXPECTED: Final = 64
"""Agents remembered at a time; the oldest are forgotten first."""
MAX_MODELS: Final = 64
NEWEST_SHARE: Final = 0.3
"""Of the newest gap in the running estimate of what tools take."""


class Expected(Struct, frozen=True, kw_only=True):
    """An agent that is out. `who` tells agents apart; `until` is when we stop waiting for it."""

    who: str
    left_at: float
    until: float
    runs_tool: bool


class Lingering(Struct, frozen=True, kw_only=True):
    """Who is expected back by the seated model, and how long tools took, by model."""

    model: str | None = None
    expected: tuple[Expected, ...] = ()
    tool_s: tuple[tuple[str, float], ...] = ()

    @property
    def until(self) -> float:
        """The seated model may wait until then; 0 when nobody is expected."""
        return max((entry.until for entry in self.expected), default=0.0)

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
    """Another model has the seat: nobody is expected back by the one before."""
    return state if state.model == model else replace(state, model=model, expected=())


def note_end(
    state: Lingering, end: Ending, swap_cost_s: float, settings: SchedulerSettings
) -> Lingering:
    """A turn of the seated model ended; others change nothing."""
    if end.model != state.model:
        return state
    rest = tuple(entry for entry in state.expected if entry.who != end.who)
    wait_s = _wait_s(state, end, swap_cost_s, settings)
    if wait_s <= 0.0:
        return replace(state, expected=rest)
    entry = Expected(who=end.who, left_at=end.at, until=end.at + wait_s, runs_tool=end.runs_tool)
    return replace(state, expected=(*rest, entry)[-MAX_EXPECTED:])


def _wait_s(
    state: Lingering, end: Ending, swap_cost_s: float, settings: SchedulerSettings
) -> float:
    """Waiting longer than a swap takes costs more than the swap it may save."""
    if end.yields or not (end.runs_tool or end.hold_s):
        return 0.0
    own_s = end.hold_s if end.hold_s is not None else state.learned_s(end.model)
    longest_s = min(settings.tool_linger_s, swap_cost_s)
    return longest_s if own_s is None else min(own_s, longest_s)


def note_arrival(state: Lingering, who: str, model: str, at: float) -> Lingering:
    """A request came: its agent is back, and how long its tool took is known."""
    if model != state.model:
        return state
    found = next((entry for entry in state.expected if entry.who == who), None)
    if found is None:
        return state
    state = replace(state, expected=tuple(e for e in state.expected if e.who != who))
    if not found.runs_tool:
        return state
    gap_s = max(0.0, at - found.left_at)
    before = state.learned_s(model)
    now_s = gap_s if before is None else before + NEWEST_SHARE * (gap_s - before)
    others = tuple(pair for pair in state.tool_s if pair[0] != model)
    return replace(state, tool_s=(*others, (model, now_s))[-MAX_MODELS:])
