"""The seat table under random events: what must always hold of the seat."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hotseat.protocol.replies import Cause
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.states import SEATING, SETTLED, Fault, Phase, SeatState, SwapPlan
from hotseat.supervisor.seat.rules.table import next_state
from hotseat.supervisor.settings.values import Deadlines

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
    @rule(gpu=st.sampled_from(["", "command buffer: timeout"]))
    def worker_dies(self, gpu):
        epoch, before = self.alive.pop(), self.state
        self.feed(t.WorkerDied(epoch, Fault(code="worker_lost", message="killed", gpu=gpu)))
        if gpu:
            assert self.state.gpu.in_a_row == before.gpu.in_a_row + 1
            assert (self.state.misses, self.state.deaths) == (before.misses, before.deaths)

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
TestSeatMachine.settings = settings(max_examples=300, stateful_step_count=40)
