"""What follows when workers lose the GPU: neither a request nor a model is to blame. Pure.

A fresh process mends most of it. Where none does, only a restart of the Mac is left, and until then
workers are started seldom.
"""

from typing import Final

from hotseat.supervisor.seat.rules.states import Fault, GpuLosses

MAX_IN_A_ROW: Final = 5
"""Losses after which nothing is seated for a while."""
SEAT_AGAIN: Final = 2
"""Losses in a row over which a swap goes on; the next one ends it, maybe it is the model."""
_PAUSE_S: Final = 60.0
_MAX_PAUSE_S: Final = 3600.0


def after_loss(known: GpuLosses, reason: str, now: float) -> GpuLosses:
    """One more; beyond the most that is borne, each makes the pause twice as long."""
    count = known.in_a_row + 1
    over = count - MAX_IN_A_ROW - 1
    pause_s = min(_PAUSE_S * 2.0**over, _MAX_PAUSE_S) if over >= 0 else 0.0
    return GpuLosses(in_a_row=count, until=now + pause_s, reason=reason)


def gpu_refusal(known: GpuLosses, now: float) -> Fault | None:
    """Why nothing can be seated now, with the way out; None if it may be tried."""
    left_s = known.until - now
    if left_s <= 0.0:
        return None
    return Fault(
        code="worker_lost",
        message=(
            f"the GPU failed {known.in_a_row} times in a row, in a new worker each time "
            f"({known.reason}); restart the Mac; tried again in {left_s:.0f} s"
        ),
        gpu=known.reason,
        facts={"gpu": known.reason, "in_a_row": known.in_a_row},
    )
