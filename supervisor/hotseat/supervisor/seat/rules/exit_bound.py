"""How long an orderly end may take: what launchd, and whoever waits for a stop, has to allow.

Pure. Must follow the seat's table; a property test drives the table against this bound.
"""

import math
from typing import Final

from hotseat.supervisor.settings.values import Deadlines

CLOSE_S: Final = 30.0
"""Beside the seat: telling clients, settling rows, closing the catalogue."""


def exit_bound_s(limits: Deadlines) -> float:
    """Seconds from being told to end until the seat is empty, whatever the worker does."""
    drain_s = limits.exit_drain_s + limits.term_s
    stop_s = limits.stop_s + limits.term_s + limits.kill_s
    return drain_s + limits.checkpoint_s + stop_s + limits.reclaim_s


def exit_time_out_s(limits: Deadlines) -> int:
    """Launchd's `ExitTimeOut`: above the sum of our own deadlines, so that it never kills first."""
    return math.ceil(exit_bound_s(limits) + CLOSE_S)
