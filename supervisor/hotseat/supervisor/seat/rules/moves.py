"""Moves of the seat that several rules share. Pure.

Each takes a state and gives the state after the move with the effects it needs.
"""

from typing import Final

from msgspec.structs import replace

from hotseat.protocol.exits import EX_OUT_OF_MEMORY
from hotseat.protocol.replies import Cause
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.gpu_losses import SEAT_AGAIN, gpu_refusal
from hotseat.supervisor.seat.rules.states import (
    Fault,
    Mark,
    Misses,
    Phase,
    SeatEffect,
    SeatState,
    SwapPlan,
)
from hotseat.supervisor.settings.values import Deadlines

Outcome = tuple[SeatState, tuple[SeatEffect, ...]]

MISSES_TO_QUARANTINE: Final = 2
QUARANTINE_S: Final = 60.0
MAX_QUARANTINE_S: Final = 3600.0
MAX_DEATHS: Final = 5
DEATHS_WINDOW_S: Final = 600.0
"""A worker that died longer ago says nothing about the one that died now."""
MAX_BACK_OFF_S: Final = 30.0
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


def end_stuck(state: SeatState, now: float, limits: Deadlines) -> Outcome:
    """A worker that does not answer is not asked: SIGTERM, then SIGKILL."""
    stopping = replace(enter(state, Phase.STOPPING, now, limits.term_s), rung=1)
    return stopping, (t.SendTerm(),)


def try_another(state: SeatState, fault: Fault, now: float, limits: Deadlines) -> Outcome:
    """The same swap with a fresh process, which a standby is not: so it happens once."""
    return end_stuck(replace(state, fault=fault), now, limits)


def restart(
    state: SeatState, fault: Fault, now: float, limits: Deadlines, jitter: float = 0.0
) -> Outcome:
    """The same model again, until its workers died or hung too often without any progress."""
    lose = t.LoseRunning(fault)
    state, in_a_row, gives_up = _count_end(state, fault, now)
    state = replace(state, marks=(), came_from=None)
    if gives_up and not state.worker_lives:
        state, effects = give_up(state, now)
        return state, (lose, *effects)
    plan = SwapPlan(
        swap=0,
        target=None if gives_up else state.model,
        cause=replace(RESTART, model_asked=state.model or ""),
        gives_up=gives_up,
    )
    state = replace(state, plan=plan)
    if state.worker_lives:
        state, effects = end_stuck(state, now, limits)
    else:
        delay_s = back_off_s(in_a_row, limits, jitter)
        state, effects = await_memory(state, now, limits, delay_s)
    return state, (lose, *effects)


def _count_end(state: SeatState, fault: Fault, now: float) -> tuple[SeatState, int, bool]:
    """With one more end in it, how many that makes in a row, and whether it is one too many."""
    if fault.gpu:  # counted where it ended, and no fault of the model
        refusal = gpu_refusal(state.gpu, now)
        return replace(state, fault=refusal or fault), state.gpu.in_a_row, refusal is not None
    deaths = (*(at for at in state.deaths if now - at < DEATHS_WINDOW_S), now)
    state = replace(state, deaths=deaths, fault=fault)
    gives_up = fault.permanent or len(deaths) > MAX_DEATHS
    if gives_up:
        state = replace(state, misses=bar(state.misses, state.model or "", fault.message, now))
    return state, len(deaths), gives_up


def give_up(state: SeatState, now: float) -> Outcome:
    """No worker any more, and nothing seats that model again by itself."""
    failed = replace(enter(state, Phase.FAILED, now, None), plan=None, model=None, marks=())
    return failed, (t.ReleaseSeat(), t.ResumeAdmission())


def back_off_s(deaths: int, limits: Deadlines, jitter: float) -> float:
    """Nothing after the first death, then doubling; `jitter` 0 to 1 takes up to half away."""
    if deaths <= 1:
        return 0.0
    longest_s = min(limits.back_off_s * 2.0 ** (deaths - 2), MAX_BACK_OFF_S)
    return longest_s * (1.0 - jitter / 2)


def await_memory(state: SeatState, now: float, limits: Deadlines, delay_s: float = 0.0) -> Outcome:
    """Until what the next model needs is available."""
    plan = state.plan
    target = plan.target if plan else None
    state = replace(enter(state, Phase.RECLAIMING, now, delay_s + limits.reclaim_s), rung=0)
    return state, (t.AwaitMemory(state.epoch, target, delay_s),)


def died_seating(
    state: SeatState, fault: Fault, now: float, limits: Deadlines, jitter: float
) -> Outcome:
    """The worker ended under a model on its way. If it was the GPU, the swap goes on with another.

    Not for ever, and not for long while there is a model that can be gone back to.
    """
    if not fault.gpu:
        return missed(state, fault, now, limits)
    refusal = gpu_refusal(state.gpu, now)
    goes_on = state.came_from is None or state.gpu.in_a_row <= SEAT_AGAIN
    if refusal is not None or not goes_on:
        return missed(state, refusal or fault, now, limits)
    delay_s = back_off_s(state.gpu.in_a_row, limits, jitter)
    return await_memory(replace(state, fault=fault), now, limits, delay_s)


def missed(
    state: SeatState, fault: Fault, now: float, limits: Deadlines, *, is_stuck: bool = False
) -> Outcome:
    """The target could not be seated: note it, and go back to where we came from."""
    plan, failed_model = state.plan, state.model
    if plan is None or failed_model is None:
        return state, ()
    # An exit code that says "never" is believed at once; a message may be about files on disk,
    # which somebody can put right.
    ran_out = fault.facts.get("returncode") == EX_OUT_OF_MEMORY
    is_final = not state.worker_lives and (fault.permanent or ran_out)
    is_broken = bool(fault.gpu) and gpu_refusal(state.gpu, now) is not None
    if not fault.gpu:
        count = bar if is_final else count_miss
        state = replace(state, misses=count(state.misses, failed_model, fault.message, now))
    state = replace(state, fault=fault)
    effects: tuple[SeatEffect, ...] = ()
    back_to = state.came_from if state.came_from != failed_model and not is_broken else None
    if plan.exits:
        back_to = None
    else:
        effects = (t.SwapFailed(plan, fault, back_to),)
        restart = replace(RESTART, model_asked=back_to or "")
        plan = SwapPlan(swap=0, target=back_to, cause=restart, gives_up=is_broken)
    state = replace(state, plan=plan, came_from=None)
    end = end_stuck if is_stuck else kill
    state, more = end(state, now, limits) if state.worker_lives else (state, ())
    if state.phase is Phase.STOPPING:
        return state, (*effects, *more)
    state, more = await_memory(state, now, limits)
    return state, (*effects, *more)


def bar(misses: tuple[Misses, ...], model: str, reason: str, now: float) -> tuple[Misses, ...]:
    """Quarantines `model` at once."""
    known = next((entry.count for entry in misses if entry.model == model), 0)
    short = MISSES_TO_QUARANTINE - 1 - known
    for _ in range(max(0, short)):
        misses = count_miss(misses, model, reason, now)
    return count_miss(misses, model, reason, now)


def count_miss(
    misses: tuple[Misses, ...], model: str, reason: str, now: float
) -> tuple[Misses, ...]:
    """One more failure of `model`; the quarantine doubles with each."""
    count = 1 + next((entry.count for entry in misses if entry.model == model), 0)
    lasts_s = min(QUARANTINE_S * 2 ** max(0, count - MISSES_TO_QUARANTINE), MAX_QUARANTINE_S)
    rest = tuple(entry for entry in misses if entry.model != model)
    return (*rest, Misses(model=model, count=count, until=now + lasts_s, reason=reason))


def strand(state: SeatState, text: str, now: float) -> Outcome:
    """Memory did not come back: a named state with a way out, never a loop."""
    fault = Fault(code="memory_stranded", message=text)
    plan = state.plan
    stranded = replace(
        enter(state, Phase.MEMORY_STRANDED, now, None),
        plan=None,
        model=None,
        marks=(),
        came_from=None,
        fault=fault,
    )
    effects: list[SeatEffect] = [] if plan is None else [t.SwapFailed(plan, fault, None)]
    if not state.worker_lives:
        effects.append(t.ReleaseSeat())
    effects.append(t.Exit() if plan is not None and plan.exits else t.ResumeAdmission())
    return stranded, tuple(effects)


def checkpointed(state: SeatState, fault: Fault | None, now: float, limits: Deadlines) -> Outcome:
    """A checkpoint that failed keeps the old model seated, unless the daemon has to end."""
    if state.phase is not Phase.CHECKPOINTING or state.plan is None:
        return state, ()
    if fault is not None and not state.plan.exits:
        return undo(state, fault, now)
    stopping = replace(enter(state, Phase.STOPPING, now, limits.stop_s), rung=0)
    if state.plan.mode == "in-process":
        return stopping, (t.SendUnload(),)
    return stopping, (t.AskStop(),)
