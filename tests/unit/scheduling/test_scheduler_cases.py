"""Single decisions of the scheduler, order within a model, lingering, estimates."""

import msgspec
import pytest

from hotseat.protocol.replies import Timing, Usage
from hotseat.supervisor.scheduling.expected_agents import (
    Ending,
    Lingering,
    note_arrival,
    note_end,
    note_seat,
)
from hotseat.supervisor.scheduling.forecasts import Outlook, first_start_s, forecasts
from hotseat.supervisor.scheduling.learned_costs import Costs, ModelCosts
from hotseat.supervisor.scheduling.model_queue import ModelQueue
from hotseat.supervisor.scheduling.scheduler import (
    Decision,
    SeatView,
    WantedSwap,
    decide,
    is_swap_moot,
)
from hotseat.supervisor.scheduling.waiting import Waiting, in_start_order
from hotseat.supervisor.settings.reader import load_settings
from hotseat.supervisor.settings.values import SchedulerSettings

POLICY = SchedulerSettings(
    min_seat_s=2.0, weight=4.0, grace_s=5.0, tool_linger_s=10.0, ageing_s=30.0, max_running=4
)
Q_S = 12.0
"""Residency at a swap cost of 3 s."""


def waits(*models, **fields):
    return [
        Waiting(key=f"{model}{n}", model=model, order=n, since=float(n), **fields)
        for n, model in enumerate(models)
    ]


def seat(model="a", **fields):
    return SeatView(**({"model": model, "settled": True, "swap_cost_s": 3.0} | fields))


def queue_after(*steps):
    """The queue after some decisions: (waiting, seat, now)."""
    queue = ModelQueue()
    for waiting, view, now in steps:
        queue = decide(waiting, [], view, now, POLICY, queue).queue
    return queue


# --- the seat ------------------------------------------------------------------------------------


def test_nothing_is_decided_while_the_seat_is_not_settled():
    queue = ModelQueue(seated="a")
    view = seat(settled=False, running=2)
    decision = decide(waits("a", "b"), [WantedSwap(swap=1, model="b")], view, 50.0, POLICY, queue)
    assert decision == Decision(queue=queue)


@pytest.mark.parametrize(
    ("waiting", "asked", "is_moot"),
    [
        ([], [], True),
        (waits("c"), [], True),
        (waits("b"), [], False),
        (waits("b", never_swaps=True), [], False),
        (waits("b", deadline=50.0), [], True),
        (waits("b", deadline=50.1), [], False),
        ([], [WantedSwap(swap=1, model="c")], True),
        ([], [WantedSwap(swap=1, model="b")], False),
    ],
)
def test_swap_is_moot_when_nobody_wants_its_model_any_more(waiting, asked, is_moot):
    assert is_swap_moot("b", waiting, asked, 50.0) is is_moot


def test_empty_seat_goes_to_the_model_that_came_first():
    decision = decide(waits("c", "b", "c"), [], seat(None), 5.0, POLICY)
    assert (decision.swap_to, decision.admit) == ("c", ())


def test_model_with_work_keeps_the_seat_for_its_residency_and_wakes_when_it_is_over():
    waiting = waits("a", "b")
    during = decide(waiting, [], seat(running=1), Q_S - 0.1, POLICY)
    assert (during.admit, during.swap_to, during.wake_at) == (("a0",), None, Q_S)
    after = decide(waiting, [], seat(running=1), Q_S, POLICY)
    assert (after.admit, after.swap_to) == ((), "b")
    assert (after.drain, after.grace_s) == ("suspend", 5.0)


@pytest.mark.parametrize(
    ("fields", "keeps_until", "grace_s"),
    [
        ({"running": 1}, Q_S, 5.0),
        ({"running": 1, "is_slow": True}, 3.0, 0.0),
        ({"running": 0, "is_slow": True}, 3.0, 0.0),
        ({"running": 1, "is_slow": True, "swap_cost_s": 9.0}, 9.0, 0.0),
    ],
)
def test_slow_model_keeps_the_seat_for_what_its_swap_cost_and_gives_it_up_at_once(
    fields, keeps_until, grace_s
):
    waiting = waits("a", "b")
    before = decide(waiting, [], seat(**fields), keeps_until - 0.1, POLICY)
    assert (before.swap_to, before.wake_at) == (None, keeps_until)
    after = decide(waiting, [], seat(**fields), keeps_until, POLICY)
    assert (after.swap_to, after.drain, after.grace_s) == ("b", "suspend", grace_s)
    alone = decide(waits("a"), [], seat(**fields), 1e6, POLICY)
    assert (alone.admit, alone.swap_to) == (("a0",), None)


def test_model_without_work_gives_way_at_once_and_has_nothing_to_drain():
    decision = decide(waits("b"), [], seat(), 0.5, POLICY)
    assert (decision.swap_to, decision.grace_s) == ("b", 0.0)


def test_nobody_else_waiting_lets_the_seated_model_go_on_for_ever():
    decision = decide(waits("a"), [], seat(running=1), 1e6, POLICY)
    assert (decision.admit, decision.swap_to, decision.wake_at) == (("a0",), None, None)


def test_requests_that_only_wait_never_make_a_swap_happen_but_run_when_their_model_is_seated():
    waiting = waits("a", "b", never_swaps=True)
    decision = decide(waiting, [], seat(), 1e6, POLICY)
    assert (decision.admit, decision.swap_to) == (("a0",), None)


def test_asked_swaps_go_first_in_their_order_and_ignore_residency():
    asked = [WantedSwap(swap=7, model="c"), WantedSwap(swap=8, model="b")]
    decision = decide(waits("a", "b"), asked, seat(running=1), 0.0, POLICY)
    assert (decision.swap_to, decision.asked, decision.admit) == ("c", 7, ())


def test_no_more_requests_start_than_fit():
    waiting = waits(*"aaaaaa")
    assert len(decide(waiting, [], seat(running=1), 0.0, POLICY).admit) == 3
    assert decide(waiting, [], seat(running=9), 0.0, POLICY).admit == ()


# --- the queue of models -------------------------------------------------------------------------


def test_model_keeps_its_place_when_its_first_request_is_gone():
    queue = queue_after((waits("a", "b", "c", "b"), seat(running=1), 1.0))
    rest = [entry for entry in waits("a", "b", "c", "b") if entry.key != "b1"]
    queue = decide(rest, [], seat(running=1), 2.0, POLICY, queue).queue
    assert queue.models == ("b", "c")


def test_model_that_lost_the_seat_joins_behind_those_that_came_during_the_swap():
    first = waits("a", "b")
    queue = queue_after((first, seat(running=1), Q_S))
    later = [*first, *[Waiting(key="c9", model="c", order=9, since=13.0)]]
    queue = decide(later, [], seat("b", seated_at=15.0), 15.0, POLICY, queue).queue
    assert queue.models == ("c", "a")


def test_model_whose_requests_are_all_gone_leaves_the_queue():
    queue = queue_after((waits("a", "b"), seat(running=1), 1.0), (waits("a"), seat(running=1), 2.0))
    assert queue.models == ()


# --- order within a model ------------------------------------------------------------------------


def request(key, since, **fields):
    return Waiting(key=key, model="a", order=int(since * 10), since=since, **fields)


def keys_in_order(*entries):
    return [entry.key for entry in in_start_order(entries, POLICY.ageing_s)]


def test_higher_priority_starts_first_until_the_lower_has_waited_long_enough():
    low, soon, late = (
        request("low", 0.0),
        *(request(key, since, priority=1) for key, since in (("soon", 29.0), ("late", 31.0))),
    )
    assert keys_in_order(low, late, soon) == ["soon", "low", "late"]


def test_near_deadline_starts_before_requests_that_came_a_little_earlier():
    urgent = request("urgent", 5.0, deadline=10.0)
    patient = request("patient", 4.0, deadline=4000.0)
    assert keys_in_order(request("first", 0.0), patient, urgent) == ["urgent", "first", "patient"]


def test_passed_deadline_is_refused_not_started_and_the_next_one_wakes():
    waiting = [request("over", 0.0, deadline=3.0), request("soon", 0.0, deadline=8.0)]
    decision = decide(waiting, [], seat(), 3.0, POLICY)
    assert (decision.expire, decision.admit, decision.wake_at) == (("over",), ("soon",), 8.0)


def test_deadline_passes_during_a_swap_too():
    view = seat(settled=False)
    decision = decide([request("over", 0.0, deadline=3.0)], [], view, 4.0, POLICY)
    assert (decision.expire, decision.admit) == (("over",), ())


# --- lingering -----------------------------------------------------------------------------------


def ending(**fields):
    return Ending(**({"who": "x", "model": "a", "at": 100.0} | fields))


def expects(state, end, swap_cost_s=6.0):
    return note_end(state, end, swap_cost_s, POLICY)


SEATED = note_seat(Lingering(), "a")


@pytest.mark.parametrize(
    ("end", "swap_cost_s", "until"),
    [
        (ending(), 6.0, 0.0),
        (ending(runs_tool=True), 6.0, 106.0),
        (ending(runs_tool=True), 60.0, 110.0),
        (ending(hold_s=2.0), 6.0, 102.0),
        (ending(hold_s=50.0), 6.0, 106.0),
        (ending(runs_tool=True, yields=True), 6.0, 0.0),
        (ending(runs_tool=True, model="b"), 6.0, 0.0),
    ],
)
def test_seat_lingers_for_the_shortest_of_tool_limit_and_swap(end, swap_cost_s, until):
    assert expects(SEATED, end, swap_cost_s).until == until


def test_learned_tool_time_bounds_the_next_wait():
    state = expects(SEATED, ending(runs_tool=True))
    state = note_arrival(state, "x", "a", 101.0)
    assert (state.until, state.learned_s("a")) == (0.0, 1.0)
    assert expects(state, ending(runs_tool=True, at=110.0)).until == 111.0


def test_tool_known_to_take_longer_than_a_swap_is_not_waited_for_until_tools_get_quicker():
    state = note_arrival(expects(SEATED, ending(runs_tool=True)), "x", "a", 130.0)
    assert state.learned_s("a") == 30.0
    at = 200.0
    for _ in range(20):
        state = note_end(state, ending(runs_tool=True, at=at), 6.0, POLICY)
        state = note_arrival(state, "x", "a", at + 1.0)
        at += 10.0
    assert state.learned_s("a") < 2.0
    assert expects(state, ending(runs_tool=True, at=at)).until > at


def test_tool_time_is_learned_from_agents_that_come_back_to_a_lost_seat():
    state = note_seat(expects(SEATED, ending(runs_tool=True)), "b")
    assert note_arrival(state, "x", "a", 140.0).learned_s("a") == 40.0


def test_yield_of_one_agent_leaves_another_expected():
    state = expects(SEATED, ending(who="y", runs_tool=True))
    state = expects(state, ending(runs_tool=True))
    assert expects(state, ending(yields=True)).until == 106.0


def test_another_model_on_the_seat_forgets_who_was_expected_but_not_what_was_learned():
    state = note_arrival(expects(SEATED, ending(runs_tool=True)), "x", "a", 102.0)
    state = note_seat(expects(state, ending(runs_tool=True)), "b")
    assert (state.until, state.learned_s("a")) == (0.0, 2.0)


def test_memory_of_agents_is_bounded():
    state = SEATED
    for number in range(1000):
        state = expects(state, ending(who=str(number), runs_tool=True))
    assert len(state.expected) <= 64


def test_lingering_model_keeps_the_seat_but_never_beyond_its_residency():
    view = seat(seated_at=0.0, linger_until=4.0)
    decision = decide(waits("b"), [], view, 3.0, POLICY)
    assert (decision.swap_to, decision.wake_at) == (None, 4.0)
    assert decide(waits("b"), [], view, 4.0, POLICY).swap_to == "b"
    late = seat(seated_at=0.0, linger_until=Q_S + 3.0)
    assert decide(waits("b"), [], late, Q_S, POLICY).swap_to == "b"


# --- estimates -----------------------------------------------------------------------------------

COSTS = Costs(
    models={
        "a": ModelCosts(swap_s=3.0, turn_s=10.0),
        "b": ModelCosts(turn_s=4.0),
        "c": ModelCosts(turn_s=7.0),
    }
)


def told(waiting, view, now, **fields):
    outlook = Outlook(seat=view, costs=COSTS, settings=POLICY, **fields)
    return forecasts(outlook, waiting, now)


def test_request_of_the_seated_model_waits_for_nothing():
    forecast = told(waits("a"), seat(running=1), 1.0)["a0"]
    assert (forecast.position, forecast.wait_s) == (0, 0.0)


def test_wait_adds_residencies_and_swaps_of_the_models_before():
    waiting = waits("b", "c")
    found = told(waiting, seat(running=1), 2.0)
    # a works 10 s; a swap; b works 4 s; a swap.
    assert (found["b0"].position, found["b0"].wait_s) == (0, 13.0)
    assert (found["c1"].position, found["c1"].wait_s) == (1, 20.0)


def test_wait_ends_with_residency_and_grace_although_work_is_left():
    found = told([*waits(*"aaaaaaaaaa"), Waiting(key="b", model="b", order=99)], seat(), 2.0)
    assert found["b"].wait_s == (Q_S - 2.0) + POLICY.grace_s + 3.0


def test_wait_counts_the_rounds_before_when_not_all_fit():
    found = told(waits(*"aaaaaa"), seat(running=2), 1.0)
    assert [found[f"a{n}"].wait_s for n in range(6)] == [0.0, 0.0, 10.0, 10.0, 10.0, 10.0]
    assert [found[f"a{n}"].position for n in range(6)] == [0, 1, 2, 3, 4, 5]


def test_swap_under_way_counts_with_what_is_left_of_it():
    view = seat("a", settled=False)
    found = told(waits("b"), view, 101.0, target="b", swap_began=100.0)
    assert found["b0"].wait_s == 2.0


def test_unknown_cost_is_said_to_be_unknown():
    outlook = Outlook(seat=seat(), settings=POLICY)
    assert forecasts(outlook, waits("b"), 1.0)["b0"].wait_s is None
    assert first_start_s(outlook, waits("b"), 1.0) is None


def test_request_that_only_waits_for_its_model_comes_last_at_no_known_time():
    waiting = [*waits("c", never_swaps=True), *waits("x", "b")[1:]]
    found = told(waiting, seat(), 1.0)
    assert (found["c0"].position, found["c0"].wait_s) == (1, None)


def test_swap_costs_are_those_of_the_model_swapped_to_and_the_mean_stands_in():
    costs = Costs().with_swap("small", 2.0).with_swap("large", 10.0)
    assert [costs.swap_to(name) for name in ("small", "large", "new")] == [2.0, 10.0, 6.0]
    assert costs.with_turn("small", Usage(), Timing(total_s=1.0)).swap_to("large") == 10.0


def test_wait_counts_the_swap_to_each_model_at_its_own_cost():
    costs = COSTS
    for model, swap_s in (("b", 1.0), ("c", 9.0)):
        costs = costs.with_swap(model, swap_s)
    outlook = Outlook(seat=seat(running=1), costs=costs, settings=POLICY)
    found = forecasts(outlook, waits("b", "c"), 2.0)
    # a works 10 s; a swap of 1 s; b works 4 s; a swap of 9 s.
    assert (found["b0"].wait_s, found["c1"].wait_s) == (11.0, 24.0)


def test_turns_are_learned_as_a_running_mean_of_bounded_size():
    costs = Costs()
    for number in range(200):
        costs = costs.with_turn(f"m{number}", Usage(), Timing(total_s=1.0))
    assert len(costs.models) <= 64
    for total_s in (10.0, 20.0):
        costs = costs.with_turn("a", Usage(), Timing(total_s=total_s))
    assert costs.of("a").turn_s == pytest.approx(13.0)
    assert msgspec.msgpack.encode(costs)


# --- settings ------------------------------------------------------------------------------------


def test_settings_of_the_scheduler_are_read_and_grace_is_that_of_the_drain(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(
        '[scheduling]\nweight = 3\ndrain = "finish"\nmax_running = 2\n[deadlines]\ngrace_s = 4\n'
    )
    policy = load_settings(path, {}).scheduler
    assert (policy.weight, policy.drain, policy.max_running, policy.grace_s) == (
        3,
        "finish",
        2,
        4.0,
    )
    untouched = SchedulerSettings()
    assert (policy.min_seat_s, policy.tool_linger_s) == (
        untouched.min_seat_s,
        untouched.tool_linger_s,
    )


def test_exact_lets_one_request_run_whatever_else_is_set(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[scheduling]\nexact = true\nmax_running = 5\n")
    assert load_settings(path, {}).scheduler.max_running == 1


def test_settings_left_alone_are_those_of_the_scheduler(tmp_path):
    assert load_settings(tmp_path / "none.toml", {}).scheduler == SchedulerSettings()
