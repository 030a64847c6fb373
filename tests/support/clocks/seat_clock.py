"""A seat on a fake clock that enacts the scheduler: agents, drains, swaps; no time passes for real.

Every running request gets the whole machine, so a request of length 3 takes 3 s of seat time.
What happened is kept for the tests to judge; nothing is judged here.
"""

from dataclasses import dataclass, field

from hotseat.supervisor.scheduling.expected_agents import (
    Ending,
    Lingering,
    note_arrival,
    note_end,
    note_seat,
)
from hotseat.supervisor.scheduling.model_queue import ModelQueue
from hotseat.supervisor.scheduling.scheduler import SeatView, decide
from hotseat.supervisor.scheduling.waiting import Waiting

EPSILON = 1e-9
STEPS_PER_SEATING = 40
"""More events than one seating can have: its arrivals, endings, wake-ups and swap phases."""


@dataclass(frozen=True)
class Step:
    """One turn of an agent: it comes `gap_s` after the turn before ended."""

    model: str
    gap_s: float
    length_s: float
    priority: int = 0
    runs_tool: bool = False
    deadline_s: float | None = None


@dataclass
class Job:
    agent: int
    step: Step
    entry: Waiting
    left_s: float


@dataclass(frozen=True)
class Seating:
    model: str
    swap_s: float
    at: float
    left_at: float | None = None
    worked: bool = True  # had work at every moment until it left


@dataclass
class Unseated:
    """A time during which a model had work but not the seat."""

    model: str
    since: float
    until: float


@dataclass
class SeatClock:
    agents: list[list[Step]]
    swap_costs: list[float]
    settings: object
    now: float = 0.0
    model: str | None = None
    seated_at: float = 0.0
    measured_s: float = 0.0
    phase: str = "settled"
    phase_until: float = 0.0
    target: str | None = None
    queue: ModelQueue = field(default_factory=ModelQueue)
    lingering: Lingering = field(default_factory=Lingering)
    waiting: list[Job] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)
    arrivals: list[tuple[float, int, int]] = field(default_factory=list)
    joined: dict[str, float] = field(default_factory=dict)
    seatings: list[Seating] = field(default_factory=list)
    unseated: list[Unseated] = field(default_factory=list)
    starts: list[tuple[float, Job, tuple[Waiting, ...]]] = field(default_factory=list)
    ended: list[tuple[float, Job]] = field(default_factory=list)
    expired: list[tuple[float, Job]] = field(default_factory=list)
    decisions: list[tuple[str, object]] = field(default_factory=list)
    orders: int = 0
    swaps: int = 0
    idle_since_seated: bool = False

    def run(self, until_s=float("inf")):
        """Until every agent is done."""
        self.arrivals = [(steps[0].gap_s, agent, 0) for agent, steps in enumerate(self.agents)]
        most = self._most_steps()
        for _ in range(most):
            self._arrive()
            self._end_phase()
            wake_at = self._decide()
            ahead = self._next_times(wake_at)
            if not ahead or self.now > until_s:
                return self
            self._pass(min(ahead))
        raise AssertionError(f"not done after {most} events: {len(self.waiting)} wait")

    def _most_steps(self):
        """Events within which all work ends if every seating works for its least residency."""
        steps = [step for agent in self.agents for step in agent]
        seatings = len(steps) + sum(step.length_s for step in steps) / self.settings.min_seat_s
        return STEPS_PER_SEATING * (1 + round(seatings))

    def _next_times(self, wake_at):
        ahead = [at for at, _, _ in self.arrivals]
        ahead += [self.now + job.left_s for job in self.running]
        if wake_at is not None:
            assert wake_at > self.now, "the scheduler asks to be woken in the past"
            ahead.append(wake_at)
        if self.phase != "settled":
            ahead.append(self.phase_until)
        return ahead

    def _pass(self, at):
        """The clock moves to `at`; running requests move on with it."""
        spent_s = max(0.0, at - self.now)
        self.now = max(self.now, at)
        for job in self.running:
            job.left_s -= spent_s
        for job in [one for one in self.running if one.left_s <= EPSILON]:
            self.running.remove(job)
            self.ended.append((self.now, job))
            self._go_on(job)

    def _go_on(self, job):
        steps = self.agents[job.agent]
        number = next(i for i, step in enumerate(steps) if step is job.step) + 1
        if number < len(steps):
            self.arrivals.append((self.now + steps[number].gap_s, job.agent, number))
        end = Ending(
            who=str(job.agent), model=job.step.model, at=self.now, runs_tool=job.step.runs_tool
        )
        self.lingering = note_end(self.lingering, end, self.measured_s, self.settings)

    def _arrive(self):
        for at, agent, number in sorted(a for a in self.arrivals if a[0] <= self.now + EPSILON):
            self.arrivals.remove((at, agent, number))
            step = self.agents[agent][number]
            deadline = None if step.deadline_s is None else self.now + step.deadline_s
            entry = Waiting(
                key=f"{agent}.{number}",
                model=step.model,
                order=self.orders,
                since=self.now,
                priority=step.priority,
                deadline=deadline,
            )
            self.orders += 1
            self.waiting.append(Job(agent, step, entry, step.length_s))
            self.lingering = note_arrival(self.lingering, str(agent), step.model, self.now)
        self._note_unseated()

    def _note_unseated(self):
        """A model that gives up the seat has to wait from when it is somebody else's."""
        held = {self.target} if self.phase == "swapping" else {self.model}
        leaving = self.model if self.phase != "settled" else None
        for model in {job.step.model for job in self.waiting} - held - {leaving}:
            self.joined.setdefault(model, self.now)

    def _end_phase(self):
        if self.phase == "draining" and (not self.running or self.now >= self.phase_until):
            self.waiting += self.running
            self.running = []
            self.phase = "swapping"
            self.swap_s = self.swap_costs[self.swaps % len(self.swap_costs)]
            self.swaps += 1
            self.phase_until = self.now + self.swap_s
            if self.seatings:
                last = self.seatings[-1]
                self.seatings[-1] = Seating(
                    last.model, last.swap_s, last.at, self.now, not self.idle_since_seated
                )
        if self.phase == "swapping" and self.now >= self.phase_until:
            self.phase, self.model, self.seated_at = "settled", self.target, self.now
            self.measured_s = self.swap_s
            self.seatings.append(Seating(self.model, self.swap_s, self.now))
            self.idle_since_seated = False
            if self.model in self.joined:
                self.unseated.append(Unseated(self.model, self.joined.pop(self.model), self.now))
            self._note_unseated()

    def _decide(self):
        self.lingering = note_seat(self.lingering, self.model)
        waiting = [job.entry for job in self.waiting]
        seat = SeatView(
            model=self.model,
            settled=self.phase == "settled",
            seated_at=self.seated_at,
            running=len(self.running),
            swap_cost_s=self.measured_s,
            linger_until=self.lingering.until,
        )
        decision = decide(waiting, [], seat, self.now, self.settings, self.queue)
        self.decisions.append((seat, decision))
        self.queue = decision.queue
        for key in decision.expire:
            job = self._take(key)
            self.expired.append((self.now, job))
            self._go_on(job)
        for key in decision.admit:
            job = self._take(key)
            left = tuple(one.entry for one in self.waiting if one.step.model == job.step.model)
            self.starts.append((self.now, job, left))
            self.running.append(job)
        if self.phase == "settled" and not self.running:
            self.idle_since_seated = True
        if decision.swap_to is not None:
            self.phase, self.target = "draining", decision.swap_to
            self.phase_until = self.now + decision.grace_s
            if not self.running:
                self._end_phase()
        return decision.wake_at

    def _take(self, key):
        job = next(one for one in self.waiting if one.entry.key == key)
        self.waiting.remove(job)
        return job
