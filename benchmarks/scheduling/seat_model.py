"""A machine with one seat on a simulated clock: requests, batches, drains, swaps.

The policy says what to start and when to swap; this says what that costs. All policies run on the
same machine with the same costs.
"""

import random
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.scheduling.loads import SWAP_S, Load, Turn
from hotseat.supervisor.scheduling.scheduler import SeatView
from hotseat.supervisor.scheduling.waiting import Waiting

BATCH_EXPONENT = 0.65
"""Batches of n do n**0.65 times the work of one: 1.6x for 2, 2.5x for 4, 3.9x for 8."""
MAX_RUNNING = 16
SWAP_JITTER = 0.10
RESTORE_S = 0.5
"""Work that bringing a context back from SSD costs a request whose model was away."""
DRIFT_S = 1e-9


@dataclass
class Job:
    """A request on its way. `left_s`: seconds of work left when alone."""

    turn: Turn
    entry: Waiting
    left_s: float
    queued_at: float
    waited_s: float = 0.0
    longest_s: float = 0.0
    ahead_s: float = 0.0
    """Work of its own model that comes before it, when there is no room beside it."""


@dataclass(frozen=True)
class Choice:
    """What a policy wants now. `grace_s` None: running requests finish, however long it takes."""

    admit: tuple[str, ...] = ()
    swap_to: str | None = None
    grace_s: float | None = None
    wake_at: float | None = None


class Policy(Protocol):
    """Decides; may remember what it likes."""

    name: str

    def choose(self, waiting: list[Waiting], seat: SeatView, now: float) -> Choice:
        """What to do at this moment; called after everything that happens."""

    def arrived(self, turn: Turn, now: float) -> None:
        """A request came."""

    def ended(self, turn: Turn, now: float, swap_cost_s: float) -> None:
        """A request ended."""


@dataclass
class Outcome:
    """Figures of one run."""

    swaps: int = 0
    swapping_s: float = 0.0
    makespan_s: float = 0.0
    waits: list[float] = field(default_factory=list)
    longest: list[tuple[float, float]] = field(default_factory=list)
    """For each request: its longest stretch of waiting, and the work it had to let pass."""
    measured_max_s: float = 0.0


class Machine:
    """Runs a load under a policy to its end."""

    def __init__(self, load: Load, policy: Policy, seed: int) -> None:
        self._load = load
        self._policy = policy
        self._draw = random.Random(seed)  # noqa: S311 - a simulation
        self._now = 0.0
        self._seat: str | None = None
        self._seated_at = 0.0
        self._measured_s = 0.0
        self._phase = "settled"
        self._until = 0.0
        self._target: str | None = None
        self._swap_s = 0.0
        self._waiting: dict[str, Job] = {}
        self._running: dict[str, Job] = {}
        self._coming: list[tuple[float, int]] = []
        self._missing = {turn.number: len(turn.after) for turn in load.turns}
        self._followers: dict[int, list[int]] = {}
        self._lost_live: dict[str, str] = {}
        self._orders = 0
        self.outcome = Outcome()
        for turn in load.turns:
            for before in turn.after:
                self._followers.setdefault(before, []).append(turn.number)
            if not turn.after:
                self._coming.append((turn.gap_s, turn.number))

    def run(self) -> Outcome:
        """To the end of the last turn."""
        while self._coming or self._waiting or self._running:
            self._take_in()
            self._end_phase()
            wake_at = self._choose()
            ahead = [at for at, _ in self._coming]
            if self._running:
                shortest = min(job.left_s for job in self._running.values())
                ahead.append(self._now + shortest / self._speed)
            if self._phase != "settled":
                ahead.append(self._until)
            if wake_at is not None:
                ahead.append(wake_at)
            if ahead:
                self._pass(max(self._now, min(ahead)))
        self.outcome.makespan_s = self._now
        return self.outcome

    @property
    def _speed(self) -> float:
        """Seconds of own work a request gets done in a second beside the others."""
        return len(self._running) ** (BATCH_EXPONENT - 1.0)

    def _pass(self, at: float) -> None:
        done_s = (at - self._now) * (self._speed if self._running else 0.0)
        self._now = at
        for job in self._running.values():
            job.left_s -= done_s
        for key in [key for key, job in self._running.items() if job.left_s <= DRIFT_S]:
            self._end(self._running.pop(key))

    def _end(self, job: Job) -> None:
        self.outcome.waits.append(job.waited_s)
        self.outcome.longest.append((job.longest_s, job.ahead_s))
        self._lost_live[job.turn.who] = job.turn.model
        self._policy.ended(job.turn, self._now, self._measured_s)
        for number in self._followers.get(job.turn.number, ()):
            self._missing[number] -= 1
            if self._missing[number] == 0:
                self._coming.append((self._now + self._load.turns[number].gap_s, number))

    def _take_in(self) -> None:
        for at, number in sorted(entry for entry in self._coming if entry[0] <= self._now):
            self._coming.remove((at, number))
            turn = self._load.turns[number]
            key = str(number)
            entry = Waiting(key=key, model=turn.model, order=self._orders, since=self._now)
            self._orders += 1
            job = Job(turn, entry, turn.length_s, self._now)
            alive = (*self._waiting.values(), *self._running.values())
            before = [other.left_s for other in alive if other.turn.model == turn.model]
            job.ahead_s = sum(before) if len(before) >= MAX_RUNNING else 0.0
            self._waiting[key] = job
            self._policy.arrived(turn, self._now)

    def _choose(self) -> float | None:
        seat = SeatView(
            model=self._seat,
            settled=self._phase == "settled",
            seated_at=self._seated_at,
            running=len(self._running),
            swap_cost_s=self._measured_s,
        )
        entries = [job.entry for job in self._waiting.values()]
        choice = self._policy.choose(entries, seat, self._now)
        for key in choice.admit:
            self._start(self._waiting.pop(key))
        if choice.swap_to is not None:
            self._phase, self._target = "draining", choice.swap_to
            grace_s = float("inf") if choice.grace_s is None else choice.grace_s
            self._until = self._now + (grace_s if self._running else 0.0)
            self._end_phase()
        return choice.wake_at

    def _start(self, job: Job) -> None:
        stretch_s = self._now - job.queued_at
        job.waited_s += stretch_s
        job.longest_s = max(job.longest_s, stretch_s)
        if self._lost_live.get(job.turn.who) == "away":
            job.left_s += RESTORE_S
        self._lost_live[job.turn.who] = job.turn.model
        self._running[job.entry.key] = job

    def _end_phase(self) -> None:
        if self._phase == "draining" and (not self._running or self._now >= self._until):
            for key, job in self._running.items():
                job.queued_at = self._now
                self._waiting[key] = job
            self._running = {}
            for who in self._lost_live:
                self._lost_live[who] = "away"
            assert self._target is not None
            factor = self._draw.uniform(1.0 - SWAP_JITTER, 1.0 + SWAP_JITTER)
            self._swap_s = SWAP_S[self._target] * factor
            self._phase, self._until = "swapping", self._now + self._swap_s
            self.outcome.swaps += 1
            self.outcome.swapping_s += self._swap_s
        if self._phase == "swapping" and self._now >= self._until:
            self._phase, self._seat, self._seated_at = "settled", self._target, self._now
            # The daemon keeps the same running estimate of what a swap costs.
            old = self._measured_s or self._swap_s
            self._measured_s = old + 0.5 * (self._swap_s - old)
            self.outcome.measured_max_s = max(self.outcome.measured_max_s, self._measured_s)
