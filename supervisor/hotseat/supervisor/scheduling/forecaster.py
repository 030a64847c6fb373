"""What is known about the near future: places in the queue, waits, agents expected back.

Learns costs from requests that ended and answers from the last state it was told. Decides
nothing: the dispatcher hands what it needs to the scheduler.
"""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from hotseat.protocol.messages import Generate
from hotseat.protocol.replies import Done
from hotseat.supervisor.scheduling.expected_agents import (
    Ending,
    Lingering,
    note_arrival,
    note_end,
    note_seat,
)
from hotseat.supervisor.scheduling.forecasts import Forecast, Outlook, first_start_s, forecasts
from hotseat.supervisor.scheduling.learned_costs import Costs
from hotseat.supervisor.scheduling.model_queue import ModelQueue
from hotseat.supervisor.scheduling.scheduler import SeatView
from hotseat.supervisor.scheduling.waiting import Waiting, is_slow_model
from hotseat.supervisor.settings.values import SchedulerSettings

_NEW: Final = ""
"""Key of a request that does not exist; real ones are never empty."""
FRESH_S: Final = 0.1
"""Forecasts for all are computed together and serve this long: many readers ask at one tick."""


class Forecaster:
    """One per daemon. `waiting` gives the requests that wait now, session order apart."""

    def __init__(self, waiting: Callable[[], Sequence[Waiting]]) -> None:
        self.outlook = Outlook(seat=SeatView(model=None, settled=True))
        self._waiting = waiting
        self._lingering = Lingering()
        self._hint: str | None = None
        self._told: dict[str, Forecast] = {}
        self._told_at = float("-inf")

    # --- what happens ---------------------------------------------------------------------------

    def arrived(self, client: str, request: Generate, model: str, now: float) -> None:
        """A request was accepted: its agent is back."""
        self._lingering = note_arrival(self._lingering, _who(client, request), model, now)
        self._told_at = float("-inf")

    def ended(self, client: str, request: Generate, done: Done, now: float) -> None:
        """A request of the seated model ended: what it cost, and whether its agent comes back."""
        if done.finish_reason != "cancelled":
            self.costs_are(self.costs.with_turn(done.model, done.usage, done.timing))
        end = Ending(
            who=_who(client, request),
            model=done.model,
            at=now,
            runs_tool=done.finish_reason == "tool_calls",
            hold_s=None if done.finish_reason == "cancelled" else request.hold_s,
            yields=bool(request.yield_),
        )
        settings, cost_s = self.outlook.settings, self.outlook.seat.swap_cost_s
        self._lingering = note_end(self._lingering, end, cost_s, settings)
        if request.next_model is not None:
            self._hint = request.next_model

    def swapped(self, model: str, lost_s: float) -> None:
        """A swap to `model` cost so much beside its drain."""
        self.costs_are(self.costs.with_swap(model, lost_s))

    def costs_are(self, costs: Costs) -> None:
        """What was measured, by this daemon or by those before it."""
        self.outlook = replace(self.outlook, costs=costs)

    def seat_is(
        self, seat: SeatView, target: str | None, swap_began: float, settings: SchedulerSettings
    ) -> SeatView:
        """Notes the seat; the same with what is known of agents that are expected back."""
        if seat.settled and seat.model != self._lingering.model:
            self._lingering = note_seat(self._lingering, seat.model)
            self._hint = None
        seat = replace(seat, linger_until=self._lingering.until)
        self.outlook = replace(
            self.outlook,
            seat=seat,
            target=target,
            swap_began=swap_began,
            settings=settings,
        )
        self._told_at = float("-inf")
        return seat

    def queue_is(self, queue: ModelQueue) -> None:
        """The queue of models after the newest decision."""
        self.outlook = replace(self.outlook, queue=queue)

    # --- what will happen -----------------------------------------------------------------------

    def swap_cost_s(self, model: str | None) -> float:
        """What a swap to `model` costs beside the drain; 0 while none was seen."""
        return self.costs.swap_to(model or "") or 0.0

    @property
    def costs(self) -> Costs:
        """What was measured so far."""
        return self.outlook.costs

    @property
    def queued(self) -> tuple[str, ...]:
        """Models that wait for the seat, in the order they get it; `swap=wait` joins none."""
        return self.outlook.queue.models

    @property
    def up_next(self) -> str | None:
        """The model to prepare: the head of the queue, else what an agent said it needs next."""
        return self.outlook.queue.head or self._hint

    def forecast(self, key: str, now: float) -> Forecast | None:
        """Place and wait of a waiting request; None when it does not wait."""
        if now - self._told_at >= FRESH_S:
            self._told = forecasts(self.outlook, self._waiting(), now)
            self._told_at = now
        return self._told.get(key)

    def wait_of_new_s(self, model: str, now: float) -> float | None:
        """Seconds until a request for `model` that came now would start; None when unknown."""
        waiting = list(self._waiting())
        order = 1 + max((entry.order for entry in waiting), default=0)
        is_slow = is_slow_model(waiting, model)
        new = Waiting(key=_NEW, model=model, order=order, since=now, is_slow=is_slow)
        return forecasts(self.outlook, [*waiting, new], now)[_NEW].wait_s

    def room_in_s(self, now: float) -> float | None:
        """Seconds until a place in a full queue gets free."""
        return first_start_s(self.outlook, self._waiting(), now)


def _who(client: str, request: Generate) -> str:
    """Agents of one client are told apart by their labels and sessions."""
    return f"{client}/{request.agent}/{request.session or ''}"
