"""Keeps the machine awake while there is work. Decides nothing: `rules/sleep.py` does."""

from collections.abc import Callable

import structlog

from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.guards.rules.sleep import (
    BATTERY_S,
    RETRY_S,
    Vigil,
    is_allowed,
    next_vigil,
    reason_to_stay_awake,
)
from hotseat.supervisor.machine.sleep_assertion import PowerAssertion, is_on_battery
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.values import Settings

log = structlog.get_logger()


class PowerWatch:
    """Owns the assertion; looks several times a second (`tick`)."""

    def __init__(
        self,
        seat: Seat,
        works: Works,
        events: EventLog,
        figures: Figures,
        settings: Settings,
        assertion: PowerAssertion,
        on_battery: Callable[[], bool] = is_on_battery,
    ) -> None:
        self._seat = seat
        self._works = works
        self._events = events
        self._figures = figures
        self._settings = settings.power
        self._assertion = assertion
        self._read_battery = on_battery
        self._on_battery = False
        self._battery_at = self._refused_at = float("-inf")
        self._vigil = Vigil()
        self._was_held = False

    def use(self, settings: Settings) -> None:
        """Takes new settings."""
        self._settings = settings.power

    def tick(self, now: float) -> None:
        """Takes the assertion or lets it go, as the work asks."""
        need = reason_to_stay_awake(self._works.running, self._seat.state.phase)
        if need is not None and now - self._battery_at >= BATTERY_S:
            self._battery_at = now
            self._on_battery = self._read_battery()
        allowed = is_allowed(self._settings, on_battery=self._on_battery)
        self._vigil = next_vigil(self._vigil, need, allowed=allowed, now=now)
        if self._vigil.reason is None:
            self._assertion.let_go()
        elif not self._assertion.is_held and now - self._refused_at >= RETRY_S:
            self._take(now)
        self._tell()

    def close(self) -> None:
        """The daemon ends."""
        self._assertion.close()

    def _take(self, now: float) -> None:
        if self._was_held:
            # It was held and is not any more: one that ends each time is not tried each time.
            self._refused_at = now
        try:
            self._assertion.hold()
        except OSError as error:
            self._refused_at = now
            log.warning("sleep.not_prevented", reason=str(error))

    def _tell(self) -> None:
        is_held = self._assertion.is_held
        if is_held != self._was_held:
            self._was_held = is_held
            if is_held:
                self._events.publish("sleep.prevented", reason=self._vigil.reason)
            else:
                self._events.publish("sleep.allowed")
        self._figures.keeps_awake = self._vigil.reason or "" if is_held else ""
