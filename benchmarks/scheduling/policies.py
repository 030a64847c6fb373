"""What the simulator compares: the daemon's scheduler and two simple ones. No costs in here."""

from msgspec.structs import replace

from benchmarks.scheduling.loads import Turn
from benchmarks.scheduling.seat_model import MAX_RUNNING, Choice
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
from hotseat.supervisor.settings.values import SchedulerSettings


class Hotseat:
    """The scheduler the daemon runs, called as the daemon calls it."""

    name = "hotseat"

    def __init__(self, settings: SchedulerSettings) -> None:
        self._settings = settings
        self._queue = ModelQueue()
        self._lingering = Lingering()

    def choose(self, waiting: list[Waiting], seat: SeatView, now: float) -> Choice:
        """Residency, then the next model in the queue."""
        if seat.settled:
            self._lingering = note_seat(self._lingering, seat.model)
        seat = replace(seat, linger_until=self._lingering.until)
        decision = decide(waiting, (), seat, now, self._settings, self._queue)
        self._queue = decision.queue
        return Choice(decision.admit, decision.swap_to, decision.grace_s, decision.wake_at)

    def arrived(self, turn: Turn, now: float) -> None:
        """An agent may be back."""
        self._lingering = note_arrival(self._lingering, turn.who, turn.model, now)

    def ended(self, turn: Turn, now: float, swap_cost_s: float) -> None:
        """An agent may be off to run a tool."""
        end = Ending(who=turn.who, model=turn.model, at=now, runs_tool=turn.runs_tool)
        self._lingering = note_end(self._lingering, end, swap_cost_s, self._settings)


class _Simple:
    """Has no memory."""

    def arrived(self, turn: Turn, now: float) -> None:
        """Nothing to note."""

    def ended(self, turn: Turn, now: float, swap_cost_s: float) -> None:
        """Nothing to note."""


class Fifo(_Simple):
    """Requests strictly in order of arrival.

    Those at the head that ask for the seated model start and run together; a head that asks for
    another one waits until all that run have ended, then the model is swapped.
    """

    name = "fifo"

    def choose(self, waiting: list[Waiting], seat: SeatView, _now: float) -> Choice:
        """The head, and all behind it up to the first for another model."""
        if not seat.settled or not waiting:
            return Choice()
        admit = []
        for entry in sorted(waiting, key=lambda one: one.order):
            if entry.model != seat.model:
                break
            if seat.running + len(admit) < MAX_RUNNING:
                admit.append(entry.key)
        head = min(waiting, key=lambda one: one.order)
        return Choice(tuple(admit), None if admit or head.model == seat.model else head.model)


class LoadedFirst(_Simple):
    """Whatever the loaded model can do comes first; a swap only when it has nothing left."""

    name = "loaded first"

    def choose(self, waiting: list[Waiting], seat: SeatView, _now: float) -> Choice:
        """All of the seated model; else the oldest request's model."""
        if not seat.settled or not waiting:
            return Choice()
        mine = [e.key for e in sorted(waiting, key=lambda e: e.order) if e.model == seat.model]
        admit = tuple(mine[: MAX_RUNNING - seat.running])
        if mine or seat.running:
            return Choice(admit)
        return Choice((), min(waiting, key=lambda one: one.order).model)
