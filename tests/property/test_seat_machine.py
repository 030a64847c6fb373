"""The seat table under random events: what must always hold of the seat."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hotseat.protocol.replies import Cause
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.states import (
    SEATING,
    SETTLED,
    Deadlines,
    Fault,
    Phase,
    SeatState,
    SwapPlan,
)
from hotseat.supervisor.seat.rules.table import next_state, quarantined_until

LIMITS = Deadlines()
CAUSE = Cause(client="c", request_id="r", model_asked="m")
MODELS = ("a", "b", "c")


class SeatMachine(RuleBasedStateMachine):
    """Drives the table as a runner would: workers only do what processes can do."""

    def __init__(self):
        super().__init__()
        self.state = SeatState()
        self.now = 0.0
        self.alive = set()
        self.swaps = 0
        self.open_swaps = {}
        self.ended_swaps = set()
        self.admits = True
        self.exited = False
        self.unloaded = False
        self.wants_exit = False

    def feed(self, event):
        before = self.state
        self.state, effects = next_state(before, event, self.now, LIMITS)
        for effect in effects:
            self.perform(effect)

    def perform(self, effect):
        match effect:
            case t.Spawn(epoch, _):
                assert not self.alive, "a worker was started while another lives"
                self.alive.add(epoch)
            case t.SendKill() | t.SendTerm() | t.AskStop() | t.SendUnload():
                pass
            case t.SendReseat(epoch, _):
                assert len(self.alive) == 1, "nobody there to be reseated"
                assert self.unloaded, "a worker was reseated that still holds a model"
                self.alive = {epoch}
            case t.SendLoad():
                self.unloaded = False
            case t.StopAdmission():
                self.admits = False
            case t.ResumeAdmission():
                self.admits = True
            case t.SwapDone(plan):
                self.end_swap(plan.swap)
            case t.SwapFailed(plan):
                self.end_swap(plan.swap)
            case t.ReleaseSeat():
                assert not self.alive, "the machine's seat was given back under a living worker"
            case t.Exit():
                self.exited = True

    def end_swap(self, swap):
        if swap == 0:
            return
        assert swap not in self.ended_swaps, "a swap ended twice"
        self.ended_swaps.add(swap)
        self.open_swaps.pop(swap, None)

    def plan(self, target, *, exits=False, **options):
        self.swaps += 1
        if not exits:  # nobody waits for the answer to an exit
            self.open_swaps[self.swaps] = target
        return SwapPlan(swap=self.swaps, target=target, cause=CAUSE, exits=exits, **options)

    @precondition(lambda self: self.state.phase in SETTLED and not self.wants_exit)
    @rule(
        model=st.sampled_from(MODELS),
        drain=st.sampled_from(["finish", "suspend", "cancel"]),
        mode=st.sampled_from(["process", "in-process"]),
    )
    def ask(self, model, drain, mode):
        self.feed(t.Asked(self.plan(model, drain=drain, mode=mode)))

    @precondition(lambda self: self.state.phase in SETTLED and not self.wants_exit)
    @rule()
    def release(self):
        self.feed(t.Asked(self.plan(None)))

    @precondition(lambda self: self.state.phase not in SETTLED)
    @rule(model=st.sampled_from(MODELS))
    def ask_too_early(self, model):
        before = self.state
        plan = SwapPlan(swap=9_999_999, target=model, cause=CAUSE)
        self.state, effects = next_state(before, t.Asked(plan), self.now, LIMITS)
        assert (self.state, effects) == (before, ())

    @precondition(lambda self: not self.wants_exit)
    @rule(sure=st.integers(0, 4))
    def ask_exit(self, sure):
        if sure == 0:
            self.wants_exit = True
            self.feed(t.ExitAsked(self.plan(None, exits=True)))

    @precondition(lambda self: self.state.plan is not None)
    @rule()
    def cancel(self):
        self.feed(t.SwapCancelled(self.state.plan.swap))

    @rule()
    def drained(self):
        self.feed(t.Drained())

    @rule(failed=st.booleans())
    def checkpointed(self, failed):
        fault = Fault(code="disk_full", message="full") if failed else None
        self.feed(t.CheckpointEnded(fault))

    @precondition(lambda self: self.alive and self.state.phase is Phase.STOPPING)
    @rule(came_back=st.booleans())
    def unloads(self, came_back):
        self.unloaded = True
        fault = None if came_back else Fault(code="memory_stranded", message="kept")
        self.feed(t.UnloadEnded(self.state.epoch, fault))

    @precondition(lambda self: self.alive)
    @rule()
    def worker_dies(self):
        epoch = self.alive.pop()
        self.feed(t.WorkerDied(epoch, Fault(code="worker_lost", message="killed")))

    @precondition(lambda self: self.alive)
    @rule()
    def worker_stalls(self):
        self.feed(t.Stalled(self.state.epoch, Fault(code="worker_lost", message="stuck")))

    @precondition(lambda self: self.state.phase not in SETTLED)
    @rule(seconds=st.floats(0.0, 100.0))
    def process_sleeps(self, seconds):
        before = self.state
        self.feed(t.Slept(lasted_s=seconds))
        assert self.state.deadline == before.deadline + seconds
        assert self.state.phase is before.phase

    @rule(age=st.integers(1, 3))
    def late_frames(self, age):
        before = self.state
        for kind in (t.Greeted, t.LoadEnded, t.WarmEnded, t.Reclaimed, t.WorkAdvanced):
            self.feed(kind(self.state.epoch - age))
        self.feed(t.Stalled(self.state.epoch - age, Fault(code="worker_lost", message="late")))
        assert self.state == before

    @precondition(lambda self: self.alive)
    @rule(fault=st.one_of(st.none(), st.just(Fault(code="model_unavailable", message="bad"))))
    def worker_speaks(self, fault):
        epoch = self.state.epoch
        match self.state.phase:
            case Phase.STARTING:
                self.feed(t.Greeted(epoch))
            case Phase.LOADING:
                self.feed(t.LoadEnded(epoch, fault))
            case Phase.WARMING:
                self.feed(t.WarmEnded(epoch, fault))
            case Phase.READY:
                self.feed(t.WorkAdvanced(epoch))

    @precondition(lambda self: self.state.phase is Phase.STARTING)
    @rule()
    def start_refused(self):
        self.alive.discard(self.state.epoch)
        fault = Fault(code="seat_taken", message="taken")
        self.feed(t.StartRefused(self.state.epoch, fault))

    @precondition(lambda self: self.state.phase is Phase.RECLAIMING)
    @rule()
    def memory_back(self):
        in_place = self.state.plan.mode == "in-process"
        assert in_place or not self.alive, "memory was waited for while the worker lives"
        self.feed(t.Reclaimed(self.state.epoch))

    @rule(seconds=st.sampled_from([0.1, 1.0, 30.0, 700.0]))
    def time_passes(self, seconds):
        self.now += seconds
        self.feed(t.TimePassed())

    @invariant()
    def never_two_workers(self):
        assert len(self.alive) <= 1

    @invariant()
    def draining_does_not_outlive_its_swap(self):
        if self.state.phase in SETTLED:
            assert self.state.plan is None
            assert self.admits or self.exited

    @invariant()
    def every_phase_under_way_has_a_deadline(self):
        if self.state.phase not in SETTLED:
            assert self.state.deadline is not None
            assert self.state.plan is not None

    @invariant()
    def open_swaps_are_the_one_under_way(self):
        under_way = {self.state.plan.swap} if self.state.plan else set()
        assert set(self.open_swaps) - under_way == set()

    @invariant()
    def a_seated_model_has_a_worker(self):
        if self.state.phase is Phase.READY:
            assert self.alive == {self.state.epoch}
            assert self.state.model is not None
        if self.state.phase in SEATING:
            assert self.alive <= {self.state.epoch}
        assert self.state.worker_lives == bool(self.alive)

    @invariant()
    def exit_means_nothing_is_left(self):
        if self.exited:
            assert self.state.phase in {Phase.EMPTY, Phase.FAILED, Phase.MEMORY_STRANDED}

    def teardown(self):
        """However it came here: with time, dying workers and memory, the seat settles."""
        for _ in range(60):
            if self.state.phase in SETTLED:
                break
            self.now += 1000.0
            self.feed(t.TimePassed())
            if self.alive and self.state.phase is Phase.STOPPING:
                epoch = self.alive.pop()
                self.feed(t.WorkerDied(epoch, Fault(code="worker_lost", message="killed")))
        assert self.state.phase in SETTLED
        if self.wants_exit:
            assert self.exited


TestSeatMachine = SeatMachine.TestCase
TestSeatMachine.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def seated(model="a", **changes):
    state = SeatState()
    effects = []
    plan = SwapPlan(swap=1, target=model, cause=CAUSE)
    for event in (
        t.Asked(plan),
        t.Reclaimed(0),
        t.Greeted(1),
        t.LoadEnded(1),
        t.WarmEnded(1),
    ):
        state, new = next_state(state, event, 1.0, LIMITS)
        effects += new
    assert state.phase is Phase.READY
    return state


def run(state, *events, now=2.0):
    effects = []
    for event in events:
        state, new = next_state(state, event, now, LIMITS)
        effects += new
    return state, effects


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
        assert (quarantined_until(state, "b", 2.0) is not None) == (swap == 2)
    assert quarantined_until(state, "b", 1000.0) is None


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
    assert quarantined_until(state, "a", 2.0) is not None


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
