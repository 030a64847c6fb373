"""What everything else stands on: settings, machine, sockets, events, models, the seat as seen."""

import secrets
import time
from pathlib import Path

from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.events.journal import JournalWriter
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.machine.locks import DEFAULT_SEAT_LOCK, SeatLock
from hotseat.supervisor.machine.memory import system_probe
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.registry import Registry
from hotseat.supervisor.ports.client_port import ClientPort, Identity
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import Settings


class Ground:
    """Made first."""

    def __init__(self, home: Home, settings: Settings, catalogue: Catalogue, version: str) -> None:
        self.home = home
        self.settings = settings
        self.catalogue = catalogue
        self.identity = Identity(
            instance=secrets.token_hex(8), version=version, started_at=time.monotonic()
        )
        self.port = ClientPort(home.socket_path("requests"), self.identity)
        self.figures = Figures()
        self.journal = JournalWriter(catalogue)
        self.events = EventLog(self.journal.take)
        self.lock = SeatLock(Path(settings.seat.lock_path or DEFAULT_SEAT_LOCK))
        self.seat = seat = Seat()
        registry = Registry(home, settings, lambda: seat.seated)
        self.planner = Planner(registry, system_probe(), OwnMemory(), settings)
