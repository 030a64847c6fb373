"""What follows when a phase of the seat lasts longer than it may, phase by phase. Pure."""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.moves import (
    Outcome,
    checkpointed,
    end_stuck,
    kill,
    missed,
    strand,
    undo,
)
from hotseat.supervisor.seat.rules.states import (
    SEATING,
    SETTLED,
    Fault,
    Phase,
    SeatEffect,
    SeatState,
)
from hotseat.supervisor.settings.values import Deadlines


def _overdue_drain(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    plan = state.plan
    if plan is not None and state.rung == 0 and (plan.exits or plan.drain != "finish"):
        waits_s = limits.term_s if plan.exits else limits.drain_s
        effect = t.CancelRunning() if plan.drain == "cancel" else t.SuspendRunning()
        return replace(state, rung=1, deadline=now + waits_s), (effect,)
    if plan is not None and plan.exits:
        return end_stuck(state, now, limits)
    waited_s = now - state.since
    text = f"requests still ran after {waited_s:.0f} s of draining; raise drain_s or cancel them"
    return undo(state, Fault(code="draining", message=text), now)


def _overdue_checkpoint(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    """A worker that says nothing is stuck and would not answer the next request either.

    So the stop ladder goes on. Turns and full blocks are durable: tails are computed again.
    """
    if state.plan is None:
        return state, ()
    waited_s = now - state.since
    text = f"contexts were not on disk after {waited_s:.0f} s; raise checkpoint_s or see the log"
    fault = Fault(code="deadline_exceeded", message=text)
    state = replace(state, plan=replace(state.plan, mode="process"), fault=fault)
    return checkpointed(state, None, now, limits)


def _overdue_stop(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    if state.rung == 0:
        effects: tuple[SeatEffect, ...] = (t.DumpStacks(), t.SendTerm())
        return replace(state, rung=1, deadline=now + limits.term_s), effects
    if state.rung == 1:
        return replace(state, rung=2, deadline=now + limits.kill_s), (t.SendKill(),)
    return strand(state, "the worker did not end after SIGKILL; a restart of the Mac frees it", now)


def _overdue_reclaim(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    if state.worker_lives and state.plan is not None:
        # Let go in place, but the memory is not there: the process has to end after all.
        state = replace(state, plan=replace(state.plan, mode="process"))
        return kill(state, now, limits)
    text = (
        f"memory of the ended worker did not come back within {now - state.since:.0f} s; "
        "seat a smaller model, close other programs, or restart the Mac"
    )
    return strand(state, text, now)


def _overdue_seating(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    setting = {Phase.STARTING: "start_s", Phase.LOADING: "load_s", Phase.WARMING: "warm_s"}
    text = (
        f"worker not ready after {now - state.since:.0f} s (epoch {state.epoch}, {state.phase}); "
        f"raise {setting[state.phase]} or see the log"
    )
    fault = Fault(code="model_unavailable", message=text)
    state, effects = missed(state, fault, now, limits, is_stuck=True)
    return state, (t.DumpStacks(), *effects)


def _nothing(state: SeatState, _now: float, _limits: Deadlines) -> Outcome:
    return replace(state, deadline=None), ()


OVERDUE: Final[dict[Phase, Callable[[SeatState, float, Deadlines], Outcome]]] = {
    **dict.fromkeys(SETTLED, _nothing),
    **dict.fromkeys(SEATING, _overdue_seating),
    Phase.DRAINING: _overdue_drain,
    Phase.CHECKPOINTING: _overdue_checkpoint,
    Phase.STOPPING: _overdue_stop,
    Phase.RECLAIMING: _overdue_reclaim,
}
