"""Memory that MLX holds, for whoever measures this process from outside. Judges nothing."""

from collections.abc import Callable
from typing import TextIO

import mlx.core as mx

from hotseat.protocol.selftest import Measured, TouchMemory, figure
from hotseat.worker.model.footprint import footprint_bytes, give_back


def touch_memory(order: TouchMemory, lines: TextIO, tell: Callable[[Measured], None]) -> Measured:
    """One line before and one while it is held; each next step waits for a line."""
    mx.eval(mx.array([1.0]))  # what the device itself takes is there before
    give_back()
    before = footprint_bytes()
    tell(Measured())
    lines.readline()
    held = mx.full((order.size_bytes // 4,), 1.0)
    mx.eval(held)
    during = footprint_bytes()
    tell(Measured())
    lines.readline()
    del held
    give_back()
    after = footprint_bytes()
    return Measured(
        figures=(
            figure("touched_bytes", order.size_bytes),
            figure("own_before_bytes", before),
            figure("own_held_bytes", during),
            figure("own_after_bytes", after),
        )
    )
