"""launchd's patience covers our own: no end of the daemon takes longer than the bound says."""

from hypothesis import example, given
from hypothesis import strategies as st

from hotseat.protocol.replies import Cause
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.exit_bound import exit_bound_s, exit_time_out_s
from hotseat.supervisor.seat.rules.states import Fault, Phase, SeatState, SwapPlan
from hotseat.supervisor.seat.rules.table import next_state
from hotseat.supervisor.settings.values import Deadlines

CAUSE = Cause(client="c", request_id="r", model_asked="m")
SECONDS = st.integers(1, 1000).map(float)
DEADLINES = st.builds(Deadlines, **dict.fromkeys(Deadlines.__struct_fields__, SECONDS))
ANSWERS = {
    Phase.STARTING: [t.Greeted],
    Phase.LOADING: [t.LoadEnded],
    Phase.WARMING: [t.WarmEnded],
    Phase.DRAINING: [lambda _: t.Drained()],
    Phase.CHECKPOINTING: [lambda _: t.CheckpointEnded()],
    Phase.STOPPING: [lambda epoch: t.WorkerDied(epoch, Fault(code="worker_lost", message="x"))],
    Phase.RECLAIMING: [t.Reclaimed],
}


class Seat:
    """A seat whose worker answers as late as it can, or not at all."""

    def __init__(self, limits):
        self.limits = limits
        self.state = SeatState()
        self.now = 0.0
        self.exited = False

    def feed(self, event):
        self.state, effects = next_state(self.state, event, self.now, self.limits)
        self.exited = self.exited or any(isinstance(effect, t.Exit) for effect in effects)

    def go_on(self, answers):
        """The deadline of the phase comes, just before it the answer, if there is one."""
        assert self.state.deadline is not None, f"{self.state.phase} waits for ever"
        self.now = self.state.deadline
        if answers:
            self.feed(ANSWERS[self.state.phase][0](self.state.epoch))
        else:
            self.feed(t.TimePassed())


# Ready, then each phase of the end lasts as long as it may.
@example(Deadlines(), "process", "suspend", [True] * 4, [0, 1, 1, 0, 0, 1, 0])
@given(
    DEADLINES,
    st.sampled_from(["process", "in-process"]),
    st.sampled_from(["finish", "suspend"]),
    st.lists(st.booleans(), max_size=12),
    st.lists(st.booleans(), max_size=12),
)
def test_exit_asked_anywhere_ends_within_the_bound(limits, mode, drain, before, after):
    seat = Seat(limits)
    seat.feed(t.Asked(SwapPlan(swap=1, target="a", cause=CAUSE)))
    for number, answers in enumerate(before):
        if seat.state.phase is Phase.READY:
            plan = SwapPlan(swap=2 + number, target="b", cause=CAUSE, mode=mode, drain=drain)
            seat.feed(t.Asked(plan))
        elif seat.state.phase in t.SETTLED:
            break
        else:
            seat.go_on(answers or seat.state.phase in t.SEATING)
    asked = seat.now
    seat.feed(t.ExitAsked(SwapPlan(swap=99, target=None, cause=CAUSE, exits=True)))
    for answers in [*after, *[False] * 12]:
        if seat.exited:
            break
        seat.go_on(answers)
    assert seat.exited
    assert seat.now - asked <= exit_bound_s(limits)


def test_exit_time_out_is_above_the_sum_of_our_deadlines():
    limits = Deadlines()
    ours = limits.exit_drain_s + limits.checkpoint_s + limits.stop_s + limits.term_s
    assert exit_time_out_s(limits) > ours + limits.kill_s + limits.reclaim_s
