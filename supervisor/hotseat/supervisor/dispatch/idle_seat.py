"""Gives the seat up when nobody asked the seated model for anything for long (`keep_alive`).

Sooner while memory is critical: new work is refused then, so all that memory serves nobody.
"""

import time
from typing import Final, Protocol

from hotseat.protocol.ids import ModelName
from hotseat.protocol.replies import Cause
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.values import Settings

CRITICAL_S: Final = 30.0
"""Short peaks pass, and to load a model again takes long."""


class CriticalMemory(Protocol):
    """Whether memory is so short that nothing new may begin."""

    @property
    def critical_since(self) -> float | None:
        """Monotonic time since when; None while it is not."""


class IdleSeat:
    """Knows since when the seat is idle, and for how long it may be."""

    def __init__(
        self,
        seat: Seat,
        works: Works,
        releases: Releases,
        memory: CriticalMemory,
        settings: Settings,
    ) -> None:
        self._seat = seat
        self._works = works
        self._releases = releases
        self._memory = memory
        self._settings = settings
        self._idle_since = time.monotonic()

    def use(self, settings: Settings) -> None:
        """Takes new settings."""
        self._settings = settings

    def left_s(self, now: float) -> float | None:
        """Until the seated model is given up for being idle; None for one that is not."""
        state = self._seat.state
        chosen = self._settings.model(ModelName(state.model or ""))
        if not self._seat.admits or self._works.running or chosen.pin:
            return None
        idle_since = max(self._idle_since, state.seated_at)
        until = idle_since + (chosen.keep_alive_s or self._settings.seat.keep_alive_s)
        critical_since = self._memory.critical_since
        # Whoever waits for memory would be refused by the empty seat.
        if critical_since is not None and not self._works.are_under_way:
            until = min(until, max(idle_since, critical_since) + CRITICAL_S)
        return until - now

    def tick(self, now: float) -> None:
        """Memory that nobody used for long goes back to the machine."""
        if self._works.running:
            self._idle_since = now
        left_s = self.left_s(now)
        if left_s is None or left_s > 0.0 or self._releases.is_asked:
            return
        self._idle_since = now  # one that fails is tried again, but not at every tick
        is_short = self._memory.critical_since is not None
        why = "memory_pressure" if is_short else "keep_alive"
        cause = Cause(client="hotseat", request_id=why, model_asked="")
        self._releases.ask(cause, None)
        self._works.changed.set()
