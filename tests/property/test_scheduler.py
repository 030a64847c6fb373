"""Who starts and who gets the seat: design.md section 8 as far as this version goes."""

from hypothesis import given
from hypothesis import strategies as st

from hotseat.supervisor.core.scheduler import (
    SchedulerSettings,
    SeatView,
    Waiting,
    WantedSwap,
    decide,
    queue_position,
)

MODELS = ("a", "b", "c")
SETTINGS = SchedulerSettings(min_seat_s=2.0, weight=4.0)
REQUESTS = st.lists(st.tuples(st.sampled_from(MODELS), st.booleans()), max_size=8)
SWAPS = st.lists(st.sampled_from(MODELS), max_size=3)
SEATED = st.one_of(st.none(), st.sampled_from(MODELS))
SECONDS = st.floats(0.0, 30.0)


def waiting_of(requests):
    return [
        Waiting(key=f"r{order}", model=model, order=order, never_swaps=never)
        for order, (model, never) in enumerate(requests)
    ]


def wanted_of(models):
    return [WantedSwap(swap=number, model=model) for number, model in enumerate(models, start=1)]


@given(requests=REQUESTS, swaps=SWAPS, model=SEATED, running=st.integers(0, 3), now=SECONDS)
def test_nothing_starts_and_nothing_swaps_while_the_seat_is_not_settled(
    requests, swaps, model, running, now
):
    seat = SeatView(model=model, settled=False, running=running)
    decision = decide(waiting_of(requests), wanted_of(swaps), seat, now, SETTINGS)
    assert decision == type(decision)()


@given(requests=REQUESTS, swaps=SWAPS, model=SEATED, running=st.integers(0, 3), now=SECONDS,
       cost=SECONDS)  # fmt: skip
def test_asked_swaps_go_first_in_the_order_they_were_asked_for(
    requests, swaps, model, running, now, cost
):
    seat = SeatView(model=model, settled=True, running=running, swap_cost_s=cost)
    decision = decide(waiting_of(requests), wanted_of(swaps), seat, now, SETTINGS)
    if swaps:
        assert (decision.swap_to, decision.asked) == (swaps[0], 1)
    else:
        assert decision.asked is None


@given(requests=REQUESTS, model=SEATED, running=st.integers(0, 3), now=SECONDS, cost=SECONDS)
def test_seated_model_with_work_keeps_the_seat_for_its_residency_and_no_longer(
    requests, model, running, now, cost
):
    waiting = waiting_of(requests)
    seat = SeatView(model=model, settled=True, running=running, swap_cost_s=cost)
    decision = decide(waiting, [], seat, now, SETTINGS)
    mine = tuple(entry.key for entry in waiting if entry.model == model)
    others = [entry for entry in waiting if entry.model != model and not entry.never_swaps]
    has_work = model is not None and bool(mine or running)
    residency_s = max(SETTINGS.min_seat_s, SETTINGS.weight * cost)
    if not others:
        assert decision.admit == mine, "nobody else waits: the seated model's requests start"
        assert decision.swap_to is None
    elif has_work and now < residency_s:
        assert decision.admit == mine
        assert decision.swap_to is None
        assert decision.wake_at == residency_s, "nobody would look again when it is over"
    else:
        assert decision.swap_to == min(others, key=lambda entry: entry.order).model
        assert decision.admit == ()


@given(model=SEATED, running=st.integers(0, 2), now=SECONDS)
def test_requests_that_only_wait_never_make_a_swap_happen(model, running, now):
    waiting = waiting_of([(name, True) for name in MODELS])
    seat = SeatView(model=model, settled=True, running=running)
    assert decide(waiting, [], seat, now, SETTINGS).swap_to is None


@given(
    requests=st.lists(st.sampled_from(MODELS), min_size=1, max_size=12),
    work_s=st.floats(0.1, 20.0),
    cost_s=st.floats(0.1, 5.0),
    greedy=st.sampled_from(MODELS),
)
def test_every_waiting_model_is_chosen_although_another_always_has_new_work(
    requests, work_s, cost_s, greedy
):
    """A fake clock; `greedy` gets a new request whenever one of its requests starts."""
    waiting = waiting_of([(model, False) for model in requests])
    first = {entry.key for entry in waiting}
    now, orders = 0.0, len(waiting)
    seat = SeatView(model=None, settled=True, swap_cost_s=cost_s)
    running_until = 0.0
    turn_s = max(SETTINGS.min_seat_s, SETTINGS.weight * cost_s) + cost_s + work_s
    for _ in range(10_000):
        if not first:
            break
        is_busy = running_until > now
        view = SeatView(
            model=seat.model,
            settled=True,
            seated_at=seat.seated_at,
            running=int(is_busy),
            swap_cost_s=cost_s,
        )
        decision = decide(waiting, [], view, now, SETTINGS)
        for key in decision.admit:
            entry = next(one for one in waiting if one.key == key)
            waiting.remove(entry)
            first.discard(key)
            running_until = now + work_s
            if entry.model == greedy:
                waiting.append(Waiting(key=f"g{orders}", model=greedy, order=orders))
                orders += 1
        if decision.swap_to is not None:
            now = max(now, running_until) + cost_s
            seat = SeatView(model=decision.swap_to, settled=True, seated_at=now)
        else:
            ahead = [at for at in (running_until, decision.wake_at) if at is not None and at > now]
            now = min(ahead, default=now + work_s)
    assert not first, f"{first} never started"
    assert now <= 2 * len(MODELS) * turn_s * len(requests)


@given(requests=REQUESTS)
def test_queue_position_counts_everybody_who_came_before(requests):
    waiting = waiting_of(requests)
    for place, entry in enumerate(waiting):
        assert queue_position(waiting, entry.key) == place
    assert queue_position(waiting, "unknown") == 0
