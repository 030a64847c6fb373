"""Who starts and who gets the seat: the two bounds of the policy, and the order within a model."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.clocks.seat_clock import EPSILON, SeatClock, Step

from hotseat.protocol.limits import MAX_PRIORITY
from hotseat.supervisor.scheduling.model_queue import ModelQueue
from hotseat.supervisor.scheduling.scheduler import SeatView, WantedSwap, decide, residency_s
from hotseat.supervisor.scheduling.waiting import Waiting, counted_arrival
from hotseat.supervisor.settings.values import SchedulerSettings

MODELS = ("a", "b", "c", "d")
SLACK_S = 1e-6

STEPS = st.builds(
    Step,
    model=st.sampled_from(MODELS),
    gap_s=st.sampled_from([0.0, 0.0, 0.5, 3.0, 20.0]),
    length_s=st.floats(0.1, 60.0),
    priority=st.integers(-10, 10),
    runs_tool=st.booleans(),
)
AGENTS = st.lists(st.lists(STEPS, min_size=1, max_size=8), min_size=1, max_size=8)
COSTS = st.lists(st.floats(0.1, 15.0), min_size=1, max_size=5)
SETTINGS = st.builds(
    SchedulerSettings,
    min_seat_s=st.floats(0.1, 10.0),
    weight=st.floats(0.5, 8.0),
    grace_s=st.floats(0.1, 10.0),
    tool_linger_s=st.floats(0.1, 30.0),
    ageing_s=st.floats(1.0, 60.0),
    max_running=st.integers(1, 4),
)


def overtaken_for_s(priority, ageing_s):
    """For how long after its arrival a request can still be overtaken by newer ones."""
    return (MAX_PRIORITY - priority + 1) * ageing_s


def greedy(count=12, length_s=30.0):
    """An agent that always has the next turn ready, all on one model."""
    return [Step(model="a", gap_s=0.0, length_s=length_s) for _ in range(count)]


def longest_s(settings_, costs, models=MODELS):
    """The bound: what all the other models together may take."""
    swap_s = max(costs)
    return (len(models) - 1) * (residency_s(settings_, swap_s) + settings_.grace_s + swap_s)


@given(agents=AGENTS, costs=COSTS, policy=SETTINGS, greedy_too=st.booleans())
@settings(max_examples=150)
def test_model_with_work_is_seated_within_the_bound(agents, costs, policy, greedy_too):
    agents = [*agents, greedy()] if greedy_too else agents
    clock = SeatClock(agents, costs, policy).run()
    for stretch in clock.unseated:
        waited_s = stretch.until - stretch.since
        # The very first seating has nobody to take the seat from: its swap comes on top.
        was_empty = stretch.since < clock.seatings[0].at
        first_s = max(costs) if was_empty else 0.0
        assert waited_s <= longest_s(policy, costs) + first_s + SLACK_S, stretch
    assert not clock.joined, "a model with work was never seated"


def test_bound_is_nearly_reached_so_that_it_says_something():
    policy = SchedulerSettings(min_seat_s=1.0, weight=4.0, grace_s=5.0)
    agents = [[Step(model=model, gap_s=0.0, length_s=200.0) for _ in range(3)] for model in MODELS]
    clock = SeatClock(agents, [3.0], policy).run()
    worst_s = max(stretch.until - stretch.since for stretch in clock.unseated)
    assert worst_s >= 0.99 * longest_s(policy, [3.0])


@given(agents=AGENTS, costs=COSTS, policy=SETTINGS)
@settings(max_examples=100)
def test_seatings_with_work_for_their_residency_lose_at_most_their_share_to_swaps(
    agents, costs, policy
):
    clock = SeatClock([*agents, greedy()], costs, policy).run()
    full = []
    for seating in clock.seatings:
        if seating.left_at is None:
            continue
        held_s = seating.left_at - seating.at
        if seating.worked and held_s >= residency_s(policy, seating.swap_s) - SLACK_S:
            full.append((seating.swap_s, held_s))
        elif seating.worked:
            raise AssertionError(f"{seating} had work and lost the seat before its time")
    lost_s = sum(swap_s for swap_s, _ in full)
    if full:
        share = lost_s / (lost_s + sum(held_s for _, held_s in full))
        assert share <= 1.0 / (1.0 + policy.weight) + SLACK_S


@given(agents=AGENTS, costs=COSTS, policy=SETTINGS)
@settings(max_examples=100)
def test_within_a_model_order_is_by_priority_with_ageing_and_nobody_starves(agents, costs, policy):
    clock = SeatClock(agents, costs, policy).run()
    for _, job, left in clock.starts:
        mine = counted_arrival(job.entry, policy.ageing_s)
        for other in left:
            theirs = counted_arrival(other, policy.ageing_s)
            assert (mine, job.entry.order) <= (theirs, other.order) or mine < theirs
            lead_s = job.entry.since - other.since
            assert lead_s <= overtaken_for_s(other.priority, policy.ageing_s) + SLACK_S
    steps = sum(len(agent) for agent in agents)
    assert len(clock.ended) == steps, "somebody was never served"


@given(agents=AGENTS, costs=COSTS, policy=SETTINGS)
@settings(max_examples=60)
def test_nothing_is_admitted_for_an_unseated_model_or_while_the_seat_changes_hands(
    agents, costs, policy
):
    clock = SeatClock(agents, costs, policy).run()
    model_of = {f"{a}.{n}": s.model for a, agent in enumerate(agents) for n, s in enumerate(agent)}
    for seat, decision in clock.decisions:
        if not seat.settled:
            assert decision.admit == ()
            assert decision.swap_to is None
        for key in decision.admit:
            assert model_of[key] == seat.model
        assert len(decision.admit) + seat.running <= max(policy.max_running, seat.running)
        assert decision.swap_to is None or decision.swap_to != seat.model
        queued = decision.queue.models
        assert len(queued) == len(set(queued)) <= len(MODELS), "the state grows"
        if seat.settled:
            assert seat.model not in queued


DEADLINES = st.builds(
    Step,
    model=st.sampled_from(MODELS),
    gap_s=st.floats(0.0, 5.0),
    length_s=st.floats(0.1, 20.0),
    deadline_s=st.floats(0.1, 40.0),
)


@given(
    agents=st.lists(st.lists(DEADLINES, min_size=1, max_size=5), min_size=1, max_size=6),
    costs=COSTS,
    policy=SETTINGS,
)
@settings(max_examples=60)
def test_request_past_its_deadline_is_told_at_that_moment_and_never_started(agents, costs, policy):
    clock = SeatClock(agents, costs, policy).run()
    started = {job.entry.key for _, job, _ in clock.starts}
    for at, job in clock.expired:
        late_s = at - job.entry.deadline
        assert late_s >= -EPSILON
        # One that has begun runs out of time where it runs, or when it is suspended.
        assert late_s <= 10 * EPSILON or job.entry.key in started
    seen = set()
    for at, job, _ in clock.starts:
        if job.entry.key not in seen:  # a suspended request has begun already
            assert at < job.entry.deadline
        seen.add(job.entry.key)
    assert len(clock.ended) + len(clock.expired) == sum(len(agent) for agent in agents)


ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(MODELS),
        st.booleans(),
        st.floats(0.0, 50.0),
        st.integers(-10, 10),
        st.one_of(st.none(), st.floats(0.0, 100.0)),
    ),
    max_size=12,
)
SEATS = st.builds(
    SeatView,
    model=st.one_of(st.none(), st.sampled_from(MODELS)),
    settled=st.booleans(),
    seated_at=st.floats(0.0, 60.0),
    running=st.integers(0, 5),
    swap_cost_s=st.floats(0.0, 20.0),
    linger_until=st.floats(0.0, 100.0),
)
LOOKS = st.lists(
    st.tuples(ENTRIES, st.lists(st.sampled_from(MODELS), max_size=2), SEATS), max_size=5
)


@given(looks=LOOKS, policy=SETTINGS)
@settings(max_examples=200)
def test_whatever_is_seen_the_answer_is_lawful_and_the_state_stays_small(looks, policy):
    """Also what no seat would do: models that appear, vanish and change places at random."""
    queue, now = ModelQueue(), 60.0
    for entries, asked, seat in looks:
        now += 7.0
        waiting = [
            Waiting(
                key=f"r{n}",
                model=model,
                order=n,
                never_swaps=never,
                since=since,
                priority=priority,
                deadline=deadline,
            )
            for n, (model, never, since, priority, deadline) in enumerate(entries)
        ]
        wanted = [WantedSwap(swap=n, model=model) for n, model in enumerate(asked)]
        decision = decide(waiting, wanted, seat, now, policy, queue)
        by_key = {entry.key: entry for entry in waiting}
        late = {e.key for e in waiting if e.deadline is not None and e.deadline <= now}
        assert set(decision.expire) == late
        assert not late & set(decision.admit)
        assert all(by_key[key].model == seat.model for key in decision.admit)
        assert len(set(decision.admit)) == len(decision.admit)
        assert not (decision.admit and decision.swap_to), "started what would be suspended at once"
        assert decision.wake_at is None or decision.wake_at > now
        if not seat.settled:
            assert (decision.admit, decision.swap_to, decision.queue) == ((), None, queue)
        elif asked:
            assert (decision.swap_to, decision.asked) == (asked[0], 0)
        elif decision.swap_to is not None:
            wants = [e for e in waiting if e.model == decision.swap_to and e.key not in late]
            assert any(not entry.never_swaps for entry in wants)
            assert decision.swap_to != seat.model
        queue = decision.queue
        names = queue.models
        assert len(names) == len(set(names))
        assert not seat.settled or set(names) <= {entry.model for entry in waiting}
        assert not seat.settled or seat.model not in names
