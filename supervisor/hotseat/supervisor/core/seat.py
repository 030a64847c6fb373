"""The seat table: `(state, event, now) -> (state, effects)`. The one place of lifecycle rules.

Every event has an answer in every phase. Events of an epoch that is not current, and events that
mean nothing in a phase, change nothing. Pure.
"""

from collections.abc import Callable
from typing import Final, assert_never

from msgspec.structs import replace

from hotseat.protocol.replies import Cause
from hotseat.supervisor.core import seat_types as t
from hotseat.supervisor.core.seat_types import (
    SEATING,
    SETTLED,
    Deadlines,
    Fault,
    Mark,
    Misses,
    Phase,
    SeatEffect,
    SeatEvent,
    SeatState,
    SwapPlan,
)

Outcome = tuple[SeatState, tuple[SeatEffect, ...]]

MISSES_TO_QUARANTINE: Final = 2
QUARANTINE_S: Final = 60.0
MAX_QUARANTINE_S: Final = 3600.0
MAX_DEATHS: Final = 5
RESTART: Final = Cause(client="hotseat", request_id="restart", model_asked="")


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
            return _checkpointed(state, fault, now, limits)
        case t.WorkerDied(_, fault):
            return _died(state, fault, now, limits)
        case t.StartRefused(_, fault):
            return _refused(state, fault, now)
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
            return (replace(state, deaths=0), ()) if state.deaths else (state, ())
        case t.TimePassed():
            return _time(state, now, limits)
        case _:
            assert_never(event)


def quarantined_until(state: SeatState, model: str, now: float) -> float | None:
    """When `model` may be tried again, or None if it may be tried now."""
    for misses in state.misses:
        if misses.model == model and misses.count >= MISSES_TO_QUARANTINE and misses.until > now:
            return misses.until
    return None


def _enter(state: SeatState, phase: Phase, now: float, lasts_s: float | None) -> SeatState:
    marks = (*state.marks, Mark(phase, now)) if state.plan else ()
    deadline = None if lasts_s is None else now + lasts_s
    return replace(state, phase=phase, since=now, deadline=deadline, marks=marks)


def _begin(state: SeatState, plan: SwapPlan, now: float, limits: Deadlines) -> Outcome:
    """A swap begins in a settled phase."""
    if plan.exits:
        return _exit(state, plan, now, limits)
    if state.phase is Phase.MEMORY_STRANDED and state.worker_lives:
        fault = state.fault or Fault(code="memory_stranded", message="a worker does not end")
        return state, (t.SwapFailed(plan, fault, None),)
    state = replace(state, plan=plan, came_from=state.model, marks=(), fault=None, deaths=0, rung=0)
    if state.phase is Phase.READY:
        lasts_s = limits.drain_s
        return _enter(state, Phase.DRAINING, now, lasts_s), (t.StopAdmission(),)
    return _await_memory(replace(state, came_from=None), now, limits)


def _exit(state: SeatState, plan: SwapPlan, now: float, limits: Deadlines) -> Outcome:
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
            state = _enter(state, Phase.DRAINING, now, limits.exit_drain_s)
            return state, (*failed, t.StopAdmission())
        case Phase.DRAINING:
            deadline = min(state.deadline or now, now + limits.exit_drain_s)
            return replace(state, deadline=deadline), failed
        case Phase.STARTING | Phase.LOADING | Phase.WARMING:
            state, effects = _kill(state, now, limits)
            return state, (*failed, *effects)
        case Phase.CHECKPOINTING | Phase.STOPPING | Phase.RECLAIMING:
            return state, failed
        case _:
            assert_never(state.phase)


def _cancel(state: SeatState, swap: int, now: float) -> Outcome:
    """A swap can be taken back as long as the old worker was not told to stop."""
    if state.plan is None or state.plan.swap != swap or state.plan.exits:
        return state, ()
    if state.phase not in {Phase.DRAINING, Phase.CHECKPOINTING}:
        return state, ()
    return _undo(state, Fault(code="interrupted", message="the swap was cancelled"), now)


def _undo(state: SeatState, fault: Fault, now: float) -> Outcome:
    """Back to READY with the old worker: nothing was lost."""
    plan = state.plan
    ready = replace(_enter(state, Phase.READY, now, None), plan=None, marks=(), came_from=None)
    failed = () if plan is None else (t.SwapFailed(plan, fault, state.model),)
    return ready, (t.ResumeAdmission(), *failed)


def _drained(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    if state.phase is not Phase.DRAINING or state.plan is None:
        return state, ()
    effect = t.SendCheckpoint(state.plan.swap)
    return _enter(state, Phase.CHECKPOINTING, now, limits.checkpoint_s), (effect,)


def _checkpointed(state: SeatState, fault: Fault | None, now: float, limits: Deadlines) -> Outcome:
    """A checkpoint that failed keeps the old model seated, unless the daemon has to end."""
    if state.phase is not Phase.CHECKPOINTING or state.plan is None:
        return state, ()
    if fault is not None and not state.plan.exits:
        return _undo(state, fault, now)
    stopping = replace(_enter(state, Phase.STOPPING, now, limits.stop_s), rung=0)
    return stopping, (t.AskStop(),)


def _kill(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    """A worker without contexts is ended at the last rung at once."""
    killing = replace(_enter(state, Phase.STOPPING, now, limits.kill_s), rung=2)
    return killing, (t.SendKill(),)


def _died(state: SeatState, fault: Fault, now: float, limits: Deadlines) -> Outcome:
    """The worker is reaped: asked for, or not."""
    state = replace(state, worker_lives=False)
    match state.phase:
        case Phase.STOPPING:
            return _await_memory(state, now, limits)
        case Phase.DRAINING | Phase.CHECKPOINTING:
            state, effects = _await_memory(state, now, limits)
            return state, (t.LoseRunning(fault), *effects)
        case Phase.READY:
            return _restart(state, fault, now, limits)
        case Phase.STARTING | Phase.LOADING | Phase.WARMING:
            return _missed(state, fault, now, limits)
        case Phase.MEMORY_STRANDED:
            empty = replace(_enter(state, Phase.EMPTY, now, None), fault=None)
            return empty, (t.ReleaseSeat(), t.ResumeAdmission())
        case Phase.EMPTY | Phase.RECLAIMING | Phase.FAILED:
            return state, ()
        case _:
            assert_never(state.phase)


def _restart(state: SeatState, fault: Fault, now: float, limits: Deadlines) -> Outcome:
    """The same model again, until it died too often without any progress."""
    deaths = state.deaths + 1
    lose = t.LoseRunning(fault)
    state = replace(state, deaths=deaths, fault=fault, marks=(), came_from=None)
    if deaths > MAX_DEATHS:
        barred = Misses(
            model=state.model or "", count=MISSES_TO_QUARANTINE, until=now + QUARANTINE_S
        )
        failed = replace(
            _enter(state, Phase.FAILED, now, None), model=None, misses=(*state.misses, barred)
        )
        return failed, (lose, t.ReleaseSeat(), t.ResumeAdmission())
    plan = SwapPlan(
        swap=0, target=state.model, cause=replace(RESTART, model_asked=state.model or "")
    )
    state, effects = _await_memory(replace(state, plan=plan), now, limits)
    return state, (lose, *effects)


def _await_memory(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    plan = state.plan
    target = plan.target if plan else None
    state = replace(_enter(state, Phase.RECLAIMING, now, limits.reclaim_s), rung=0)
    return state, (t.AwaitMemory(state.epoch, target),)


def _reclaimed(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    if state.phase is not Phase.RECLAIMING or state.plan is None:
        return state, ()
    plan = state.plan
    if plan.target is not None:
        state = replace(state, epoch=state.epoch + 1, model=plan.target, worker_lives=True)
        state = _enter(state, Phase.STARTING, now, limits.start_s)
        return state, (t.Spawn(state.epoch, plan.target),)
    empty = replace(
        _enter(state, Phase.EMPTY, now, None), plan=None, model=None, came_from=None, marks=()
    )
    done = t.SwapDone(plan, state.came_from, (*state.marks, Mark(Phase.EMPTY, now)), now)
    ends: tuple[SeatEffect, ...] = (t.Exit(),) if plan.exits else (t.ResumeAdmission(),)
    return empty, (t.ReleaseSeat(), done, *ends)


def _greeted(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    if state.phase is not Phase.STARTING or state.model is None:
        return state, ()
    return _enter(state, Phase.LOADING, now, limits.load_s), (t.SendLoad(state.model),)


def _loaded(state: SeatState, fault: Fault | None, now: float, limits: Deadlines) -> Outcome:
    if state.phase is not Phase.LOADING:
        return state, ()
    if fault is not None:
        return _missed(state, fault, now, limits)
    return _enter(state, Phase.WARMING, now, limits.warm_s), (t.SendWarm(),)


def _warmed(state: SeatState, fault: Fault | None, now: float, limits: Deadlines) -> Outcome:
    if state.phase is not Phase.WARMING or state.plan is None:
        return state, ()
    if fault is not None:
        return _missed(state, fault, now, limits)
    plan = state.plan
    marks = (*state.marks, Mark(Phase.READY, now))
    misses = tuple(entry for entry in state.misses if entry.model != state.model)
    ready = replace(
        _enter(state, Phase.READY, now, None),
        plan=None, came_from=None, marks=(), misses=misses, seated_at=now, fault=None,
    )  # fmt: skip
    return ready, (t.SwapDone(plan, state.came_from, marks, now), t.ResumeAdmission())


def _refused(state: SeatState, fault: Fault, now: float) -> Outcome:
    """No worker was started and the model is not to blame."""
    if state.phase is not Phase.STARTING or state.plan is None:
        return state, ()
    plan = state.plan
    empty = replace(
        _enter(state, Phase.EMPTY, now, None),
        plan=None, model=None, came_from=None, marks=(), worker_lives=False,
    )  # fmt: skip
    failed = t.SwapFailed(plan, fault, None)
    if plan.exits:
        return empty, (failed, t.ReleaseSeat(), t.Exit())
    return empty, (failed, t.ReleaseSeat(), t.ResumeAdmission())


def _missed(state: SeatState, fault: Fault, now: float, limits: Deadlines) -> Outcome:
    """The target could not be seated: note it, and go back to where we came from."""
    plan, failed_model = state.plan, state.model
    if plan is None or failed_model is None:
        return state, ()
    state = replace(state, misses=_count_miss(state.misses, failed_model, now), fault=fault)
    effects: tuple[SeatEffect, ...] = ()
    back_to = state.came_from if state.came_from != failed_model else None
    if plan.exits:
        back_to = None
    else:
        effects = (t.SwapFailed(plan, fault, back_to),)
        restart = replace(RESTART, model_asked=back_to or "")
        plan = SwapPlan(swap=0, target=back_to, cause=restart)
    state = replace(state, plan=plan, came_from=None)
    state, more = _kill(state, now, limits) if state.worker_lives else (state, ())
    if state.phase is Phase.STOPPING:
        return state, (*effects, *more)
    state, more = _await_memory(state, now, limits)
    return state, (*effects, *more)


def _count_miss(misses: tuple[Misses, ...], model: str, now: float) -> tuple[Misses, ...]:
    """One more failure of `model`; the quarantine doubles with each."""
    count = 1 + next((entry.count for entry in misses if entry.model == model), 0)
    lasts_s = min(QUARANTINE_S * 2 ** max(0, count - MISSES_TO_QUARANTINE), MAX_QUARANTINE_S)
    rest = tuple(entry for entry in misses if entry.model != model)
    return (*rest, Misses(model=model, count=count, until=now + lasts_s))


def _time(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    if state.deadline is None or now < state.deadline:
        return state, ()
    return _OVERDUE[state.phase](state, now, limits)


def _overdue_drain(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    if state.plan is not None and state.plan.exits:
        if state.rung == 0:
            return replace(state, rung=1, deadline=now + limits.term_s), (t.CancelRunning(),)
        stopping = replace(_enter(state, Phase.STOPPING, now, limits.term_s), rung=1)
        return stopping, (t.SendTerm(),)
    waited_s = now - state.since
    text = f"requests still ran after {waited_s:.0f} s of draining; raise drain_s or cancel them"
    return _undo(state, Fault(code="draining", message=text), now)


def _overdue_checkpoint(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    waited_s = now - state.since
    text = f"contexts were not on disk after {waited_s:.0f} s; raise checkpoint_s or see the log"
    return _checkpointed(state, Fault(code="deadline_exceeded", message=text), now, limits)


def _overdue_stop(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    if state.rung == 0:
        return replace(state, rung=1, deadline=now + limits.term_s), (t.SendTerm(),)
    if state.rung == 1:
        return replace(state, rung=2, deadline=now + limits.kill_s), (t.SendKill(),)
    return _strand(
        state, "the worker did not end after SIGKILL; a restart of the Mac frees it", now
    )


def _overdue_reclaim(state: SeatState, now: float, _limits: Deadlines) -> Outcome:
    text = (
        f"memory of the ended worker did not come back within {now - state.since:.0f} s; "
        "seat a smaller model, close other programs, or restart the Mac"
    )
    return _strand(state, text, now)


def _strand(state: SeatState, text: str, now: float) -> Outcome:
    fault = Fault(code="memory_stranded", message=text)
    plan = state.plan
    stranded = replace(
        _enter(state, Phase.MEMORY_STRANDED, now, None),
        plan=None, model=None, marks=(), came_from=None, fault=fault,
    )  # fmt: skip
    effects: list[SeatEffect] = [] if plan is None else [t.SwapFailed(plan, fault, None)]
    if not state.worker_lives:
        effects.append(t.ReleaseSeat())
    effects.append(t.Exit() if plan is not None and plan.exits else t.ResumeAdmission())
    return stranded, tuple(effects)


def _overdue_seating(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    setting = {Phase.STARTING: "start_s", Phase.LOADING: "load_s", Phase.WARMING: "warm_s"}
    text = (
        f"worker not ready after {now - state.since:.0f} s (epoch {state.epoch}, {state.phase}); "
        f"raise {setting[state.phase]} or see the log"
    )
    return _missed(state, Fault(code="model_unavailable", message=text), now, limits)


def _nothing(state: SeatState, _now: float, _limits: Deadlines) -> Outcome:
    return replace(state, deadline=None), ()


_OVERDUE: Final[dict[Phase, Callable[[SeatState, float, Deadlines], Outcome]]] = {
    **dict.fromkeys(SETTLED, _nothing),
    **dict.fromkeys(SEATING, _overdue_seating),
    Phase.DRAINING: _overdue_drain,
    Phase.CHECKPOINTING: _overdue_checkpoint,
    Phase.STOPPING: _overdue_stop,
    Phase.RECLAIMING: _overdue_reclaim,
}
