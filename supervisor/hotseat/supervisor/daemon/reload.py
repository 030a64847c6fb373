"""Takes new settings into a running daemon: all of them or, if the file is wrong, none.

Those who keep settings are told one by one. The file is read in a thread.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from msgspec import structs

from hotseat.protocol.ids import ModelName
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.changes import SettingsChange, compare_settings
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.reader import load_settings
from hotseat.supervisor.settings.values import Settings


class TakesSettings(Protocol):
    """A part that keeps what it needs of the settings."""

    def use(self, settings: Settings) -> None:
        """Takes new settings."""


class Reloads:
    """`hotseat reload`. `holders` are all parts that keep settings."""

    def __init__(
        self,
        *,
        home: Home,
        planner: Planner,
        seat: Seat,
        dispatcher: Dispatcher,
        events: EventLog,
        holders: Sequence[TakesSettings],
    ) -> None:
        self._home = home
        self._planner = planner
        self._seat = seat
        self._dispatcher = dispatcher
        self._events = events
        self._holders = holders

    async def reload(self) -> SettingsChange:
        """Raises `HotseatError` (invalid_config) for a wrong file; the old settings stay then."""
        new = await asyncio.to_thread(load_settings, self._home.config)
        await asyncio.to_thread(self._planner.registry.learn, new)
        seated = self._seat.seated
        change = compare_settings(self._planner.settings, new, seated)
        for holder in self._holders:
            holder.use(new)
        self._events.publish("settings.reloaded", changed=list(change.changed))
        if seated is not None and (change.reseats or self._is_other(seated)):
            self._dispatcher.seat_by_itself(seated, "reload")
            return structs.replace(change, reseats=True)
        return change

    def _is_other(self, seated: str) -> bool:
        """True when files of its adapter changed since the seated model was loaded."""
        loaded = self._seat.record
        records = {record.name: record for record in self._planner.registry.records()}
        now = records.get(ModelName(seated))
        return loaded is not None and now is not None and now.tag != loaded.tag
