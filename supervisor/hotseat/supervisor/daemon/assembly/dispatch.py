"""Who may run, who gets the seat, and the seat itself; its runner after those whom it tells."""

import asyncio

from hotseat.supervisor.daemon.activity import daemon_rhythm
from hotseat.supervisor.daemon.assembly.ground import Ground
from hotseat.supervisor.daemon.assembly.requests import Requests
from hotseat.supervisor.daemon.life import Life
from hotseat.supervisor.dispatch.admission import Admission
from hotseat.supervisor.dispatch.asked_swaps import AskedSwaps
from hotseat.supervisor.dispatch.cold_contexts import ColdContexts, Surroundings
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.dispatch.idle_seat import IdleSeat
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.dispatch.seat_consequences import SeatConsequences
from hotseat.supervisor.dispatch.seat_news import SeatAnnouncer
from hotseat.supervisor.guards.memory_level import MemoryLevel
from hotseat.supervisor.guards.unclean_boots import BootMarks, boot_id
from hotseat.supervisor.machine.other_models import other_programs
from hotseat.supervisor.machine.sleep_assertion import is_on_battery
from hotseat.supervisor.models.short_memory import MemoryHolders
from hotseat.supervisor.requests.accepting import Acceptor
from hotseat.supervisor.requests.prompt_fits import PromptFits
from hotseat.supervisor.seat.runner import SeatRunner


class Dispatch:
    """Who gets the seat next, and the seat."""

    def __init__(self, ground: Ground, requests: Requests) -> None:
        seat, events, settings, works = ground.seat, ground.events, ground.settings, requests.works
        runs, planner = requests.runs, ground.planner
        self.memory = MemoryLevel(planner, seat, works, ground.figures, settings)
        self.boots = BootMarks(ground.catalogue, boot_id())
        self.releases = Releases()
        holders = MemoryHolders(planner.probe, other_programs())
        self.admission = Admission(planner, seat, self.releases, self.memory, self.boots, holders)
        self.swaps = AskedSwaps(ground.catalogue, ground.port, self.admission, works)
        self.rhythm = daemon_rhythm(seat, works, requests.outbox, self.swaps, events)
        self.idle = IdleSeat(seat, works, self.releases, self.memory, settings)
        emptied = asyncio.Event()
        host = SeatConsequences(works, runs, requests.reports, requests.keeper, emptied.set)
        news = SeatAnnouncer(
            works=works,
            runs=runs,
            outbox=requests.outbox,
            swaps=self.swaps,
            releases=self.releases,
            events=events,
            figures=ground.figures,
            own=planner.own,
        )
        self.runner = SeatRunner(
            ground.home, seat, ground.lock, planner, host, news, self.rhythm, settings
        )
        self.dispatcher = Dispatcher(
            works=works,
            runs=runs,
            swaps=self.swaps,
            runner=self.runner,
            events=events,
            admission=self.admission,
            releases=self.releases,
            settings=settings,
        )
        self.acceptor = Acceptor(
            works=works,
            catalogue=ground.catalogue,
            suspended=requests.suspended,
            turns=requests.turns,
            outbox=requests.outbox,
            events=events,
            admission=self.admission,
            fits=PromptFits(planner, self.runner.prompts, self.admission),
        )
        self.contexts = self._make_contexts(ground, requests)
        self.life = Life(
            works, runs, self.runner, self.dispatcher, self.swaps, self.releases, events, emptied
        )

    def _make_contexts(self, ground: Ground, requests: Requests) -> ColdContexts:
        beside = Surroundings(
            seat=ground.seat,
            works=requests.works,
            swaps=self.swaps,
            releases=self.releases,
            memory=self.memory,
            on_battery=is_on_battery,
        )
        return ColdContexts(
            beside=beside,
            runs=requests.runs,
            sessions=requests.sessions,
            catalogue=ground.catalogue,
            keeper=requests.keeper,
            admission=self.admission,
            events=ground.events,
            settings=ground.settings,
        )
