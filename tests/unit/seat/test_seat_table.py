"""Rows of the seat table that a machine of random events would hardly single out."""

import pytest
from msgspec.structs import replace

from hotseat.protocol.replies import Cause
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.states import Fault, Mark, Phase, SeatState, SwapPlan
from hotseat.supervisor.seat.rules.table import next_state
from hotseat.supervisor.settings.values import Deadlines

LIMITS = Deadlines()
CAUSE = Cause(client="c", request_id="r", model_asked="b")
PLAN = SwapPlan(swap=7, target="b", cause=CAUSE)
NOW = 1_000.0


def state_in(phase, plan=PLAN, **fields):
    known = {
        "phase": phase,
        "epoch": 3,
        "model": "a",
        "came_from": "a",
        "since": NOW - 900.0,
        "deadline": NOW - 1.0,
        "plan": plan,
        "marks": (Mark(phase, NOW - 900.0),),
        "worker_lives": True,
    }
    return SeatState(**(known | fields))


@pytest.mark.parametrize("mode", ["process", "in-process"])
def test_worker_that_never_answers_its_checkpoint_is_stuck_and_is_ended(mode):
    """Back to READY would hand the next request to a worker that answers nothing."""
    state = state_in(Phase.CHECKPOINTING, replace(PLAN, mode=mode))
    state, effects = next_state(state, t.TimePassed(), NOW, LIMITS)
    assert (state.phase, effects) == (Phase.STOPPING, (t.AskStop(),))
    assert state.plan.mode == "process", "a stuck worker cannot be emptied in place"
    assert "checkpoint_s" in state.fault.message
    state, effects = next_state(state, t.TimePassed(), NOW + LIMITS.stop_s, LIMITS)
    assert effects == (t.DumpStacks(), t.SendTerm())
    state, effects = next_state(state, t.TimePassed(), NOW + LIMITS.stop_s + LIMITS.term_s, LIMITS)
    assert effects == (t.SendKill(),)
    gone = Fault(code="worker_lost", message="killed")
    state, effects = next_state(state, t.WorkerDied(3, gone), NOW + 20.0, LIMITS)
    assert (state.phase, state.plan.target) == (Phase.RECLAIMING, "b"), "the swap goes on"


def test_checkpoint_that_failed_and_says_so_keeps_the_old_model():
    full = Fault(code="disk_full", message="full")
    state = state_in(Phase.CHECKPOINTING, deadline=NOW + 10.0)
    state, effects = next_state(state, t.CheckpointEnded(full), NOW, LIMITS)
    assert (state.phase, state.model) == (Phase.READY, "a")
    assert effects == (t.ResumeAdmission(), t.SwapFailed(PLAN, full, "a"))


@pytest.mark.parametrize("phase", list(Phase))
def test_swap_is_taken_back_exactly_while_the_old_worker_was_not_told_to_stop(phase):
    state = state_in(phase, deadline=NOW + 10.0)
    after, effects = next_state(state, t.SwapCancelled(7), NOW, LIMITS)
    if phase in {Phase.DRAINING, Phase.CHECKPOINTING}:
        assert (after.phase, after.model, after.epoch) == (Phase.READY, "a", 3)
        assert [type(effect) for effect in effects] == [t.ResumeAdmission, t.SwapFailed]
    else:
        assert (after, effects) == (state, ())
    assert next_state(state, t.SwapCancelled(8), NOW, LIMITS) == (state, ())


def test_stop_of_the_daemon_does_not_wait_for_a_worker_that_never_started():
    """The stop began between the decision to start a worker and the refusal of the seat."""
    exits = SwapPlan(swap=8, target=None, cause=CAUSE, exits=True)
    state = state_in(Phase.STARTING, deadline=NOW + 60.0)
    state, _ = next_state(state, t.ExitAsked(exits), NOW, LIMITS)
    assert state.phase is Phase.STOPPING
    taken = Fault(code="seat_taken", message="taken")
    state, effects = next_state(state, t.StartRefused(3, taken), NOW, LIMITS)
    assert state.phase is Phase.RECLAIMING
    assert not state.worker_lives
    state, effects = next_state(state, t.Reclaimed(3), NOW, LIMITS)
    assert state.phase is Phase.EMPTY
    assert t.Exit() in effects and t.ReleaseSeat() in effects
