"""Moves of the seat that several rules share. Pure.

Each takes a state and gives the state after the move with the effects it needs.
"""

from typing import Final

from msgspec.structs import replace

from hotseat.protocol.replies import Cause
from hotseat.supervisor.core import seat_types as t
from hotseat.supervisor.core.seat_types import (
    Deadlines,
    Fault,
    Mark,
    Misses,
    Phase,
    SeatEffect,
    SeatState,
    SwapPlan,
)

Outcome = tuple[SeatState, tuple[SeatEffect, ...]]

MISSES_TO_QUARANTINE: Final = 2
QUARANTINE_S: Final = 60.0
MAX_QUARANTINE_S: Final = 3600.0
MAX_DEATHS: Final = 5
RESTART: Final = Cause(client="hotseat", request_id="restart", model_asked="")


def enter(state: SeatState, phase: Phase, now: float, lasts_s: float | None) -> SeatState:
    """Into `phase`, with its deadline; a swap under way notes the time."""
    marks = (*state.marks, Mark(phase, now)) if state.plan else ()
    deadline = None if lasts_s is None else now + lasts_s
    return replace(state, phase=phase, since=now, deadline=deadline, marks=marks)


def undo(state: SeatState, fault: Fault, now: float) -> Outcome:
    """Back to READY with the old worker: nothing was lost."""
    plan = state.plan
    ready = replace(enter(state, Phase.READY, now, None), plan=None, marks=(), came_from=None)
    failed = () if plan is None else (t.SwapFailed(plan, fault, state.model),)
    return ready, (t.ResumeAdmission(), *failed)


def kill(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    """A worker without contexts is ended at the last rung at once."""
    killing = replace(enter(state, Phase.STOPPING, now, limits.kill_s), rung=2)
    return killing, (t.SendKill(),)


def restart(state: SeatState, fault: Fault, now: float, limits: Deadlines) -> Outcome:
    """The same model again, until it died too often without any progress."""
    deaths = state.deaths + 1
    lose = t.LoseRunning(fault)
    state = replace(state, deaths=deaths, fault=fault, marks=(), came_from=None)
    if deaths > MAX_DEATHS:
        barred = Misses(
            model=state.model or "", count=MISSES_TO_QUARANTINE, until=now + QUARANTINE_S
        )
        failed = replace(
            enter(state, Phase.FAILED, now, None), model=None, misses=(*state.misses, barred)
        )
        return failed, (lose, t.ReleaseSeat(), t.ResumeAdmission())
    plan = SwapPlan(
        swap=0, target=state.model, cause=replace(RESTART, model_asked=state.model or "")
    )
    state, effects = await_memory(replace(state, plan=plan), now, limits)
    return state, (lose, *effects)


def await_memory(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    """Until what the next model needs is available."""
    plan = state.plan
    target = plan.target if plan else None
    state = replace(enter(state, Phase.RECLAIMING, now, limits.reclaim_s), rung=0)
    return state, (t.AwaitMemory(state.epoch, target),)


def missed(state: SeatState, fault: Fault, now: float, limits: Deadlines) -> Outcome:
    """The target could not be seated: note it, and go back to where we came from."""
    plan, failed_model = state.plan, state.model
    if plan is None or failed_model is None:
        return state, ()
    state = replace(state, misses=count_miss(state.misses, failed_model, now), fault=fault)
    effects: tuple[SeatEffect, ...] = ()
    back_to = state.came_from if state.came_from != failed_model else None
    if plan.exits:
        back_to = None
    else:
        effects = (t.SwapFailed(plan, fault, back_to),)
        restart = replace(RESTART, model_asked=back_to or "")
        plan = SwapPlan(swap=0, target=back_to, cause=restart)
    state = replace(state, plan=plan, came_from=None)
    state, more = kill(state, now, limits) if state.worker_lives else (state, ())
    if state.phase is Phase.STOPPING:
        return state, (*effects, *more)
    state, more = await_memory(state, now, limits)
    return state, (*effects, *more)


def count_miss(misses: tuple[Misses, ...], model: str, now: float) -> tuple[Misses, ...]:
    """One more failure of `model`; the quarantine doubles with each."""
    count = 1 + next((entry.count for entry in misses if entry.model == model), 0)
    lasts_s = min(QUARANTINE_S * 2 ** max(0, count - MISSES_TO_QUARANTINE), MAX_QUARANTINE_S)
    rest = tuple(entry for entry in misses if entry.model != model)
    return (*rest, Misses(model=model, count=count, until=now + lasts_s))


def strand(state: SeatState, text: str, now: float) -> Outcome:
    """Memory did not come back: a named state with a way out, never a loop."""
    fault = Fault(code="memory_stranded", message=text)
    plan = state.plan
    stranded = replace(
        enter(state, Phase.MEMORY_STRANDED, now, None),
        plan=None, model=None, marks=(), came_from=None, fault=fault,
    )  # fmt: skip
    effects: list[SeatEffect] = [] if plan is None else [t.SwapFailed(plan, fault, None)]
    if not state.worker_lives:
        effects.append(t.ReleaseSeat())
    effects.append(t.Exit() if plan is not None and plan.exits else t.ResumeAdmission())
    return stranded, tuple(effects)
