"""When a waiting model gets the seat where a model below 1 token a second has it or waits."""

import pytest
from msgspec.structs import replace

from hotseat.supervisor.scheduling.forecasts import Outlook, forecasts
from hotseat.supervisor.scheduling.learned_costs import Costs, ModelCosts
from hotseat.supervisor.scheduling.scheduler import SeatView, decide, kept_s
from hotseat.supervisor.scheduling.waiting import Waiting, is_slow_model
from hotseat.supervisor.settings.values import SchedulerSettings

POLICY = SchedulerSettings(min_seat_s=2.0, weight=4.0, grace_s=5.0, max_running=1)
Q_S = 12.0
"""Residency at a swap cost of 3 s; with the grace time 17 s."""
COSTS = Costs(
    models={"slow": ModelCosts(swap_s=3.0, turn_s=600.0), "quick": ModelCosts(swap_s=1.0)}
)


def waits(*models, **fields):
    return [
        Waiting(key=f"{model}{n}", model=model, order=n, since=float(n), **fields)
        for n, model in enumerate(models)
    ]


def told(waiting, now, **fields):
    view = SeatView(**({"model": "slow", "settled": True, "swap_cost_s": 3.0} | fields))
    target = {} if view.settled else {"target": "slow", "swap_began": 0.0}
    outlook = Outlook(seat=view, costs=COSTS, settings=POLICY, **target)
    return {key: one.wait_s for key, one in forecasts(outlook, waiting, now).items()}


@pytest.mark.parametrize(
    ("now", "is_slow", "wait_s"),
    [
        (0.0, False, Q_S + 5.0 + 1.0),
        (0.0, True, 3.0 + 1.0),
        (2.0, True, 1.0 + 1.0),
        (3.0, True, 0.0 + 1.0),
        (500.0, True, 0.0 + 1.0),
        (500.0, False, 5.0 + 1.0),
    ],
)
def test_slow_seat_is_left_when_its_swap_has_paid_and_without_grace(now, is_slow, wait_s):
    assert told(waits("quick"), now, running=1, is_slow=is_slow) == {"quick0": wait_s}


@pytest.mark.parametrize(("is_slow", "lasts_s"), [(False, Q_S + 5.0), (True, 3.0)])
def test_slow_model_that_is_being_seated_or_waits_before_another_is_known_too(is_slow, lasts_s):
    waiting = [*waits("slow", is_slow=is_slow), *waits("", "quick")[1:]]
    seating = told(waiting, 1.0, model=None, settled=False)
    assert (seating["slow0"], seating["quick1"]) == (2.0, 2.0 + lasts_s + 1.0)
    empty = told(waiting, 1.0, model=None)
    assert (empty["slow0"], empty["quick1"]) == (3.0, 3.0 + lasts_s + 1.0)


def test_model_of_which_one_request_would_begin_anew_keeps_the_seat_as_any_other():
    slow, anew = waits("slow", is_slow=True), waits("slow")
    assert [is_slow_model(one, "slow") for one in ([], slow, anew, slow + anew)] == [
        *(False, True, False, False)
    ]


def test_answer_of_a_slow_model_is_away_once_for_each_time_its_swap_cost_is_over():
    """600 s of answer are 200 times on the seat; `quick` has it for 9 s in between."""
    waiting = [*waits("slow", is_slow=True), *waits("", "quick")[1:]]
    away_s = 9.0 + 1.0 + 3.0
    assert told(waiting, 0.0, running=1, is_slow=True)["slow0"] == 600.0 + 200 * away_s
    assert told(waiting[:1], 0.0, running=1, is_slow=True)["slow0"] == 600.0


def test_slow_model_that_nobody_else_waits_for_is_never_away_whatever_its_swap_cost():
    view = SeatView(model="slow", settled=True, running=1, is_slow=True)
    costs = Costs(models={"slow": ModelCosts(turn_s=600.0)})
    outlook = Outlook(seat=view, costs=costs, settings=POLICY)
    assert forecasts(outlook, waits("slow", is_slow=True), 0.0)["slow0"].wait_s == 600.0


@pytest.mark.parametrize("is_slow", [False, True])
@pytest.mark.parametrize("cost_s", [0.0, 0.1, 3.0])
def test_seat_is_left_when_the_forecast_says(is_slow, cost_s):
    """Scheduler and forecast have one rule."""
    view = SeatView(model="slow", settled=True, running=1, swap_cost_s=cost_s, is_slow=is_slow)
    over_s = kept_s(POLICY, cost_s, is_slow=is_slow)
    assert decide(waits("quick"), [], view, over_s, POLICY).swap_to == "quick"
    if over_s:
        assert decide(waits("quick"), [], view, over_s - 1e-6, POLICY).swap_to is None
    costs = Costs(models=COSTS.models | {"slow": replace(COSTS.of("slow"), swap_s=cost_s)})
    outlook = Outlook(seat=view, costs=costs, settings=POLICY)
    wait_s = forecasts(outlook, waits("quick"), 0.0)["quick0"].wait_s
    assert wait_s == pytest.approx(over_s + (0.0 if is_slow else POLICY.grace_s) + 1.0)
