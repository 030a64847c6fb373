"""The supervisor daemon: puts the parts together, routes messages, ticks, starts and stops.

Holds no rules of its own. Never imports mlx.
"""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog
import zmq

from hotseat.protocol.replies import Cause
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.daemon.activity import daemon_rhythm
from hotseat.supervisor.daemon.recovery import announce, recover
from hotseat.supervisor.daemon.reload import Holders, Reloads
from hotseat.supervisor.daemon.router import Answerers, Router, shutting_down
from hotseat.supervisor.daemon.upkeep import Upkeep
from hotseat.supervisor.desks.counting import Counter
from hotseat.supervisor.desks.quotes import QuoteDesk
from hotseat.supervisor.desks.sessions import SessionDesk
from hotseat.supervisor.desks.state import Identity, StateDesk
from hotseat.supervisor.dispatch.admission import Admission
from hotseat.supervisor.dispatch.asked_swaps import AskedSwaps
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.dispatch.seat_consequences import SeatConsequences
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.events.journal import JournalWriter
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.guards.guard import Guard, Guarded
from hotseat.supervisor.kv.checking import KvChecks
from hotseat.supervisor.kv.disk_tier import DiskParts, DiskTier, live_sessions
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.loop.tasks import settle
from hotseat.supervisor.machine.locks import DEFAULT_SEAT_LOCK, SeatLock
from hotseat.supervisor.machine.memory import system_probe
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.registry import Registry
from hotseat.supervisor.ports.client_port import ClientPort, Peer
from hotseat.supervisor.requests.accepting import Acceptor
from hotseat.supervisor.requests.ends import WorkEnds
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.session_store import SessionStore as SessionTable
from hotseat.supervisor.requests.suspended import SuspendedRuns
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.seat.preparation import Preparation
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.states import Phase, SwapPlan
from hotseat.supervisor.seat.runner import SeatRunner
from hotseat.supervisor.settings.home import Home
from hotseat.supervisor.settings.values import Settings

log = structlog.get_logger()


class Daemon:
    """One run of the supervisor. `start`, then `run` until it was told to stop, then `close`."""

    def __init__(self, home: Home, settings: Settings, catalogue: Catalogue, version: str) -> None:
        self.home = home
        self.settings = settings
        self.identity = Identity(
            instance=secrets.token_hex(8), version=version, started_at=time.monotonic()
        )
        self._catalogue = catalogue
        self._context: zmq.Context[Any] = zmq.Context()
        self._stopped = asyncio.Event()
        self._told = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._port: ClientPort | None = None
        self._build()

    def _build(self) -> None:
        """Makes the parts and introduces them to each other."""
        settings, home = self.settings, self.home
        lock = SeatLock(Path(settings.seat.lock_path or DEFAULT_SEAT_LOCK))
        self.planner = Planner(Registry(home, settings), system_probe(), settings)
        self.works = Works()
        self.telemetry = Figures()
        self.sessions = SessionTable(self._catalogue)
        self.outbox = Outbox(
            self.works,
            self.port,
            settings.limits.slow_consumer_s,
            lambda work: self.upkeep.abandoned(work),  # noqa: PLW0108 - upkeep is made later
        )
        self.state = StateDesk(
            identity=self.identity,
            works=self.works,
            sessions=self.sessions,
            runner=lambda: self.runner,
            planner=self.planner,
            keeper=lambda: self.keeper,
            telemetry=self.telemetry,
            port=self.port,
        )
        self.events = self.state.events = EventLog(self.state.status_dict)
        self.journal = JournalWriter(self._catalogue)
        self.events.on_event = self.journal.take
        self.keeper = KvKeeper(self._catalogue, home.kv_dir, self.events)
        self.admission = Admission(self.planner, self.state.own_footprint)
        self.swaps = AskedSwaps(
            self._catalogue, self.port, lambda name: self.admission.model(name).name, self._kick
        )
        self.seat_events = SeatConsequences(
            works=self.works,
            outbox=self.outbox,
            events=self.events,
            keeper=self.keeper,
            swaps=self.swaps,
            telemetry=self.telemetry,
            exit_daemon=self._stopped.set,
        )
        self.runner = SeatRunner(home, settings.deadlines, self.planner, lock, self.seat_events)
        rhythm = daemon_rhythm(self.runner, self.works, self.outbox, self.swaps, self.events)
        self.held = SuspendedRuns(self._catalogue, self.keeper)
        self.ends = WorkEnds(
            works=self.works,
            catalogue=self._catalogue,
            sessions=self.sessions,
            keeper=self.keeper,
            outbox=self.outbox,
            events=self.events,
            ended=self.seat_events.work_ended,
        )
        self.runs = WorkRuns(
            works=self.works,
            ends=self.ends,
            held=self.held,
            sessions=self.sessions,
            keeper=self.keeper,
            outbox=self.outbox,
            events=self.events,
            send=self.runner.send,
            record=lambda: self.runner.record,
            serving=lambda: self.runner.serving_epoch,
            waits_again=self.seat_events.work_ended,
            filled=self.admission.filled,
        )
        self.ends.forget_held = self.runs.forget_held
        self.dispatcher = Dispatcher(
            works=self.works,
            runs=self.runs,
            swaps=self.swaps,
            runner=self.runner,
            events=self.events,
            check=self.admission.model,
            settings=settings.scheduler,
        )
        self.counter = Counter(
            sessions=self.sessions,
            catalogue=self._catalogue,
            planner=self.planner,
            runner=self.runner,
            own_footprint=self.state.own_footprint,
        )
        self.desk = Acceptor(
            works=self.works,
            catalogue=self._catalogue,
            sessions=self.sessions,
            held=self.held,
            outbox=self.outbox,
            events=self.events,
            limits=settings.limits,
            port=self.port,
            check=self.admission.request,
            check_fits=self.counter.check_fits,
            persists=lambda model: self.planner.settings.model(model).persist,
            kick=self._kick,
        )
        self.upkeep = Upkeep(
            works=self.works,
            runs=self.runs,
            ends=self.ends,
            outbox=self.outbox,
            desk=self.desk,
            runner=self.runner,
            planner=self.planner,
            keeper=self.keeper,
            catalogue=self._catalogue,
            telemetry=self.telemetry,
            settings=settings,
            dispatcher=self.dispatcher,
            swaps=self.swaps,
            port=self.port,
            rhythm=rhythm,
        )
        self.guard = Guard(
            Guarded(
                home=home, catalogue=self._catalogue, planner=self.planner, runner=self.runner,
                works=self.works, runs=self.runs, dispatcher=self.dispatcher,
                telemetry=self.telemetry, events=self.events, settings=settings,
                rhythm=rhythm,
            )
        )  # fmt: skip
        self.quotes = QuoteDesk(
            catalogue=self._catalogue, sessions=self.sessions, planner=self.planner,
            runner=self.runner, own_footprint=self.state.own_footprint,
            dispatcher=self.dispatcher, counter=self.counter,
        )  # fmt: skip
        self.disk = DiskTier(
            DiskParts(
                catalogue=self._catalogue,
                keeper=self.keeper,
                works=self.works,
                registry=self.planner.registry,
                live=lambda: live_sessions(self.runner),
                events=self.events,
                settings=settings.kv,
                kv_dir=home.kv_dir,
                is_resting=rhythm.is_resting,
            )
        )
        self.kv = KvChecks(
            catalogue=self._catalogue, keeper=self.keeper, tier=self.disk, events=self.events,
            kv_dir=home.kv_dir,
        )  # fmt: skip
        self.reloads = Reloads(
            home,
            Holders(
                planner=self.planner,
                dispatcher=self.dispatcher,
                runner=self.runner,
                desk=self.desk,
                outbox=self.outbox,
                upkeep=self.upkeep,
                disk=self.disk,
                guard=self.guard,
            ),
            self.events,
            lambda model: self.dispatcher.seat_by_itself(model, "reload"),
        )
        self.state.releases = self.dispatcher.releases
        self.front = Router(
            Answerers(
                works=self.works,
                runs=self.runs,
                outbox=self.outbox,
                state=self.state,
                sessions=SessionDesk(
                    works=self.works,
                    sessions=self.sessions,
                    catalogue=self._catalogue,
                    keeper=self.keeper,
                    events=self.events,
                    record=self.planner.registry.get,
                    seated=lambda: self.runner.state.model,
                    send=self.runner.send,
                ),
                desk=self.desk,
                swaps=self.swaps,
                quotes=self.quotes,
                counter=self.counter,
                runner=self.runner,
                dispatcher=self.dispatcher,
                disk=self.disk,
                kv=self.kv,
                reloads=self.reloads,
                rhythm=rhythm,
            ),
            port=self.port,
            spawn=self.spawn,
            stop=self.stop,
            is_stopping=lambda: self._stopping,
            fail_waiting=self._fail_waiting,
        )
        self.admission.dispatcher = self.dispatcher
        self.admission.refuse_new = self.guard.refuse_new
        self.planner.registry.seated = self._seated
        foreseen = Preparation(
            self.planner,
            self.runner,
            lambda: [self.dispatcher.up_next, *reversed(self.seat_events.seated_before)],
        )
        self.seat_events.prepare = foreseen.prepare
        self.runner.standby.on_ready = foreseen.prepare_likely
        self.upkeep.keep_costs = self.quotes.keep
        self.ends.on_done = self.quotes.ended
        self.seat_events.on_swap = self.quotes.swapped
        self.seat_events.runner = self.runner
        self.seat_events.runs = self.runs
        self.seat_events.dispatcher = self.dispatcher

    def port(self) -> ClientPort:
        """The request socket."""
        assert self._port is not None  # noqa: S101 - opened by start, before any message
        return self._port

    # --- life -----------------------------------------------------------------------------------

    async def start(self) -> str:
        """Recovers what the last run left and opens the request socket; its address."""
        self.state.recovery = await recover(self._catalogue, self.desk.recover)
        await self.quotes.recall()
        await self.guard.recall()
        await self.upkeep.recall_overheads()
        await self.disk.recall()
        self._port = ClientPort(
            self._context,
            self.home.socket_path("requests"),
            instance=self.identity.instance,
            version=self.identity.version,
            on_message=self.front.route,
            on_gone=self._gone,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        self.events.publish("daemon.started", pid=os.getpid(), version=self.identity.version)
        announce(self.state.recovery, self.events)
        await self.upkeep.measure()
        self.runner.standby.start_soon(delay_s=0.0)
        self.spawn(self.upkeep.run())
        self.spawn(self.disk.run())
        self.spawn(self.guard.run())
        self.state.notices += self.admission.seat_at_start(self.settings.seat.at_start)
        return self._port.address

    async def run(self) -> None:
        """Returns when the seat is empty after a stop was asked for, and everybody knows."""
        await self._stopped.wait()
        await self._told.wait()

    def stop(self) -> None:
        """Drain, checkpoint, stop the worker, end. A second call changes nothing."""
        if self._stopping:
            return
        self._stopping = True
        self.dispatcher.close()
        self.events.publish("daemon.stopping")
        self.spawn(self._stop())

    async def _stop(self) -> None:
        error = shutting_down()
        self._fail_waiting()
        cause = Cause(client="hotseat", request_id="shutdown", model_asked="")
        plan = SwapPlan(swap=self.swaps.next_number(), target=None, cause=cause, exits=True)
        self.runner.feed(t.ExitAsked(plan))
        self.dispatcher.releases.end_all(error)
        try:
            await self.swaps.end_all(error)
        finally:
            self._told.set()

    def _fail_waiting(self) -> None:
        for work in self.works.in_state(WorkState.WAITING):
            if work.held_as is None:  # suspended ones go on under the next daemon
                self.runs.fail_soon(work, shutting_down())

    async def close(self) -> None:
        """Ends what still lives; nothing is answered after this."""
        self.dispatcher.close()
        self.kv.close()
        await self.runner.close()
        await settle(self.runs, self.dispatcher, self.seat_events, self.journal)
        await self.keeper.flush()
        await self.disk.keep_count()
        await self.quotes.keep_now()
        await self.guard.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._port is not None:
            self._port.close()
        await self._catalogue.close()
        self._context.term()

    # --- questions the parts ask ----------------------------------------------------------------

    def _seated(self) -> str | None:
        state = self.runner.state
        return state.model if state.phase is Phase.READY else None

    def _kick(self) -> None:
        self.dispatcher.kick()

    def _gone(self, peer: Peer) -> None:
        self.outbox.forget(peer)
        self.swaps.forget(peer)
        self.state.forget(peer)

    def spawn(self, job: Coroutine[Any, Any, Any]) -> None:
        """Runs a task of the daemon; a task that fails is logged, not lost."""
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("task.failed", error=repr(task.exception()))
