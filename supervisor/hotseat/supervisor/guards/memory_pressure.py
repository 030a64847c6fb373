"""Gives up what short memory asks for: idle contexts, then requests. Decides nothing."""

from hotseat.protocol.link_orders import Shrink
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.guards.memory_level import MemoryLevel
from hotseat.supervisor.guards.rules.pressure import Level, ShrinkLive
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.seat.seat import Seat


class PressureWatch:
    """Looks several times a second (`tick`)."""

    def __init__(
        self,
        level: MemoryLevel,
        seat: Seat,
        works: Works,
        runs: WorkRuns,
        figures: Figures,
        events: EventLog,
    ) -> None:
        self._memory = level
        self._seat = seat
        self._works = works
        self._runs = runs
        self._figures = figures
        self._events = events
        self._told = Level.NORMAL

    def tick(self, now: float) -> None:
        """One reading and what follows, also from readings that new requests asked for."""
        self._memory.look(now)
        if self._memory.state.level is not self._told:
            self._told = self._memory.state.level
            self._tell()
            self._works.changed.set()
        for step in self._memory.take_due():
            if isinstance(step, ShrinkLive):
                self._seat.send(Shrink(keep=step.keep))
                self._events.publish("memory.shed", step="contexts", kept=step.keep)
            else:
                self._suspend_youngest()

    def _suspend_youngest(self) -> None:
        running = [w for w in self._works.in_state(WorkState.RUNNING) if w.finished is None]
        if not running:
            return
        work = running[-1]
        self._runs.suspend(work)
        self._events.publish("memory.shed", step="request", request=work.request_id)

    def _tell(self) -> None:
        level, reading = self._told, self._memory.reading
        self._figures.shedding = "" if level is Level.NORMAL else level.name.lower()
        self._events.publish(
            "memory.pressure_changed",
            level=level.name.lower(),
            os_level=reading.os_level,
            available_bytes=reading.available_bytes,
            footprint_bytes=reading.footprint_bytes,
            limit_bytes=reading.limit_bytes,
        )
