"""What everything else stands on: settings, machine, sockets, events, models, the seat as seen."""

import secrets
import time
from pathlib import Path

from msgspec import Struct

from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.events.figures import Figures, Identity
from hotseat.supervisor.events.journal import JournalWriter
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.machine.locks import DEFAULT_SEAT_LOCK, SeatLock
from hotseat.supervisor.machine.memory import system_probe
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.registry import Registry
from hotseat.supervisor.ports.client_port import ClientPort
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import Settings


class Ground(Struct, frozen=True, kw_only=True):
    """What everything else stands on."""

    home: Home
    settings: Settings
    catalogue: Catalogue
    identity: Identity
    port: ClientPort
    figures: Figures
    journal: JournalWriter
    events: EventLog
    lock: SeatLock
    seat: Seat
    planner: Planner


def lay_ground(home: Home, settings: Settings, catalogue: Catalogue, version: str) -> Ground:
    """Settings, machine, sockets, events, models, and the seat as it is seen."""
    identity = Identity(instance=secrets.token_hex(8), version=version, started_at=time.monotonic())
    journal = JournalWriter(catalogue)
    seat = Seat()
    registry = Registry(home, settings, lambda: seat.seated)
    return Ground(
        home=home,
        settings=settings,
        catalogue=catalogue,
        identity=identity,
        port=ClientPort(home.socket_path("requests"), instance=identity.instance, version=version),
        figures=Figures(),
        journal=journal,
        events=EventLog(journal.take),
        lock=SeatLock(Path(settings.seat.lock_path or DEFAULT_SEAT_LOCK)),
        seat=seat,
        planner=Planner(registry, system_probe(), OwnMemory(), settings),
    )
