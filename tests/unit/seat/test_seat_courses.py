"""Whole courses of the seat, event by event: swaps, failures, drains and the stop ladder."""

from tests.support.clocks.seat_course import CAUSE, LIMITS, run, seated

from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.states import Fault, Phase, SeatState, SwapPlan
from hotseat.supervisor.seat.rules.table import quarantine_of


def test_swap_to_other_model_goes_round_in_the_fixed_order():
    plan = SwapPlan(swap=2, target="b", cause=CAUSE)
    state, effects = run(
        seated(),
        t.Asked(plan),
        t.Drained(),
        t.CheckpointEnded(),
        t.WorkerDied(1, Fault(code="worker_lost", message="asked")),
        t.Reclaimed(1),
        t.Greeted(2),
        t.LoadEnded(2),
        t.WarmEnded(2),
    )
    assert [type(effect).__name__ for effect in effects] == [
        "StopAdmission",
        "SendCheckpoint",
        "AskStop",
        "AwaitMemory",
        "Spawn",
        "SendLoad",
        "SendWarm",
        "SwapDone",
        "ResumeAdmission",
    ]
    assert (state.phase, state.model, state.epoch) == (Phase.READY, "b", 2)


def test_checkpoint_that_fails_keeps_the_old_worker_seated():
    plan = SwapPlan(swap=2, target="b", cause=CAUSE)
    full = Fault(code="disk_full", message="full")
    state, effects = run(seated(), t.Asked(plan), t.Drained(), t.CheckpointEnded(full))
    assert (state.phase, state.model, state.epoch) == (Phase.READY, "a", 1)
    assert effects[-1] == t.SwapFailed(plan, full, "a")


def test_target_that_does_not_load_gives_the_seat_back():
    plan = SwapPlan(swap=2, target="b", cause=CAUSE)
    bad = Fault(code="model_unavailable", message="bad weights")
    gone = Fault(code="worker_lost", message="x")
    state, effects = run(
        seated(),
        t.Asked(plan),
        t.Drained(),
        t.CheckpointEnded(),
        t.WorkerDied(1, gone),
        t.Reclaimed(1),
        t.Greeted(2),
        t.LoadEnded(2, bad),
        t.WorkerDied(2, gone),
        t.Reclaimed(2),
        t.Greeted(3),
        t.LoadEnded(3),
        t.WarmEnded(3),
    )
    assert t.SwapFailed(plan, bad, "a") in effects
    assert (state.phase, state.model, state.epoch) == (Phase.READY, "a", 3)


def test_target_that_fails_twice_is_quarantined_and_freed_again():
    state = SeatState()
    bad = Fault(code="model_unavailable", message="bad")
    for swap in (1, 2):
        plan = SwapPlan(swap=swap, target="b", cause=CAUSE)
        epoch = state.epoch
        state, _ = run(
            state,
            t.Asked(plan),
            t.Reclaimed(epoch),
            t.Greeted(epoch + 1),
            t.LoadEnded(epoch + 1, bad),
            t.WorkerDied(epoch + 1, bad),
            t.Reclaimed(epoch + 1),
        )
        assert state.phase is Phase.EMPTY
        assert (quarantine_of(state, "b", 2.0) is not None) == (swap == 2)
    assert quarantine_of(state, "b", 1000.0) is None


def test_worker_that_dies_idle_is_seated_again():
    state, effects = run(
        seated(), t.WorkerDied(1, Fault(code="worker_lost", message="killed")), t.Reclaimed(1)
    )
    assert (state.phase, state.model, state.epoch) == (Phase.STARTING, "a", 2)
    assert isinstance(effects[0], t.LoseRunning)


def test_worker_that_keeps_dying_without_progress_is_given_up():
    state = seated()
    for _ in range(5):
        epoch = state.epoch
        state, _ = run(
            state,
            t.WorkerDied(epoch, Fault(code="worker_lost", message="x")),
            t.Reclaimed(epoch),
            t.Greeted(epoch + 1),
            t.LoadEnded(epoch + 1),
            t.WarmEnded(epoch + 1),
        )
    state, _ = run(state, t.WorkerDied(state.epoch, Fault(code="worker_lost", message="x")))
    assert state.phase is Phase.FAILED
    assert quarantine_of(state, "a", 2.0) is not None


def test_requests_are_suspended_when_grace_is_over():
    plan = SwapPlan(swap=2, target="b", cause=CAUSE)
    state, _ = run(seated(), t.Asked(plan))
    state, effects = run(state, t.TimePassed(), now=2.0 + LIMITS.grace_s)
    assert (state.phase, effects) == (Phase.DRAINING, [t.SuspendRunning()])


def test_requests_are_cancelled_when_grace_is_over_and_the_policy_says_so():
    plan = SwapPlan(swap=2, target="b", cause=CAUSE, drain="cancel")
    state, _ = run(seated(), t.Asked(plan))
    state, effects = run(state, t.TimePassed(), now=2.0 + LIMITS.grace_s)
    assert effects == [t.CancelRunning()]


def test_swap_in_place_keeps_the_process_under_a_new_epoch():
    plan = SwapPlan(swap=2, target="b", cause=CAUSE, mode="in-process")
    state, effects = run(
        seated(),
        t.Asked(plan),
        t.Drained(),
        t.CheckpointEnded(),
        t.UnloadEnded(1),
        t.Reclaimed(1),
        t.LoadEnded(2),
        t.WarmEnded(2),
    )
    assert (state.phase, state.model, state.epoch) == (Phase.READY, "b", 2)
    assert t.SendReseat(2, "b") in effects
    assert not any(isinstance(effect, t.Spawn | t.AskStop) for effect in effects)


def test_swap_in_place_turns_into_a_process_swap_when_memory_does_not_come_back():
    plan = SwapPlan(swap=2, target="b", cause=CAUSE, mode="in-process")
    kept = Fault(code="memory_stranded", message="kept")
    state, effects = run(
        seated(),
        t.Asked(plan),
        t.Drained(),
        t.CheckpointEnded(),
        t.UnloadEnded(1, kept),
        t.WorkerDied(1, kept),
        t.Reclaimed(1),
        t.Greeted(2),
        t.LoadEnded(2),
        t.WarmEnded(2),
    )
    assert (state.phase, state.model, state.epoch) == (Phase.READY, "b", 2)
    done = next(effect for effect in effects if isinstance(effect, t.SwapDone))
    assert done.plan.mode == "process"


def test_drain_that_takes_too_long_is_taken_back():
    plan = SwapPlan(swap=2, target="b", cause=CAUSE, drain="finish")
    state, _ = run(seated(), t.Asked(plan))
    state, effects = run(state, t.TimePassed(), now=2.0 + LIMITS.drain_s)
    assert state.phase is Phase.READY
    assert [type(effect).__name__ for effect in effects] == ["ResumeAdmission", "SwapFailed"]
    assert effects[1].fault.code == "draining"


def test_stop_ladder_climbs_rung_by_rung_and_names_what_is_left():
    plan = SwapPlan(swap=2, target="b", cause=CAUSE)
    state, _ = run(seated(), t.Asked(plan), t.Drained(), t.CheckpointEnded())
    kinds, now = [], 2.0
    for _ in range(3):
        now = state.deadline
        state, effects = run(state, t.TimePassed(), now=now)
        kinds += [type(effect).__name__ for effect in effects]
    assert kinds[:3] == ["DumpStacks", "SendTerm", "SendKill"]
    assert state.phase is Phase.MEMORY_STRANDED
    assert "ReleaseSeat" not in kinds
