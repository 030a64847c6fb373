"""Has the worker write no blocks of running requests on a day that had enough, but at swaps."""

from hotseat.protocol.link_orders import Defer
from hotseat.supervisor.kv.daily_writing import DailyWriting
from hotseat.supervisor.seat.seat import Seat


class DeferredBlocks:
    """Tells each worker once, and again when the day is another one or its limit."""

    def __init__(self, seat: Seat, days: DailyWriting) -> None:
        self._seat = seat
        self._days = days
        self._told_epoch: int | None = None
        """Of the worker that defers."""

    def tick(self, now: float) -> None:
        """A worker that was not told writes as it computes."""
        del now
        epoch = self._seat.serving_epoch
        if epoch is None:
            return
        is_much = self._days.is_much
        if is_much != (self._told_epoch == epoch) and self._seat.send(Defer(blocks=is_much)):
            self._told_epoch = epoch if is_much else None
