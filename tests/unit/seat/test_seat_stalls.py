"""What the seat does about workers that hang, and how restarts are spread and bounded."""

import pytest
from tests.support.clocks.seat_course import CAUSE, LIMITS, run

from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.moves import MAX_BACK_OFF_S, MAX_DEATHS, back_off_s
from hotseat.supervisor.seat.rules.states import Fault, Phase, SeatState, SwapPlan
from hotseat.supervisor.seat.rules.table import quarantine_of

STUCK = Fault(code="worker_lost", message="stuck", facts={"stacks": ["here"]})
GONE = Fault(code="worker_lost", message="gone")


def plan(target="b", **options):
    return SwapPlan(swap=2, target=target, cause=CAUSE, **options)


def at(phase):
    """A seat in `phase`: before READY it is being given to its first model."""
    steps = {
        Phase.STARTING: (t.Asked(plan("a")), t.Reclaimed(0)),
        Phase.LOADING: (t.Greeted(1),),
        Phase.WARMING: (t.LoadEnded(1),),
        Phase.READY: (t.WarmEnded(1),),
        Phase.DRAINING: (t.Asked(plan()),),
        Phase.CHECKPOINTING: (t.Drained(),),
    }
    state = SeatState()
    for reached, events in steps.items():
        state, _ = run(state, *events)
        if reached is phase:
            return state
    raise AssertionError(phase)


def names(effects):
    return [type(effect).__name__ for effect in effects]


@pytest.mark.parametrize("phase", [Phase.READY, Phase.DRAINING, Phase.CHECKPOINTING])
def test_stuck_worker_with_requests_is_ended_and_they_are_put_back(phase):
    state, effects = run(at(phase), t.Stalled(1, STUCK))
    assert (state.phase, state.rung) == (Phase.STOPPING, 1)
    assert names(effects) == ["LoseRunning", "SendTerm"]
    assert effects[0].fault is STUCK


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.WARMING])
def test_worker_stuck_while_seating_fails_the_swap_with_its_stacks(phase):
    state, effects = run(at(phase), t.Stalled(1, STUCK))
    assert state.phase is Phase.STOPPING
    assert names(effects) == ["SwapFailed", "SendTerm"]
    assert effects[0].fault.facts["stacks"] == ["here"]


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.WARMING])
def test_standby_that_hung_before_it_was_taken_is_replaced_and_its_model_not_blamed(phase):
    stuck = t.Stalled(1, STUCK, was_idle=True)
    state, effects = run(at(phase), stuck)
    assert names(effects) == ["SendTerm"]
    state, _ = run(state, t.WorkerDied(1, GONE), t.Reclaimed(1))
    assert (state.phase, state.model, state.epoch) == (Phase.STARTING, "a", 2)
    assert not state.misses


def test_stuck_worker_is_killed_when_sigterm_does_nothing():
    state, _ = run(at(Phase.READY), t.Stalled(1, STUCK))
    state, effects = run(state, t.TimePassed(), now=state.deadline)
    assert names(effects) == ["SendKill"]


def test_model_whose_worker_hung_is_seated_again():
    state, _ = run(at(Phase.READY), t.Stalled(1, STUCK), t.WorkerDied(1, GONE), t.Reclaimed(1))
    assert (state.phase, state.model, state.epoch) == (Phase.STARTING, "a", 2)


def test_swap_goes_on_past_a_worker_that_hung_while_draining():
    state, _ = run(at(Phase.DRAINING), t.Stalled(1, STUCK), t.WorkerDied(1, GONE), t.Reclaimed(1))
    assert (state.phase, state.model) == (Phase.STARTING, "b")


def seated_again(state):
    epoch = state.epoch
    return run(
        state,
        t.Reclaimed(epoch),
        t.Greeted(epoch + 1),
        t.LoadEnded(epoch + 1),
        t.WarmEnded(epoch + 1),
    )[0]


def test_worker_that_hangs_again_and_again_is_given_up():
    state = at(Phase.READY)
    for _ in range(MAX_DEATHS):
        state, _ = run(state, t.Stalled(state.epoch, STUCK), t.WorkerDied(state.epoch, GONE))
        state = seated_again(state)
    state, _ = run(state, t.Stalled(state.epoch, STUCK), t.WorkerDied(state.epoch, GONE))
    state, effects = run(state, t.Reclaimed(state.epoch))
    assert state.phase is Phase.FAILED
    assert names(effects) == ["ReleaseSeat", "ResumeAdmission"]
    assert quarantine_of(state, "a", 2.0).reason == "stuck"


def test_deaths_long_ago_do_not_count():
    state = at(Phase.READY)
    now = 2.0
    for _ in range(3 * MAX_DEATHS):
        now += 300.0
        state, _ = run(state, t.WorkerDied(state.epoch, GONE), now=now)
        assert state.phase is Phase.RECLAIMING
        state = seated_again(state)


def test_progress_clears_the_deaths():
    state, _ = run(at(Phase.READY), t.WorkerDied(1, GONE))
    state, _ = run(seated_again(state), t.WorkAdvanced(2))
    assert state.deaths == ()


def test_exit_code_that_cannot_get_better_is_not_tried_again():
    broken = Fault(code="worker_lost", message="cannot import mlx", permanent=True)
    state, _ = run(at(Phase.READY), t.WorkerDied(1, broken))
    assert state.phase is Phase.FAILED
    assert "mlx" in quarantine_of(state, "a", 2.0).reason


def test_permanent_exit_while_loading_quarantines_at_once():
    broken = Fault(code="worker_lost", message="out of memory", permanent=True)
    state, _ = run(at(Phase.LOADING), t.WorkerDied(1, broken))
    assert quarantine_of(state, "a", 2.0).reason == "out of memory"


def test_first_restart_waits_for_nothing_and_the_next_wait_twice_as_long_each():
    waits = [back_off_s(deaths, LIMITS, 0.0) for deaths in range(1, 6)]
    assert waits == [0.0, 0.5, 1.0, 2.0, 4.0]
    assert back_off_s(50, LIMITS, 0.0) == MAX_BACK_OFF_S


def test_jitter_takes_at_most_half_away():
    assert back_off_s(2, LIMITS, 1.0) == LIMITS.back_off_s / 2


def test_second_restart_is_told_to_wait_and_has_time_for_it():
    state, _ = run(at(Phase.READY), t.WorkerDied(1, GONE))
    state, effects = run(seated_again(state), t.WorkerDied(2, GONE, 0.0))
    assert effects[-1] == t.AwaitMemory(2, "a", 0.5)
    assert state.deadline == 2.0 + 0.5 + LIMITS.reclaim_s


def test_grace_of_the_plan_goes_before_that_of_the_settings():
    state, _ = run(at(Phase.READY), t.Asked(plan(grace_s=0.25)))
    assert state.deadline == 2.25
