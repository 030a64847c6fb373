"""Notices that the machine or this process slept, says so, and has looked at what may have changed.

Deadlines need nothing from here: phases get lost time back through the table (`Slept`), and sleep
does not count in monotonic time.
"""

import structlog

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.machine.locks import SeatLock
from hotseat.supervisor.machine.time_awake import AwakeClock, SleepClock
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.seat.seat import Seat

log = structlog.get_logger()


class WakeWatch:
    """Looks several times a second (`tick`)."""

    def __init__(
        self,
        seat: Seat,
        lock: SeatLock,
        planner: Planner,
        works: Works,
        events: EventLog,
        now: float,
        whole_now: float,
    ) -> None:
        self._seat = seat
        self._lock = lock
        self._planner = planner
        self._works = works
        self._events = events
        self._awake = AwakeClock(now)
        self._sleep = SleepClock(now, whole_now)

    def tick(self, now: float, whole_now: float) -> None:
        """Compares the clocks; after a sleep everything that has its own idea of time is asked."""
        stopped_s = self._awake.take_lost_s(now)
        slept_s = self._sleep.take_slept_s(now, whole_now)
        if not stopped_s and not slept_s:
            return
        self._events.publish(
            "system.woke",
            slept_s=round(slept_s, 1),
            stopped_s=round(stopped_s, 1),
            missing=self._missing_files(),
        )
        self._look_at_lock()
        # A hold of `release --for` ends by the clock on the wall, its timer by awake time.
        self._works.changed.set()

    def _missing_files(self) -> str:
        """Why the seated model could not be loaded again: a volume may have gone meanwhile."""
        model = self._seat.state.model
        try:
            if model is not None:
                self._planner.registry.get(model)
        except HotseatError as error:
            return error.message
        return ""

    def _look_at_lock(self) -> None:
        """Folders for temporary files are tidied by age, and age counts sleep."""
        if self._lock.is_held and not self._lock.refresh():
            log.error("seat.lock_replaced")
