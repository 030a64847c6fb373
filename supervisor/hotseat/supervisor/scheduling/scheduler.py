"""Which request may start and which model gets the seat next. Pure; time is an argument.

Policy: models get the seat first come, first served. The seated model keeps
it for `q = max(min_seat_s, weight x swap cost)` while it has work; a model without work gives way
at once, unless an agent is expected back within a moment. Swaps that were asked for go first and
wait for nobody. A model below 1 token a second keeps the seat for what the swap to it cost and
gives it up between two tokens: so it gets on, and nobody waits for the end of its answers.

What follows, with `grace` bounding the drain and asked-for swaps apart: a model that has joined
the queue is seated within the sum over the other models of (q + grace + swap), and one swap more
if the seat was empty when it joined; of a seating that had work for q at most 1/(1 + weight) is
lost to the swap.
"""

from collections.abc import Sequence

from msgspec import Struct

from hotseat.supervisor.scheduling.model_queue import ModelQueue, queue_models
from hotseat.supervisor.scheduling.waiting import (
    Waiting,
    earliest,
    in_start_order,
    next_deadline,
    of_model,
    overdue_keys,
)
from hotseat.supervisor.settings.values import DrainPolicy, SchedulerSettings


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
    """Measured: what a swap to the seated model costs beside the drain. It stays for a multiple of
    that, so the share of time lost to swaps is bounded seating by seating."""
    is_slow: bool = False
    """The disk holds it below 1 token a second."""
    linger_until: float = 0.0
    """An agent of the seated model is expected back before that."""


class Decision(Struct, frozen=True, kw_only=True):
    """End `expire`, start `admit`; then, if set, give the seat to `swap_to`; wake at `wake_at`.

    `queue` has to be passed to the next decision.
    """

    admit: tuple[str, ...] = ()
    swap_to: str | None = None
    asked: int | None = None
    """The asked-for swap that `swap_to` answers; None: it is for waiting requests."""
    drain: DrainPolicy = "suspend"
    grace_s: float = 0.0
    """With `swap_to`: what to do with running work, and after how long."""
    expire: tuple[str, ...] = ()
    """Requests whose deadline has passed, wherever they are."""
    wake_at: float | None = None
    queue: ModelQueue = ModelQueue()


def residency_s(settings: SchedulerSettings, swap_cost_s: float) -> float:
    """How long a model with work keeps the seat although others wait: `q`."""
    return max(settings.min_seat_s, settings.weight * swap_cost_s)


def kept_s(settings: SchedulerSettings, swap_cost_s: float, *, is_slow: bool) -> float:
    """How long after its seating a model with work leaves the seat to others.

    A slow one leaves it between two tokens, others get the grace time on top.
    """
    due_s = residency_s(settings, swap_cost_s)
    return min(due_s, swap_cost_s) if is_slow else due_s


def decide(
    waiting: Sequence[Waiting],
    asked: Sequence[WantedSwap],
    seat: SeatView,
    now: float,
    settings: SchedulerSettings,
    queue: ModelQueue = ModelQueue(),  # noqa: B008 - frozen
    others: Sequence[Waiting] = (),
) -> Decision:
    """The decision for this moment; `queue` is what the decision before it returned.

    `others` are requests that cannot start: they run, or wait behind one of their session. Only
    their deadlines count.
    """
    everybody = (*waiting, *others)
    expire = overdue_keys(everybody, now)
    alive = [entry for entry in waiting if entry.deadline is None or entry.deadline > now]
    deadline = next_deadline(everybody, now)
    if not seat.settled:
        return Decision(expire=expire, wake_at=deadline, queue=queue)
    queue = queue_models(queue, alive, seat.model)
    swap_to, number = queue.head, None
    keeps_until = 0.0
    if asked:
        swap_to, number = asked[0].model, asked[0].swap
    elif swap_to is not None:
        keeps_until = _keeps_until(alive, seat, settings)
    if swap_to is None or now < keeps_until:
        return Decision(
            admit=_startable(alive, seat, settings),
            expire=expire,
            wake_at=earliest(deadline, keeps_until if swap_to is not None else None),
            queue=queue,
        )
    return Decision(
        swap_to=swap_to,
        asked=number,
        drain=settings.drain,
        grace_s=settings.grace_s if seat.running and not seat.is_slow else 0.0,
        expire=expire,
        wake_at=deadline,
        queue=queue,
    )


def is_swap_moot(
    target: str, waiting: Sequence[Waiting], asked: Sequence[WantedSwap], now: float
) -> bool:
    """True if nobody is left for whom a swap to `target` was begun: it only costs by now.

    Whoever would not have made it happen counts as well: the seat is on its way to them.
    """
    alive = (entry for entry in waiting if entry.deadline is None or entry.deadline > now)
    wanted = {entry.model for entry in alive} | {swap.model for swap in asked}
    return target not in wanted


def _keeps_until(alive: Sequence[Waiting], seat: SeatView, settings: SchedulerSettings) -> float:
    """Until when the seated model keeps the seat although another waits; 0 is not at all."""
    if seat.model is None:
        return 0.0
    over_at = seat.seated_at + kept_s(settings, seat.swap_cost_s, is_slow=seat.is_slow)
    if seat.running or any(entry.model == seat.model for entry in alive):
        return over_at
    # Waiting for an agent is residency too: it never prolongs what the others have to wait.
    return min(over_at, seat.linger_until)


def _startable(
    alive: Sequence[Waiting], seat: SeatView, settings: SchedulerSettings
) -> tuple[str, ...]:
    """Requests of the seated model that fit beside those that run."""
    if seat.model is None:
        return ()
    room = max(0, settings.max_running - seat.running)
    mine = in_start_order(of_model(alive, seat.model), settings.ageing_s)
    return tuple(entry.key for entry in mine[:room])
