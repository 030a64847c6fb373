"""What the daemon knows ahead: learned costs, hints of agents, what to prepare, when it starts."""

import pytest
from msgspec.structs import replace

from hotseat.protocol.messages import Generate
from hotseat.protocol.replies import Done, Timing, Usage
from hotseat.supervisor.scheduling.forecaster import Forecaster
from hotseat.supervisor.scheduling.learned_costs import Costs, ModelCosts
from hotseat.supervisor.scheduling.model_queue import ModelQueue
from hotseat.supervisor.scheduling.scheduler import SeatView
from hotseat.supervisor.scheduling.waiting import Waiting
from hotseat.supervisor.settings.values import SchedulerSettings

POLICY = SchedulerSettings(tool_linger_s=10.0)


class Case:
    """Foresight with the seat at model `a`."""

    def __init__(self, waiting=(), swap_s=6.0):
        self.waiting = list(waiting)
        self.forecaster = Forecaster(lambda: self.waiting)
        if swap_s is not None:
            self.forecaster.swapped("a", swap_s)
        self.seat("a")

    def seat(self, model, now=0.0, **fields):
        view = SeatView(**({"model": model, "settled": True, "swap_cost_s": 6.0} | fields))
        return self.forecaster.seat_is(view, None, now, POLICY)

    def end(self, at=100.0, *, finish="stop", timing=None, **hints):
        request = Generate(model="a", prompt="x", session="s", **hints)
        done = Done(
            model="a",
            text="",
            tokens=(),
            finish_reason=finish,
            usage=Usage(),
            timing=timing or Timing(total_s=5.0),
        )
        self.forecaster.ended("c", request, done, at)


@pytest.mark.parametrize(
    ("finish", "hints", "until"),
    [
        ("stop", {}, 0.0),
        ("tool_calls", {}, 106.0),
        ("stop", {"hold_s": 2.0}, 102.0),
        ("cancelled", {"hold_s": 2.0}, 0.0),
        ("tool_calls", {"yield_": True}, 0.0),
    ],
)
def test_end_of_a_turn_says_how_long_the_seat_waits_for_its_agent(finish, hints, until):
    case = Case()
    case.end(finish=finish, **hints)
    assert case.seat("a").linger_until == until


def test_agent_that_is_back_is_waited_for_no_longer():
    case = Case()
    case.end(hold_s=5.0)
    case.forecaster.arrived("c", Generate(model="a", prompt="y", session="s"), "a", 101.0)
    assert case.seat("a").linger_until == 0.0


def test_other_agent_of_the_same_client_is_still_waited_for():
    case = Case()
    case.end(hold_s=5.0, agent="coder")
    other = Generate(model="a", prompt="y", session="s", agent="critic")
    case.forecaster.arrived("c", other, "a", 101.0)
    assert case.seat("a").linger_until == 105.0
    back = Generate(model="a", prompt="y", session="s", agent="coder")
    case.forecaster.arrived("c", back, "a", 102.0)
    assert case.seat("a").linger_until == 0.0


def test_next_model_is_prepared_only_when_nobody_waits_and_forgotten_with_the_seat():
    case = Case()
    assert case.forecaster.up_next is None
    case.end(next_model="b")
    assert case.forecaster.up_next == "b"
    case.forecaster.queue_is(ModelQueue(models=("c",)))
    assert case.forecaster.up_next == "c"
    case.forecaster.queue_is(ModelQueue())
    case.seat("b")
    assert case.forecaster.up_next is None


def test_turn_cost_is_the_time_on_the_worker_alone():
    case = Case()
    case.end(timing=Timing(total_s=20.0, queue_s=4.0, swap_s=6.0))
    assert case.forecaster.costs.of("a").turn_s == 10.0


def test_cancelled_turn_says_nothing_about_what_turns_cost():
    case = Case()
    case.end(finish="cancelled")
    assert case.forecaster.costs.of("a").turn_s is None


def test_forecast_is_made_anew_for_a_request_that_has_just_come():
    case = Case()
    assert case.forecaster.forecast("r1", 0.0) is None
    case.waiting.append(Waiting(key="r1", model="b", order=1))
    case.forecaster.arrived("c", Generate(model="b", prompt="x"), "b", 0.0)
    forecast = case.forecaster.forecast("r1", 0.0)
    assert (forecast.position, forecast.wait_s) == (0, 6.0)
    assert case.forecaster.room_in_s(0.0) == 6.0


def test_unmeasured_swap_is_not_taken_for_a_free_one():
    case = Case([Waiting(key="r1", model="b", order=1)], swap_s=None)
    assert case.forecaster.forecast("r1", 0.0).wait_s is None


def test_request_that_has_not_come_yet_would_wait_behind_those_that_have():
    case = Case([Waiting(key="r1", model="b", order=1)])
    case.forecaster.outlook = replace(
        case.forecaster.outlook,
        costs=Costs(models={"a": ModelCosts(swap_s=6.0), "b": ModelCosts(turn_s=4.0)}),
    )
    assert case.forecaster.wait_of_new_s("a", 0.0) == 0.0
    assert case.forecaster.wait_of_new_s("c", 0.0) == 6.0 + 4.0 + 6.0


@pytest.mark.parametrize(("is_slow", "lasts_s"), [(False, 58.0), (True, 6.0)])
def test_request_that_has_not_come_yet_waits_for_no_answer_of_a_slow_model(is_slow, lasts_s):
    """Normally b would have the seat for q of 48 s and 10 s of grace."""
    case = Case([Waiting(key="r1", model="b", order=1, is_slow=is_slow)])
    assert case.forecaster.wait_of_new_s("c", 0.0) == 6.0 + lasts_s + 6.0
    assert case.forecaster.wait_of_new_s("b", 0.0) == 6.0
