"""Which request may start and which model gets the seat next. Pure; time is an argument.

Policy (design.md section 8): models take the seat in the order of their first waiting request. The
seated model keeps it for `q = max(min_seat_s, weight x swap cost)` while it has work; a model
without work gives way at once. Swaps that were asked for go first and wait for nobody.
"""

from collections.abc import Sequence

from msgspec import Struct


class SchedulerSettings(Struct, frozen=True, kw_only=True):
    """`weight`: residency in swap costs, so that at most 1/(1+weight) of the time goes to swaps."""

    min_seat_s: float = 2.0
    weight: float = 4.0


class Waiting(Struct, frozen=True, kw_only=True):
    """A request that could start if its model were seated. `order` is its place of arrival."""

    key: str
    model: str
    order: int
    never_swaps: bool = False
    """True: it waits for its model but does not make a swap happen (`swap: wait`)."""


class WantedSwap(Struct, frozen=True, kw_only=True):
    """A swap somebody asked for."""

    swap: int
    model: str


class SeatView(Struct, frozen=True, kw_only=True):
    """What the decision needs to know of the seat. `model` is None when nothing is seated."""

    model: str | None
    settled: bool
    seated_at: float = 0.0
    running: int = 0
    swap_cost_s: float = 0.0


class Decision(Struct, frozen=True, kw_only=True):
    """Start `admit`; then, if set, give the seat to `swap_to`; look again at `wake_at`."""

    admit: tuple[str, ...] = ()
    swap_to: str | None = None
    asked: int | None = None
    """The asked-for swap that `swap_to` answers; None: it is for waiting requests."""
    wake_at: float | None = None


def decide(
    waiting: Sequence[Waiting],
    asked: Sequence[WantedSwap],
    seat: SeatView,
    now: float,
    settings: SchedulerSettings,
) -> Decision:
    """The decision for this moment. `waiting` in order of arrival within each model."""
    if not seat.settled:
        return Decision()
    mine = tuple(entry.key for entry in waiting if entry.model == seat.model)
    if asked:
        first = asked[0]
        return Decision(swap_to=first.model, asked=first.swap)
    head = _head_model(waiting, seat.model)
    if head is None:
        return Decision(admit=mine)
    keeps_until = seat.seated_at + max(settings.min_seat_s, settings.weight * seat.swap_cost_s)
    has_work = bool(mine) or seat.running > 0
    if seat.model is not None and has_work and now < keeps_until:
        return Decision(admit=mine, wake_at=keeps_until)
    return Decision(swap_to=head)


def _head_model(waiting: Sequence[Waiting], seated: str | None) -> str | None:
    """The model whose first request has waited longest, the seated one apart."""
    others = [entry for entry in waiting if entry.model != seated and not entry.never_swaps]
    return min(others, key=lambda entry: entry.order).model if others else None


def queue_position(waiting: Sequence[Waiting], key: str) -> int:
    """How many requests start before `key`, all models counted, in order of arrival."""
    order = next((entry.order for entry in waiting if entry.key == key), None)
    return 0 if order is None else sum(1 for entry in waiting if entry.order < order)
