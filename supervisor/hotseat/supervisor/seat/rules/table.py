"""The seat table: `(state, event, now) -> (state, effects)`. The one place of lifecycle rules.

Every event has an answer in every phase. Events of an epoch that is not current, and events that
mean nothing in a phase, change nothing. Pure.
"""

from typing import assert_never

from msgspec.structs import replace

from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.gpu_losses import after_loss
from hotseat.supervisor.seat.rules.moves import (
    MISSES_TO_QUARANTINE,
    Outcome,
    await_memory,
    back_off_s,
    checkpointed,
    died_seating,
    end_stuck,
    enter,
    give_up,
    kill,
    missed,
    restart,
    try_another,
    undo,
)
from hotseat.supervisor.seat.rules.overdue import OVERDUE
from hotseat.supervisor.seat.rules.states import (
    SETTLED,
    Fault,
    GpuLosses,
    Mark,
    Misses,
    Phase,
    SeatEffect,
    SeatEvent,
    SeatState,
    SwapPlan,
)
from hotseat.supervisor.settings.values import Deadlines


def next_state(  # noqa: C901, PLR0911, PLR0912 - one case per event is what a table is
    state: SeatState, event: SeatEvent, now: float, limits: Deadlines
) -> Outcome:
    """The table. `now` is monotonic seconds; deadlines in the state use the same clock."""
    if getattr(event, "epoch", state.epoch) != state.epoch:
        return state, ()
    match event:
        case t.Asked(plan):
            return _begin(state, plan, now, limits) if state.phase in SETTLED else (state, ())
        case t.ExitAsked(plan):
            return _exit(state, plan, now, limits)
        case t.SwapCancelled(swap):
            return _cancel(state, swap, now)
        case t.Drained():
            return _drained(state, now, limits)
        case t.CheckpointEnded(fault):
            return checkpointed(state, fault, now, limits)
        case t.UnloadEnded(_, fault):
            return _unloaded(state, fault, now, limits)
        case t.WorkerDied(_, fault, jitter):
            return _died(state, fault, now, limits, jitter)
        case t.Stalled():
            return _stalled(state, event, now, limits)
        case t.Slept(lasted_s):
            late = None if state.deadline is None else state.deadline + lasted_s
            return replace(state, deadline=late), ()
        case t.StartRefused(_, fault):
            return _refused(state, fault, now, limits)
        case t.Greeted():
            return _greeted(state, now, limits)
        case t.LoadAdvanced():
            if state.phase is not Phase.LOADING:
                return state, ()
            return replace(state, deadline=now + limits.load_s), ()
        case t.LoadEnded(_, fault):
            return _loaded(state, fault, now, limits)
        case t.WarmEnded(_, fault):
            return _warmed(state, fault, now, limits)
        case t.Reclaimed():
            return _reclaimed(state, now, limits)
        case t.WorkAdvanced():
            return replace(state, deaths=(), gpu=GpuLosses()), ()
        case t.TimePassed():
            return _time(state, now, limits)
        case _:
            assert_never(event)


def quarantines(state: SeatState, now: float) -> list[Misses]:
    """Models that are not tried before some time, with the reason."""
    return [
        misses
        for misses in state.misses
        if misses.count >= MISSES_TO_QUARANTINE and misses.until > now
    ]


def quarantine_of(state: SeatState, model: str, now: float) -> Misses | None:
    """Why and until when `model` is not tried; None if it may be tried now."""
    return next((misses for misses in quarantines(state, now) if misses.model == model), None)


def _begin(state: SeatState, plan: SwapPlan, now: float, limits: Deadlines) -> Outcome:
    """A swap begins in a settled phase."""
    if plan.exits:
        return _exit(state, plan, now, limits)
    if state.phase is Phase.MEMORY_STRANDED and state.worker_lives:
        fault = state.fault or Fault(code="memory_stranded", message="a worker does not end")
        return state, (t.SwapFailed(plan, fault, None),)
    state = replace(
        state, plan=plan, came_from=state.model, marks=(), fault=None, deaths=(), rung=0
    )
    if state.phase is Phase.READY:
        grace_s = limits.grace_s if plan.grace_s is None else plan.grace_s
        lasts_s = limits.drain_s if plan.drain == "finish" else grace_s
        return enter(state, Phase.DRAINING, now, lasts_s), (t.StopAdmission(),)
    return await_memory(replace(state, came_from=None), now, limits)


def _exit(  # noqa: PLR0911 - one answer per phase
    state: SeatState, plan: SwapPlan, now: float, limits: Deadlines
) -> Outcome:
    """The daemon has to end: what is under way is turned into giving the seat up."""
    failed: tuple[SeatEffect, ...] = ()
    if state.plan is not None:
        if state.plan.exits:
            return state, ()
        fault = Fault(code="shutting_down", message="the daemon is stopping")
        failed = (t.SwapFailed(state.plan, fault, None),)
    state = replace(state, plan=plan)
    match state.phase:
        case Phase.EMPTY | Phase.FAILED | Phase.MEMORY_STRANDED:
            # A worker that cannot be ended keeps the machine's seat.
            freed = () if state.worker_lives else (t.ReleaseSeat(),)
            return replace(state, plan=None, deadline=None), (*failed, *freed, t.Exit())
        case Phase.READY:
            state = replace(state, came_from=state.model, marks=(), rung=0)
            state = enter(state, Phase.DRAINING, now, limits.exit_drain_s)
            return state, (*failed, t.StopAdmission())
        case Phase.DRAINING:
            deadline = min(state.deadline or now, now + limits.exit_drain_s)
            return replace(state, deadline=deadline), failed
        case Phase.STARTING | Phase.LOADING | Phase.WARMING:
            state, effects = kill(state, now, limits)
            return state, (*failed, *effects)
        case Phase.RECLAIMING:
            state, effects = kill(state, now, limits) if state.worker_lives else (state, ())
            return state, (*failed, *effects)
        case Phase.STOPPING:
            return state, (*failed, t.AskStop())  # it may only have been told to let go
        case Phase.CHECKPOINTING:
            return state, failed
        case _:
            assert_never(state.phase)


def _cancel(state: SeatState, swap: int, now: float) -> Outcome:
    """A swap can be taken back as long as the old worker was not told to stop."""
    if state.plan is None or state.plan.swap != swap or state.plan.exits:
        return state, ()
    if state.phase not in {Phase.DRAINING, Phase.CHECKPOINTING}:
        return state, ()
    return undo(state, Fault(code="interrupted", message="the swap was cancelled"), now)


def _drained(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    if state.phase is not Phase.DRAINING or state.plan is None:
        return state, ()
    effect = t.SendCheckpoint(state.plan.swap)
    return enter(state, Phase.CHECKPOINTING, now, limits.checkpoint_s), (effect,)


def _unloaded(state: SeatState, fault: Fault | None, now: float, limits: Deadlines) -> Outcome:
    """In place: go on in the same process if memory came back, else end it after all."""
    plan = state.plan
    if state.phase is not Phase.STOPPING or plan is None or plan.mode != "in-process":
        return state, ()
    if fault is None and plan.target is not None and not plan.exits and state.rung == 0:
        return await_memory(state, now, limits)
    plan = replace(plan, mode="process")
    state = replace(state, plan=plan, rung=0, deadline=now + limits.stop_s)
    return state, (t.AskStop(),)


def _died(
    state: SeatState, fault: Fault, now: float, limits: Deadlines, jitter: float = 0.0
) -> Outcome:
    """The worker is reaped: asked for, or not."""
    state = replace(state, worker_lives=False)
    if fault.gpu:
        state = replace(state, gpu=after_loss(state.gpu, fault.gpu, now))
    match state.phase:
        case Phase.STOPPING:
            delay_s = back_off_s(len(state.deaths), limits, jitter)
            return await_memory(state, now, limits, delay_s)
        case Phase.DRAINING | Phase.CHECKPOINTING:
            state, effects = await_memory(state, now, limits)
            return state, (t.LoseRunning(fault), *effects)
        case Phase.READY:
            return restart(state, fault, now, limits, jitter)
        case Phase.STARTING | Phase.LOADING | Phase.WARMING:
            return died_seating(state, fault, now, limits, jitter)
        case Phase.MEMORY_STRANDED:
            empty = replace(enter(state, Phase.EMPTY, now, None), fault=None)
            return empty, (t.ReleaseSeat(), t.ResumeAdmission())
        case Phase.EMPTY | Phase.RECLAIMING | Phase.FAILED:
            return state, ()  # reclaiming goes on: the next worker is a new process then
        case _:
            assert_never(state.phase)


def _stalled(state: SeatState, event: t.Stalled, now: float, limits: Deadlines) -> Outcome:
    """A worker that gets nowhere is ended where it stands; what it ran goes on with the next."""
    if not state.worker_lives:
        return state, ()
    fault = event.fault
    match state.phase:
        case Phase.STARTING | Phase.LOADING | Phase.WARMING:
            if event.was_idle:
                return try_another(state, fault, now, limits)
            return missed(state, fault, now, limits, is_stuck=True)
        case Phase.READY:
            return restart(state, fault, now, limits)
        case Phase.DRAINING | Phase.CHECKPOINTING:
            plan = None if state.plan is None else replace(state.plan, mode="process")
            state, effects = end_stuck(replace(state, plan=plan, fault=fault), now, limits)
            return state, (t.LoseRunning(fault), *effects)
        case _:
            return state, ()  # its end is under way already


def _reclaimed(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    if state.phase is not Phase.RECLAIMING or state.plan is None:
        return state, ()
    plan = state.plan
    if plan.gives_up:
        return give_up(state, now)
    if plan.target is not None and state.worker_lives:
        state = replace(state, epoch=state.epoch + 1, model=plan.target)
        state = enter(state, Phase.LOADING, now, limits.load_s)
        return state, (t.SendReseat(state.epoch, plan.target), t.SendLoad(plan.target))
    if plan.target is not None:
        state = replace(state, epoch=state.epoch + 1, model=plan.target, worker_lives=True)
        state = enter(state, Phase.STARTING, now, limits.start_s)
        return state, (t.Spawn(state.epoch, plan.target),)
    empty = replace(
        enter(state, Phase.EMPTY, now, None), plan=None, model=None, came_from=None, marks=()
    )
    done = t.SwapDone(plan, state.came_from, (*state.marks, Mark(Phase.EMPTY, now)), now)
    ends: tuple[SeatEffect, ...] = (t.Exit(),) if plan.exits else (t.ResumeAdmission(),)
    return empty, (t.ReleaseSeat(), done, *ends)


def _greeted(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    if state.phase is not Phase.STARTING or state.model is None:
        return state, ()
    return enter(state, Phase.LOADING, now, limits.load_s), (t.SendLoad(state.model),)


def _loaded(state: SeatState, fault: Fault | None, now: float, limits: Deadlines) -> Outcome:
    if state.phase is not Phase.LOADING:
        return state, ()
    if fault is not None:
        return missed(state, fault, now, limits)
    return enter(state, Phase.WARMING, now, limits.warm_s), (t.SendWarm(),)


def _warmed(state: SeatState, fault: Fault | None, now: float, limits: Deadlines) -> Outcome:
    if state.phase is not Phase.WARMING or state.plan is None:
        return state, ()
    if fault is not None:
        return missed(state, fault, now, limits)
    plan = state.plan
    marks = (*state.marks, Mark(Phase.READY, now))
    misses = tuple(entry for entry in state.misses if entry.model != state.model)
    ready = replace(
        enter(state, Phase.READY, now, None),
        plan=None,
        came_from=None,
        marks=(),
        misses=misses,
        seated_at=now,
        fault=None,
    )
    return ready, (t.SwapDone(plan, state.came_from, marks, now), t.ResumeAdmission())


def _refused(state: SeatState, fault: Fault, now: float, limits: Deadlines) -> Outcome:
    """No worker was started and the model is not to blame."""
    if state.phase is Phase.STOPPING and state.worker_lives:
        return _died(state, fault, now, limits)  # a stop came between: there is none to end
    if state.phase is not Phase.STARTING or state.plan is None:
        return state, ()
    plan = state.plan
    empty = replace(
        enter(state, Phase.EMPTY, now, None),
        plan=None,
        model=None,
        came_from=None,
        marks=(),
        worker_lives=False,
    )
    failed = t.SwapFailed(plan, fault, None)
    if plan.exits:
        return empty, (failed, t.ReleaseSeat(), t.Exit())
    return empty, (failed, t.ReleaseSeat(), t.ResumeAdmission())


def _time(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    if state.deadline is None or now < state.deadline:
        return state, ()
    return OVERDUE[state.phase](state, now, limits)
