"""The seat table fed with events by hand, at a time that a test names."""

from hotseat.protocol.replies import Cause
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.states import Phase, SeatState, SwapPlan
from hotseat.supervisor.seat.rules.table import next_state
from hotseat.supervisor.settings.values import Deadlines

LIMITS = Deadlines()
CAUSE = Cause(client="c", request_id="r", model_asked="m")


def run(state, *events, now=2.0):
    """The state behind the events, and every effect on the way."""
    effects = []
    for event in events:
        state, new = next_state(state, event, now, LIMITS)
        effects += new
    return state, effects


def seated(model="a"):
    """A seat whose first worker has its model."""
    plan = SwapPlan(swap=1, target=model, cause=CAUSE)
    way = (t.Asked(plan), t.Reclaimed(0), t.Greeted(1), t.LoadEnded(1), t.WarmEnded(1))
    state, _ = run(SeatState(), *way, now=1.0)
    assert state.phase is Phase.READY
    return state
