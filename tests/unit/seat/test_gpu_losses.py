"""Workers that lose the GPU: neither request nor model is to blame, and nothing spins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.clocks.seat_course import CAUSE, LIMITS, run, seated
from tests.support.stub_worker.faults import METAL_ERROR

from hotseat.protocol.exits import EX_GPU
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.gpu_losses import (
    MAX_IN_A_ROW,
    SEAT_AGAIN,
    after_loss,
    gpu_refusal,
)
from hotseat.supervisor.seat.rules.moves import back_off_s
from hotseat.supervisor.seat.rules.states import GpuLosses, Phase, SeatState, SwapPlan
from hotseat.supervisor.seat.rules.table import quarantines
from hotseat.supervisor.seat.rules.worker_exits import describe_exit, gpu_reason

METAL = "[METAL] Command buffer execution failed: "
INTERACTIVITY = (
    "Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)"
)
LOST = describe_exit(EX_GPU, (), [METAL_ERROR], epoch=1)


def lost(epoch, jitter=0.0):
    return t.WorkerDied(epoch, LOST, jitter)


def awaits(effects):
    return next(effect for effect in effects if isinstance(effect, t.AwaitMemory))


def reseat(state):
    """From the end of a worker to the next one's readiness, in which nothing is computed."""
    epoch = state.epoch
    state, _ = run(
        state,
        t.Reclaimed(epoch),
        t.Greeted(epoch + 1),
        t.LoadEnded(epoch + 1),
        t.WarmEnded(epoch + 1),
    )
    return state


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ([METAL_ERROR], "command buffer: submissions ignored"),
        (
            [f"{METAL}Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)"],
            "command buffer: timeout",
        ),
        (
            [
                f"RuntimeError: {METAL}{INTERACTIVITY}",
                "a line behind it",
            ],
            "command buffer: impacting interactivity",
        ),
        ([f"{METAL}Internal Error (0000000e:Internal Error)"], "command buffer: another error"),
        ([], "command buffer: another error"),
    ],
)
def test_class_of_the_error_is_named_and_nothing_else_of_its_text(stderr, reason):
    assert gpu_reason(stderr) == reason
    fault = describe_exit(EX_GPU, (), stderr, epoch=3)
    assert (fault.code, fault.gpu, fault.permanent, fault.by_system) == (
        "worker_lost",
        reason,
        False,
        False,
    )
    assert "restart the Mac" in fault.message
    assert reason in fault.message


@pytest.mark.parametrize("code", [0, 70, 71, -9])
def test_other_ends_are_none_of_the_gpu(code):
    assert describe_exit(code, (), [METAL_ERROR], epoch=1).gpu == ""


def test_first_loss_seats_the_same_model_at_once():
    state, effects = run(seated(), lost(1))
    assert effects[0] == t.LoseRunning(LOST)
    assert (state.phase, state.plan.target, awaits(effects).delay_s) == (
        Phase.RECLAIMING,
        "a",
        0.0,
    )
    assert (state.gpu.in_a_row, state.deaths) == (1, ())


def test_losses_in_a_row_are_apart_longer_each_time_then_the_seat_is_given_up():
    state, delays = seated(), []
    for _ in range(MAX_IN_A_ROW):
        state, effects = run(state, lost(state.epoch))
        delays.append(awaits(effects).delay_s)
        state = reseat(state)
    assert delays == [back_off_s(n, LIMITS, 0.0) for n in range(1, MAX_IN_A_ROW + 1)]
    state, effects = run(state, lost(state.epoch))
    assert state.phase is Phase.FAILED
    assert t.ReleaseSeat() in effects
    assert "restart the Mac" in state.fault.message
    assert state.fault.facts["in_a_row"] == MAX_IN_A_ROW + 1
    assert quarantines(state, 2.0) == [], "no model is to blame"


def test_token_in_between_makes_losses_past():
    state = reseat(run(seated(), lost(1))[0])
    state, _ = run(state, t.WorkAdvanced(state.epoch))
    assert state.gpu == GpuLosses()


def test_loss_while_a_model_is_loaded_is_no_miss_of_it_and_the_swap_goes_on():
    plan = SwapPlan(swap=2, target="b", cause=CAUSE)
    state, _ = run(SeatState(), t.Asked(plan), t.Reclaimed(0), t.Greeted(1))
    state, effects = run(state, lost(1))
    assert (state.phase, state.plan) == (Phase.RECLAIMING, plan)
    assert not any(isinstance(effect, t.SwapFailed) for effect in effects)
    assert state.misses == ()


@pytest.mark.parametrize("phase", ["starting", "loading", "warming"])
def test_model_that_was_left_is_gone_back_to_when_a_few_were_lost_over_the_next(phase):
    plan = SwapPlan(swap=2, target="b", cause=CAUSE)
    gone = t.Fault(code="worker_lost", message="asked")
    state, _ = run(seated(), t.Asked(plan), t.Drained(), t.CheckpointEnded())
    state, effects = run(state, t.WorkerDied(1, gone))
    for _ in range(SEAT_AGAIN + 1):
        assert not any(isinstance(effect, t.SwapFailed) for effect in effects)
        epoch = state.epoch + 1
        on_the_way = [t.Reclaimed(epoch - 1), t.Greeted(epoch), t.LoadEnded(epoch)]
        steps = ["starting", "loading", "warming"].index(phase) + 1
        state, _ = run(state, *on_the_way[:steps])
        assert state.phase.value == phase
        state, effects = run(state, lost(epoch))
    assert effects[0] == t.SwapFailed(plan, LOST, "a")
    assert (state.phase, state.plan.target, state.misses) == (Phase.RECLAIMING, "a", ())


def test_gpu_that_fails_under_every_worker_ends_in_a_named_state():
    plan = SwapPlan(swap=2, target="b", cause=CAUSE)
    state, _ = run(SeatState(), t.Asked(plan))
    for _ in range(MAX_IN_A_ROW + 1):
        epoch = state.epoch + 1
        state, effects = run(state, t.Reclaimed(epoch - 1), t.Greeted(epoch), lost(epoch))
    failed = next(effect for effect in effects if isinstance(effect, t.SwapFailed))
    assert (failed.plan, failed.back_to) == (plan, None)
    assert failed.fault == gpu_refusal(state.gpu, 2.0)
    state, effects = run(state, t.Reclaimed(state.epoch))
    assert state.phase is Phase.FAILED
    assert t.ReleaseSeat() in effects


@given(st.lists(st.floats(0.0, 5000.0), max_size=40))
def test_workers_of_a_broken_gpu_are_started_ever_more_seldom(waits_s):
    known, now, pauses = GpuLosses(), 0.0, []
    for waited_s in waits_s:
        if gpu_refusal(known, now) is None:
            known = after_loss(known, "x", now)
            pauses.append(known.until - now)
        now += waited_s
    assert all(pause == 0.0 for pause in pauses[:MAX_IN_A_ROW])
    later = [round(pause, 6) for pause in pauses[MAX_IN_A_ROW:]]
    assert later == sorted(later)
    assert all(59.0 < pause < 3601.0 for pause in later)
