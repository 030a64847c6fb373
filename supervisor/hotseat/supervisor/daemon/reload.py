"""Takes new settings into a running daemon: all of them or, if the file is wrong, none.

Knows who holds a copy of what. The file is read in a thread.
"""

import asyncio
from collections.abc import Callable

import structlog
from msgspec import Struct, structs

from hotseat.protocol.ids import ModelName
from hotseat.supervisor.daemon.upkeep import Upkeep
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.guards.guard import Guard
from hotseat.supervisor.kv.disk_tier import DiskTier
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.requests.accepting import Acceptor
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.seat.rules.states import Phase
from hotseat.supervisor.seat.runner import SeatRunner
from hotseat.supervisor.settings.changes import SettingsChange, compare_settings
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.reader import load_settings
from hotseat.supervisor.settings.values import Settings

log = structlog.get_logger()


class Holders(Struct, frozen=True, kw_only=True):
    """Everybody who keeps settings."""

    planner: Planner
    dispatcher: Dispatcher
    runner: SeatRunner
    desk: Acceptor
    outbox: Outbox
    upkeep: Upkeep
    disk: DiskTier
    guard: Guard


class Reloads:
    """`hotseat reload`."""

    def __init__(
        self,
        home: Home,
        holders: Holders,
        events: EventLog,
        reseat: Callable[[str], None],
    ) -> None:
        self._home = home
        self._holders = holders
        self._events = events
        self._reseat = reseat

    async def reload(self) -> SettingsChange:
        """Raises `HotseatError` (invalid_config) for a wrong file; the old settings stay then."""
        new = await asyncio.to_thread(load_settings, self._home.config)
        await asyncio.to_thread(self._holders.planner.registry.learn, new)
        state = self._holders.runner.state
        seated = state.model if state.phase is Phase.READY else None
        change = compare_settings(self._holders.planner.settings, new, seated)
        self._apply(new)
        self._events.publish("settings.reloaded", changed=list(change.changed))
        if seated is not None and (change.reseats or self._is_other(seated)):
            self._reseat(seated)
            return structs.replace(change, reseats=True)
        return change

    def _is_other(self, seated: str) -> bool:
        """True when files of its adapter changed since the seated model was loaded."""
        loaded = self._holders.runner.record
        records = {record.name: record for record in self._holders.planner.registry.records()}
        now = records.get(ModelName(seated))
        return loaded is not None and now is not None and now.tag != loaded.tag

    def _apply(self, new: Settings) -> None:
        holders = self._holders
        holders.planner.use(new)
        holders.dispatcher.settings = new.scheduler
        holders.runner.deadlines = new.deadlines
        holders.desk.limits = new.limits
        holders.outbox.slow_consumer_s = new.limits.slow_consumer_s
        holders.upkeep.settings = new
        holders.disk.settings = new.kv
        holders.guard.use(new)
