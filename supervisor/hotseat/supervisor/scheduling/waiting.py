"""Requests that wait for their model, and in which order they start. Pure; knows no seat.

Priorities, ageing and deadlines reorder only requests of one model; which model comes next is
none of their business.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct


class Waiting(Struct, frozen=True, kw_only=True):
    """A request that could start if its model were seated. `order` is its place of arrival."""

    key: str
    model: str
    order: int
    never_swaps: bool = False
    """True: it waits for its model but does not make a swap happen (`swap: wait`)."""
    since: float = 0.0
    """When it arrived."""
    priority: int = 0
    deadline: float | None = None
    """Its end is of no use to anybody after that."""
    is_slow: bool = False
    """The disk holds its model below 1 token a second, and it can go on after a swap."""


def counted_arrival(entry: Waiting, ageing_s: float) -> float:
    """When the request counts as having arrived: the earlier, the sooner it starts.

    A step of priority is worth `ageing_s` of waiting. All requests age alike, so the order of two
    never changes while they wait, and it takes no clock to know it. A deadline nearer than
    `ageing_s` at arrival is worth what is missing, at most one step.
    """
    since = entry.since
    if entry.deadline is not None:
        since = min(since, max(entry.deadline - ageing_s, since - ageing_s))
    return since - entry.priority * ageing_s


def in_start_order(entries: Iterable[Waiting], ageing_s: float) -> tuple[Waiting, ...]:
    """Requests of one model, the next to start first."""
    return tuple(sorted(entries, key=lambda one: (counted_arrival(one, ageing_s), one.order)))


def overdue_keys(entries: Iterable[Waiting], now: float) -> tuple[str, ...]:
    """Requests whose deadline has passed."""
    return tuple(e.key for e in entries if e.deadline is not None and e.deadline <= now)


def next_deadline(entries: Iterable[Waiting], now: float) -> float | None:
    """When the next request becomes overdue."""
    ahead = (e.deadline for e in entries if e.deadline is not None and e.deadline > now)
    return min(ahead, default=None)


def earliest(*times: float | None) -> float | None:
    """The first of some times, those that do not come apart."""
    return min((time for time in times if time is not None), default=None)


def of_model(entries: Sequence[Waiting], model: str | None) -> tuple[Waiting, ...]:
    """The requests of one model."""
    return tuple(entry for entry in entries if entry.model == model)


def is_slow_model(entries: Sequence[Waiting], model: str | None) -> bool:
    """True if the model, by what waits for it, will leave the seat between two tokens."""
    mine = of_model(entries, model)
    return bool(mine) and all(entry.is_slow for entry in mine)
