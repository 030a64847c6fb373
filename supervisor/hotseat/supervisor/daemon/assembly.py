"""Puts the daemon together, bottom to top: every part gets what it needs when it is made.

One function a layer. Nothing lives before all is made: no task, no socket, no process. The order
differs from the floors in one point: the seat's runner comes after those it tells (`SeatHost`).
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.daemon.activity import daemon_rhythm
from hotseat.supervisor.daemon.kept_figures import KeptFigures
from hotseat.supervisor.daemon.life import Life
from hotseat.supervisor.daemon.measuring import Measuring
from hotseat.supervisor.daemon.reload import Reloads
from hotseat.supervisor.daemon.router import Answerers, Router
from hotseat.supervisor.daemon.upkeep import Housekeeping, Upkeep
from hotseat.supervisor.desks.counting import Counter
from hotseat.supervisor.desks.models import ModelDesk
from hotseat.supervisor.desks.quotes import QuoteDesk
from hotseat.supervisor.desks.session_list import SessionList
from hotseat.supervisor.desks.sessions import SessionDesk
from hotseat.supervisor.desks.status import StatusDesk
from hotseat.supervisor.desks.subscriptions import Subscriptions
from hotseat.supervisor.dispatch.admission import Admission
from hotseat.supervisor.dispatch.asked_swaps import AskedSwaps
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.dispatch.idle_seat import IdleSeat
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.dispatch.seat_consequences import SeatConsequences
from hotseat.supervisor.dispatch.seat_news import SeatTold
from hotseat.supervisor.events.figures import Figures, Identity
from hotseat.supervisor.events.journal import JournalWriter
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.guards.guard import Guard, Watches
from hotseat.supervisor.guards.memory_level import MemoryLevel
from hotseat.supervisor.guards.memory_pressure import PressureWatch
from hotseat.supervisor.guards.sleep_prevention import PowerWatch
from hotseat.supervisor.guards.stuck_worker import StallWatch
from hotseat.supervisor.guards.unclean_boots import BootMarks, boot_id
from hotseat.supervisor.guards.wake import WakeWatch
from hotseat.supervisor.kv.checking import KvChecks
from hotseat.supervisor.kv.disk_tier import DiskTier, SessionKey
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.loop.rhythm import Rhythm
from hotseat.supervisor.machine.locks import DEFAULT_SEAT_LOCK, SeatLock
from hotseat.supervisor.machine.memory import system_probe
from hotseat.supervisor.machine.sleep_assertion import system_power
from hotseat.supervisor.machine.time_awake import whole_time
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.registry import Registry
from hotseat.supervisor.ports.client_port import ClientPort
from hotseat.supervisor.requests.abandoned import Abandoned
from hotseat.supervisor.requests.accepting import Acceptor
from hotseat.supervisor.requests.ends import WorkEnds
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.prompt_fits import PromptFits
from hotseat.supervisor.requests.quiet_sessions import QuietSessions
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.session_store import SessionStore
from hotseat.supervisor.requests.suspended import SuspendedRuns
from hotseat.supervisor.requests.turn_planner import TurnPlanner
from hotseat.supervisor.requests.worker_reports import WorkerReports
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.seat.runner import SeatRunner
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import Settings
from hotseat.supervisor.telemetry.feed import TelemetryFeed
from hotseat.supervisor.telemetry.sample_taker import SampleTaker


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


class Requests(Struct, frozen=True, kw_only=True):
    """Requests, their sessions and their KV."""

    works: Works
    abandoned: Abandoned
    outbox: Outbox
    sessions: SessionStore
    turns: TurnPlanner
    keeper: KvKeeper
    suspended: SuspendedRuns
    quiet: QuietSessions
    runs: WorkRuns
    reports: WorkerReports


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


class Watching(Struct, frozen=True, kw_only=True):
    """What looks by itself: guards, samples, KV on disk, the ticker."""

    guard: Guard
    watches: Watches
    feed: TelemetryFeed
    disk: DiskTier
    kept: KeptFigures
    measuring: Measuring
    upkeep: Upkeep


class DaemonParts(Struct, frozen=True, kw_only=True):
    """The whole daemon, not yet alive."""

    ground: Ground
    requests: Requests
    dispatch: Dispatch
    watching: Watching
    kv: KvChecks
    router: Router


def assemble(home: Home, settings: Settings, catalogue: Catalogue, version: str) -> DaemonParts:
    """All parts of one daemon."""
    ground = lay_ground(home, settings, catalogue, version)
    requests = make_requests(ground)
    dispatch = make_dispatch(ground, requests)
    watching = make_watching(ground, requests, dispatch)
    kv = KvChecks(
        catalogue=catalogue,
        keeper=requests.keeper,
        tier=watching.disk,
        events=ground.events,
        kv_dir=home.kv_dir,
    )
    answerers = make_answerers(ground, requests, dispatch, watching, kv)
    router = Router(answerers, ground.port, dispatch.life, dispatch.rhythm)
    return DaemonParts(
        ground=ground,
        requests=requests,
        dispatch=dispatch,
        watching=watching,
        kv=kv,
        router=router,
    )


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


def make_requests(ground: Ground) -> Requests:
    """From accept to end: table, output, sessions, KV, what runs and what the worker says of it."""
    seat, events, settings = ground.seat, ground.events, ground.settings
    works = Works()
    abandoned = Abandoned(works)
    outbox = Outbox(works, ground.port, abandoned, settings)
    sessions = SessionStore(ground.catalogue)
    turns = TurnPlanner(sessions, ground.planner)
    keeper = KvKeeper(ground.catalogue, ground.home.kv_dir, events, seat.send)
    suspended = SuspendedRuns(ground.catalogue, keeper, seat)
    quiet = QuietSessions(works, seat, settings)
    ends = WorkEnds(
        works=works,
        catalogue=ground.catalogue,
        sessions=sessions,
        keeper=keeper,
        suspended=suspended,
        outbox=outbox,
        events=events,
        quiet=quiet,
    )
    runs = WorkRuns(
        works=works,
        turns=turns,
        ends=ends,
        suspended=suspended,
        outbox=outbox,
        events=events,
        seat=seat,
    )
    reports = WorkerReports(
        works=works, runs=runs, ends=ends, outbox=outbox, events=events, seat=seat
    )
    return Requests(
        works=works,
        abandoned=abandoned,
        outbox=outbox,
        sessions=sessions,
        turns=turns,
        keeper=keeper,
        suspended=suspended,
        quiet=quiet,
        runs=runs,
        reports=reports,
    )


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


def make_watching(ground: Ground, requests: Requests, dispatch: Dispatch) -> Watching:
    """What looks by itself once the daemon lives."""
    planner, catalogue = ground.planner, ground.catalogue
    samples = SampleTaker(planner, ground.seat, requests.works, requests.keeper, ground.figures)
    kept = KeptFigures(catalogue, planner, requests.works.forecaster)
    measuring = Measuring(
        runner=dispatch.runner,
        planner=planner,
        works=requests.works,
        reports=requests.reports,
        keeper=requests.keeper,
        catalogue=catalogue,
        figures=ground.figures,
        kept=kept,
    )
    watches = make_watches(ground, requests, dispatch)
    return Watching(
        guard=Guard(watches, ground.seat, ground.figures, ground.home, dispatch.rhythm),
        watches=watches,
        feed=TelemetryFeed(samples, ground.events),
        disk=DiskTier(
            catalogue=catalogue,
            keeper=requests.keeper,
            registry=planner.registry,
            use=KvInUse(requests.works, ground.seat),
            events=ground.events,
            settings=ground.settings,
            kv_dir=ground.home.kv_dir,
        ),
        kept=kept,
        measuring=measuring,
        upkeep=Upkeep(
            rhythm=dispatch.rhythm,
            port=ground.port,
            ticks=make_ticks(requests, dispatch),
            acceptor=dispatch.acceptor,
            measuring=measuring,
            kept=kept,
            dispatcher=dispatch.dispatcher,
            housekeeping=Housekeeping(catalogue, ground.lock, planner),
        ),
    )


def make_watches(ground: Ground, requests: Requests, dispatch: Dispatch) -> Watches:
    """The guards' eyes."""
    seat, works, events, settings = ground.seat, requests.works, ground.events, ground.settings
    return Watches(
        stalls=StallWatch(dispatch.runner, works, events, settings),
        memory=dispatch.memory,
        pressure=PressureWatch(
            level=dispatch.memory,
            seat=seat,
            works=works,
            runs=requests.runs,
            figures=ground.figures,
            events=events,
        ),
        power=PowerWatch(
            seat=seat,
            works=works,
            events=events,
            figures=ground.figures,
            settings=settings,
            assertion=system_power(),
        ),
        wakes=WakeWatch(
            seat=seat,
            lock=ground.lock,
            planner=ground.planner,
            works=works,
            events=events,
            now=time.monotonic(),
            whole_now=whole_time(),
        ),
        boots=dispatch.boots,
    )


def make_ticks(requests: Requests, dispatch: Dispatch) -> tuple[Callable[[float], None], ...]:
    """Parts that only have to be told what time it is, in this order."""

    def cancel_abandoned(now: float) -> None:
        for work in requests.abandoned.take_overdue(now):
            requests.runs.cancel(work)

    return (
        requests.outbox.tick,
        dispatch.swaps.tick,
        cancel_abandoned,
        requests.quiet.tick,
        dispatch.idle.tick,
    )


def make_answerers(
    ground: Ground, requests: Requests, dispatch: Dispatch, watching: Watching, kv: KvChecks
) -> Answerers:
    """Who answers clients."""
    works, planner, seat = requests.works, ground.planner, ground.seat
    status = StatusDesk(
        identity=ground.identity,
        works=works,
        runner=dispatch.runner,
        planner=planner,
        keeper=requests.keeper,
        figures=ground.figures,
        releases=dispatch.releases,
        idle=dispatch.idle,
    )
    counter = Counter(
        sessions=requests.sessions,
        catalogue=ground.catalogue,
        planner=planner,
        seat=seat,
        prompts=dispatch.runner.prompts,
    )
    return Answerers(
        works=works,
        runs=requests.runs,
        outbox=requests.outbox,
        acceptor=dispatch.acceptor,
        swaps=dispatch.swaps,
        releases=dispatch.releases,
        dispatcher=dispatch.dispatcher,
        status=status,
        subscriptions=Subscriptions(ground.port, ground.events, watching.feed, status.status_dict),
        models=ModelDesk(planner, seat),
        session_list=SessionList(works, requests.sessions, planner.registry, seat),
        sessions=make_session_desk(ground, requests),
        quotes=QuoteDesk(
            catalogue=ground.catalogue,
            sessions=requests.sessions,
            planner=planner,
            seat=seat,
            admission=dispatch.admission,
            dispatcher=dispatch.dispatcher,
            releases=dispatch.releases,
            counter=counter,
        ),
        counter=counter,
        disk=watching.disk,
        kv=kv,
        reloads=make_reloads(ground, requests, dispatch, watching),
    )


def make_session_desk(ground: Ground, requests: Requests) -> SessionDesk:
    """What clients do to sessions."""
    return SessionDesk(
        works=requests.works,
        sessions=requests.sessions,
        catalogue=ground.catalogue,
        keeper=requests.keeper,
        events=ground.events,
        registry=ground.planner.registry,
        seat=ground.seat,
    )


def make_reloads(
    ground: Ground, requests: Requests, dispatch: Dispatch, watching: Watching
) -> Reloads:
    """New settings, and everybody who keeps some."""
    watches = watching.watches
    return Reloads(
        home=ground.home,
        planner=ground.planner,
        seat=ground.seat,
        dispatcher=dispatch.dispatcher,
        events=ground.events,
        holders=(
            ground.planner,
            requests.outbox,
            requests.quiet,
            dispatch.runner,
            dispatch.dispatcher,
            dispatch.idle,
            watching.disk,
            watches.stalls,
            watches.memory,
            watches.power,
        ),
    )


class KvInUse:
    """What of the KV on disk is in use: sessions with requests, and those in memory."""

    def __init__(self, works: Works, seat: Seat) -> None:
        self._works = works
        self._seat = seat

    def sessions(self) -> frozenset[SessionKey]:
        """With a request that has not ended, or live as of the last beat."""
        return self._works.sessions_in_use | self._seat.live_sessions

    def running_since(self) -> float | None:
        """When the longest running request was sent to a worker."""
        return self._works.running_since
