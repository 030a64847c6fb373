"""Keeps the machine awake while there is work. Decides nothing itself: `core.power` does."""

from collections.abc import Callable
from typing import Literal

import structlog

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
from hotseat.supervisor.seat.runner import SeatRunner
from hotseat.supervisor.settings.values import PowerSettings

log = structlog.get_logger()


class PowerWatch:
    """Owns the assertion; looks several times a second (`tick`)."""

    def __init__(
        self,
        *,
        runner: SeatRunner,
        works: Works,
        events: EventLog,
        settings: PowerSettings,
        assertion: PowerAssertion,
        on_battery: Callable[[], bool] = is_on_battery,
    ) -> None:
        self._runner = runner
        self._works = works
        self._events = events
        self.settings = settings
        self._assertion = assertion
        self._read_battery = on_battery
        self._on_battery = False
        self._battery_at = self._refused_at = float("-inf")
        self._vigil = Vigil()
        self._was_held = False

    @property
    def keeps_awake(self) -> Literal["", "request", "swap"]:
        """What for: `request`, `swap`, or empty while the machine may sleep."""
        return self._vigil.reason or "" if self._was_held else ""

    def tick(self, now: float) -> None:
        """Takes the assertion or lets it go, as the work asks."""
        need = reason_to_stay_awake(self._works.running, self._runner.state.phase)
        if need is not None and now - self._battery_at >= BATTERY_S:
            self._battery_at = now
            self._on_battery = self._read_battery()
        allowed = is_allowed(self.settings, on_battery=self._on_battery)
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
