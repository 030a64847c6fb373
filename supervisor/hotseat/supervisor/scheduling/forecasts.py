"""How many requests come before one and how long it will probably wait. Pure.

Estimates for people and clients, from measured costs; nothing is decided by them.
"""

import math
from collections.abc import Sequence

from msgspec import Struct

from hotseat.supervisor.scheduling.learned_costs import Costs
from hotseat.supervisor.scheduling.model_queue import ModelQueue, queue_models
from hotseat.supervisor.scheduling.scheduler import SeatView, kept_s
from hotseat.supervisor.scheduling.waiting import Waiting, in_start_order, is_slow_model, of_model
from hotseat.supervisor.settings.values import SchedulerSettings


class Outlook(Struct, frozen=True, kw_only=True):
    """What estimates are made from: the seat, the queue of models, and costs."""

    seat: SeatView
    queue: ModelQueue = ModelQueue()
    costs: Costs = Costs()
    settings: SchedulerSettings = SchedulerSettings()
    target: str | None = None
    """The model being seated while the seat is not settled."""
    swap_began: float = 0.0


class Forecast(Struct, frozen=True, kw_only=True):
    """`position` requests start before it; `wait_s` is None when a cost is not known yet."""

    position: int
    wait_s: float | None


class _Stay(Struct, frozen=True, kw_only=True):
    """One model's next time on the seat: when it begins and how long it lasts, from now on.

    `is_slow`: it leaves its answers in the middle.
    """

    model: str
    begins_s: float | None
    lasts_s: float
    is_slow: bool = False


def forecasts(outlook: Outlook, waiting: Sequence[Waiting], now: float) -> dict[str, Forecast]:
    """The forecast for every waiting request."""
    settings = outlook.settings
    stays = _stays(outlook, waiting, now)
    told: dict[str, Forecast] = {}
    for stay in stays:
        mine = in_start_order(of_model(waiting, stay.model), settings.ageing_s)
        away_s = _away_s(outlook, stays, stay)
        for place, entry in enumerate(mine):
            wait_s = _wait_s(outlook, stay, place, away_s)
            told[entry.key] = Forecast(position=len(told), wait_s=wait_s)
    return told


def first_start_s(outlook: Outlook, waiting: Sequence[Waiting], now: float) -> float | None:
    """Seconds until the first of the waiting requests starts: a place gets free then."""
    waits = (entry.wait_s for entry in forecasts(outlook, waiting, now).values())
    return min((wait for wait in waits if wait is not None), default=None)


def _stays(outlook: Outlook, waiting: Sequence[Waiting], now: float) -> list[_Stay]:
    """Who has the seat when, in order; models that only wait come last and at no known time."""
    seat, costs = outlook.seat, outlook.costs
    holder = seat.model if seat.settled else outlook.target
    queue = queue_models(outlook.queue, waiting, holder)
    stays = []
    begins_s: float | None = 0.0
    if holder is not None:
        if not seat.settled:
            swap_s = costs.swap_to(holder)
            elapsed_s = now - outlook.swap_began
            begins_s = None if swap_s is None else max(0.0, swap_s - elapsed_s)
        stays.append(_stay(outlook, waiting, holder, begins_s, now))
        begins_s = None if begins_s is None else begins_s + stays[-1].lasts_s
    for model in queue.models:
        swap_s = costs.swap_to(model)
        begins_s = None if begins_s is None or swap_s is None else begins_s + swap_s
        stays.append(_stay(outlook, waiting, model, begins_s, now))
        begins_s = None if begins_s is None else begins_s + stays[-1].lasts_s
    known = {stay.model for stay in stays}
    rest = dict.fromkeys(entry.model for entry in waiting if entry.model not in known)
    return [*stays, *(_Stay(model=model, begins_s=None, lasts_s=0.0) for model in rest)]


def _stay(
    outlook: Outlook,
    waiting: Sequence[Waiting],
    model: str,
    begins_s: float | None,
    now: float,
) -> _Stay:
    is_seated = outlook.seat.settled and outlook.seat.model == model
    is_slow = outlook.seat.is_slow if is_seated else is_slow_model(waiting, model)
    lasts_s = _lasts_s(outlook, waiting, model, now, is_slow=is_slow)
    return _Stay(model=model, begins_s=begins_s, lasts_s=lasts_s, is_slow=is_slow)


def _lasts_s(
    outlook: Outlook, waiting: Sequence[Waiting], model: str, now: float, *, is_slow: bool
) -> float:
    """How long the model holds the seat: until its work is done, at most q and the grace time.

    A slow one holds it for what its swap cost, at most.
    """
    seat, settings = outlook.seat, outlook.settings
    is_seated = seat.settled and seat.model == model
    over_s = kept_s(settings, outlook.costs.swap_to(model) or 0.0, is_slow=is_slow)
    if is_seated:
        over_s = max(0.0, over_s - (now - seat.seated_at))
    running = seat.running if is_seated else 0
    count = running + len(of_model(waiting, model))
    if count == 0:
        return min(over_s, max(0.0, seat.linger_until - now)) if is_seated else 0.0
    turn_s = outlook.costs.of(model).turn_s
    longest_s = over_s if is_slow else over_s + settings.grace_s
    if turn_s is None:
        return longest_s
    return min(longest_s, math.ceil(count / settings.max_running) * turn_s)


def _away_s(outlook: Outlook, stays: Sequence[_Stay], own: _Stay) -> float | None:
    """How long the model is away when it has to give the seat up with work left."""
    others = [stay for stay in stays if stay.model != own.model and stay.lasts_s > 0.0]
    if not others:
        return 0.0
    swaps = [outlook.costs.swap_to(stay.model) for stay in (*others, own)]
    known = [swap_s for swap_s in swaps if swap_s is not None]
    if len(known) < len(swaps):
        return None
    return sum(stay.lasts_s for stay in others) + sum(known)


def _wait_s(outlook: Outlook, stay: _Stay, place: int, away_s: float | None) -> float | None:
    """Until the model is seated, until there is room, and for the times it is away meanwhile."""
    seat, settings = outlook.seat, outlook.settings
    if stay.begins_s is None:
        return None
    running = seat.running if seat.settled and seat.model == stay.model else 0
    rounds = (place + running) // settings.max_running
    if rounds == 0:
        return stay.begins_s
    turn_s = outlook.costs.of(stay.model).turn_s
    if turn_s is None or away_s is None:
        return None
    there_s = stay.begins_s + rounds * turn_s
    if not away_s:
        return there_s
    at_once_s = max(stay.lasts_s, turn_s)
    if stay.is_slow:  # one answer takes it several times on the seat
        swap_s = outlook.costs.swap_to(stay.model) or 0.0
        at_once_s = min(at_once_s, kept_s(settings, swap_s, is_slow=True))
    if at_once_s <= 0.0:
        return None
    return there_s + int(rounds * turn_s // at_once_s) * away_s
