"""Who may run, who gets the seat, and the seat itself; its runner after those whom it tells."""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from hotseat.supervisor.daemon.activity import daemon_rhythm
from hotseat.supervisor.daemon.assembly.ground import Ground
from hotseat.supervisor.daemon.assembly.requests import Requests
from hotseat.supervisor.daemon.life import Life
from hotseat.supervisor.dispatch.admission import Admission
from hotseat.supervisor.dispatch.asked_swaps import AskedSwaps
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.dispatch.idle_seat import IdleSeat
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.dispatch.seat_consequences import SeatConsequences
from hotseat.supervisor.dispatch.seat_news import SeatTold
from hotseat.supervisor.guards.memory_level import MemoryLevel
from hotseat.supervisor.guards.unclean_boots import BootMarks, boot_id
from hotseat.supervisor.loop.rhythm import Rhythm
from hotseat.supervisor.requests.accepting import Acceptor
from hotseat.supervisor.requests.prompt_fits import PromptFits
from hotseat.supervisor.seat.runner import SeatRunner


class Dispatch(Struct, frozen=True, kw_only=True):
    """Who gets the seat next, and the seat."""

    memory: MemoryLevel
    boots: BootMarks
    admission: Admission
    releases: Releases
    swaps: AskedSwaps
    rhythm: Rhythm
    runner: SeatRunner
    dispatcher: Dispatcher
    idle: IdleSeat
    acceptor: Acceptor
    life: Life


def make_dispatch(ground: Ground, requests: Requests) -> Dispatch:
    """Who may run, who gets the seat, and the seat itself."""
    seat, events, settings, works = ground.seat, ground.events, ground.settings, requests.works
    memory = MemoryLevel(ground.planner, seat, works, ground.figures, settings)
    boots = BootMarks(ground.catalogue, boot_id())
    releases = Releases()
    admission = Admission(ground.planner, seat, releases, memory, boots)
    swaps = AskedSwaps(ground.catalogue, ground.port, admission, works)
    rhythm = daemon_rhythm(seat, works, requests.outbox, swaps, events)
    emptied = asyncio.Event()
    runner = make_runner(ground, requests, swaps, releases, rhythm, emptied.set)
    dispatcher = Dispatcher(
        works=works,
        runs=requests.runs,
        swaps=swaps,
        runner=runner,
        events=events,
        admission=admission,
        releases=releases,
        settings=settings,
    )
    return Dispatch(
        memory=memory,
        boots=boots,
        admission=admission,
        releases=releases,
        swaps=swaps,
        rhythm=rhythm,
        runner=runner,
        dispatcher=dispatcher,
        idle=IdleSeat(seat, works, releases, settings),
        acceptor=Acceptor(
            works=works,
            catalogue=ground.catalogue,
            suspended=requests.suspended,
            turns=requests.turns,
            outbox=requests.outbox,
            events=events,
            admission=admission,
            fits=PromptFits(ground.planner, runner.prompts),
        ),
        life=Life(
            works=works,
            runs=requests.runs,
            runner=runner,
            dispatcher=dispatcher,
            swaps=swaps,
            releases=releases,
            events=events,
            emptied=emptied,
        ),
    )


def make_runner(
    ground: Ground,
    requests: Requests,
    swaps: AskedSwaps,
    releases: Releases,
    rhythm: Rhythm,
    exit_daemon: Callable[[], None],
) -> SeatRunner:
    """The seat's runner, after those it tells."""
    host = SeatConsequences(
        works=requests.works,
        runs=requests.runs,
        reports=requests.reports,
        keeper=requests.keeper,
        rhythm=rhythm,
        exit_daemon=exit_daemon,
    )
    news = SeatTold(
        works=requests.works,
        runs=requests.runs,
        outbox=requests.outbox,
        swaps=swaps,
        releases=releases,
        events=ground.events,
        figures=ground.figures,
        own=ground.planner.own,
    )
    return SeatRunner(
        home=ground.home,
        seat=ground.seat,
        lock=ground.lock,
        planner=ground.planner,
        host=host,
        news=news,
        settings=ground.settings,
    )
