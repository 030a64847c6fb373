"""The daemon's guards, run by one clock of their own: stuck workers.

Apart from `upkeep`, whose ticks wait for disk and threads: a guard has to look on time.
"""

import asyncio
import time
from typing import Final

import structlog

from hotseat.supervisor.core.settings import Settings
from hotseat.supervisor.event_log import EventLog
from hotseat.supervisor.seat_runner import SeatRunner
from hotseat.supervisor.stall_watch import StallWatch
from hotseat.supervisor.works import Works

LOOK_S: Final = 0.2
log = structlog.get_logger()


class Guard:
    """Owns the watchers and their clock."""

    def __init__(
        self, *, runner: SeatRunner, works: Works, events: EventLog, settings: Settings
    ) -> None:
        self.stalls = StallWatch(runner, works, events, settings.stalls)

    async def run(self) -> None:
        """Looks until it is cancelled; one look that fails does not end the looking."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self._look(time.monotonic())
            except Exception:  # task root
                log.exception("guard.defect")

    def _look(self, now: float) -> None:
        self.stalls.tick(now)
