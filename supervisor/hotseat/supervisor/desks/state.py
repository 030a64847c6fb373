"""Answers that read state: status, models, sessions, plan, events. Changes nothing."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestId
from hotseat.protocol.limits import DEFAULT_CREDIT_BYTES
from hotseat.protocol.messages import Events, Plan, Sessions
from hotseat.protocol.replies import Event, Gap
from hotseat.protocol.telemetry import wants_telemetry
from hotseat.protocol.views import (
    MemoryView,
    ModelView,
    QuarantineView,
    QueueView,
    RecoveryView,
    RequestView,
    SessionView,
    StandbyView,
    StatusView,
    SwapView,
    TurnView,
    WorkerView,
)
from hotseat.supervisor.catalogue.session_verbs import missing
from hotseat.supervisor.conversation.cuts import reachable_turns
from hotseat.supervisor.conversation.history import decode_history
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.events.log import EventLog, Subscriber
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.machine.folder_access import notices_for
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.ports.client_port import ClientPort, Peer
from hotseat.supervisor.requests.session_store import SessionStore as SessionTable
from hotseat.supervisor.requests.works import Work, Works, WorkState
from hotseat.supervisor.seat.rules.states import Phase, SeatState
from hotseat.supervisor.seat.rules.table import quarantine_of, quarantines
from hotseat.supervisor.seat.runner import SeatRunner
from hotseat.supervisor.settings.home import Home

if TYPE_CHECKING:
    from hotseat.supervisor.telemetry.feed import TelemetryFeed

LISTED_SESSIONS: Final = 1_000
"""Most sessions in one answer; more would break the limits of a message."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Of this run of the daemon."""

    instance: str
    version: str
    started_at: float
    """Monotonic seconds."""


class StateDesk:
    """Views of everything, and event subscriptions."""

    def __init__(
        self,
        *,
        identity: Identity,
        works: Works,
        sessions: SessionTable,
        runner: Callable[[], SeatRunner],
        planner: Planner,
        keeper: Callable[[], KvKeeper],
        telemetry: Figures,
        port: Callable[[], ClientPort],
    ) -> None:
        self._identity = identity
        self._works = works
        self._sessions = sessions
        self._runner = runner
        self._planner = planner
        self._keeper = keeper
        self._telemetry = telemetry
        self._port = port
        self._subscribers: dict[tuple[bytes, RequestId], Subscriber] = {}
        self.events: EventLog | None = None
        self.feed: TelemetryFeed | None = None
        self.releases: Releases | None = None
        self.notices: tuple[str, ...] = ()
        """What a person should know and do something about."""
        self.recovery: RecoveryView | None = None

    # --- status ---------------------------------------------------------------------------------

    def status(self) -> StatusView:
        """Everything at a glance; costs microseconds, so it answers during any phase."""
        runner, now = self._runner(), time.monotonic()
        state = runner.state
        is_ready = state.phase is Phase.READY
        waiting = self._works.in_state(WorkState.WAITING)
        left_s = self._telemetry.idle_left_s()
        queued = (model for model in self._works.foresight.queued if model != state.model)
        return StatusView(
            running=True,
            phase=state.phase.value,
            model=state.model,
            epoch=state.epoch,
            worker=self._worker(),
            standby=self._standby(),
            queue=QueueView(
                running=self._works.running,
                waiting=len(waiting),
                suspended=sum(work.is_suspended for work in waiting),
                models=tuple(queued),
            ),
            memory=self._memory(),
            uptime_s=round(now - self._identity.started_at, 3),
            version=self._identity.version,
            instance=self._identity.instance,
            pid=os.getpid(),
            swap=self._swap(now),
            requests=self._requests(now),
            sessions_live=len(runner.beat.live_sessions) if runner.beat else 0,
            sessions_total=self._telemetry.sessions_total,
            bytes_written=self._keeper().bytes_written,
            seated_for_s=round(now - state.seated_at, 3) if is_ready else 0.0,
            last_error=state.fault.message if state.fault else "",
            quarantined=self._quarantined(state, now),
            recovery=self.recovery,
            notices=self.notices,
            released_until=self.releases.held_until(time.time()) if self.releases else None,
            seated_until=None if left_s is None else round(time.time() + left_s, 3),
            keeps_awake=self._telemetry.keeps_awake(),
        )

    async def look_at_folders(self, home: Home) -> None:
        """Tries the folders that macOS may keep from a job; what it finds is in every status."""
        folders = [home.root, *(Path(r.path) for r in self._planner.registry.records())]
        self.notices += await asyncio.to_thread(notices_for, folders, Path.home())
        if self.events is not None and self.notices:
            self.events.publish("folders.checked", notices=list(self.notices))

    def status_dict(self) -> dict[str, Any]:
        """The JSON-safe form."""
        return as_dict(self.status())

    def _quarantined(self, state: SeatState, now: float) -> tuple[QuarantineView, ...]:
        barred = self._telemetry.barred
        boots = "the machine went down repeatedly while it was seated; only a swap seats it"
        views = [QuarantineView(model=barred, reason=boots)] if barred else []
        views += [
            QuarantineView(
                model=misses.model, reason=misses.reason, retry_in_s=round(misses.until - now, 1)
            )
            for misses in quarantines(state, now)
        ]
        return tuple(views)

    def _standby(self) -> StandbyView:
        standby = self._runner().standby
        if standby.pid is None:
            return StandbyView()
        return StandbyView(
            pid=standby.pid,
            ready=standby.is_greeted,
            footprint_bytes=self._planner.standby_bytes or None,
        )

    def _worker(self) -> WorkerView:
        runner = self._runner()
        beat = runner.beat
        if runner.worker_pid is None:
            return WorkerView()
        return WorkerView(
            pid=runner.worker_pid,
            footprint_bytes=self._telemetry.worker_footprint_bytes,
            active_bytes=beat.active_bytes if beat else None,
            cache_bytes=beat.cache_bytes if beat else None,
            peak_bytes=beat.peak_bytes if beat else None,
            live_kv_bytes=beat.live_kv_bytes if beat else None,
            live_sessions=len(beat.live_sessions) if beat else 0,
            backlog_bytes=beat.backlog_bytes if beat else None,
        )

    def _memory(self) -> MemoryView:
        machine = self._planner.probe.machine()
        return MemoryView(
            total_bytes=machine.total_bytes,
            available_bytes=machine.available_bytes,
            wired_bytes=machine.wired_bytes,
            reserve_bytes=self._planner.settings.memory.reserve_for(machine.total_bytes),
            kv_budget_bytes=self._runner().kv_budget_bytes,
            kv_disk_bytes=self._telemetry.kv_disk_bytes,
            pressure=self._telemetry.pressure,
            shedding=self._telemetry.shedding,
        )

    def _swap(self, now: float) -> SwapView | None:
        state = self._runner().state
        if state.plan is None:
            return None
        started = state.marks[0].at if state.marks else state.since
        return SwapView(
            from_=state.came_from,
            to=state.plan.target,
            phase=state.phase.value,
            elapsed_s=round(now - started, 3),
            percent=self._telemetry.load_percent if state.phase is Phase.LOADING else None,
        )

    def _requests(self, now: float) -> tuple[RequestView, ...]:
        alive = self._works.in_state(WorkState.WAITING, WorkState.STARTING, WorkState.RUNNING)
        return tuple(_request_view(work, place, now) for place, work in enumerate(alive))

    # --- models, sessions, plan -----------------------------------------------------------------

    def models(self) -> list[ModelView]:
        """All registered models with what they are good for now."""
        registry, now = self._planner.registry, time.monotonic()
        state = self._runner().state
        views = []
        for record in registry.records():
            view = registry.view(record)
            if view.state == "ready":
                if state.phase is Phase.READY and state.model == record.name:
                    view = registry.view(record, state="seated")
                elif (misses := quarantine_of(state, record.name, now)) is not None:
                    reason = f"{misses.reason}; tried again in {misses.until - now:.0f} s"
                    view = registry.view(record, state="quarantined", reason=reason)
                else:
                    plan = self._planner.plan(record, own_footprint_bytes=self.own_footprint())
                    if not plan.fits:
                        view = registry.view(record, state="unfit", reason=plan.reason)
            views.append(view)
        return sorted([*views, *registry.damaged()], key=lambda view: view.name)

    def own_footprint(self) -> int:
        """What the seated worker would give back, bytes."""
        if self._runner().worker_pid is None:
            return 0
        return self._telemetry.worker_footprint_bytes or 0

    async def sessions(self, message: Sessions) -> dict[str, Any]:
        """A list, last used first, or one session with its messages."""
        if message.session is None:
            views = await self._views(message.model)
            listed = [as_dict(view) for view in views[:LISTED_SESSIONS]]
            return {"sessions": listed, "total": len(views)}
        if message.model is None:
            raise HotseatError("invalid_request", "naming a session needs its model too")
        for view in await self._views(message.model):
            if view.session == message.session:
                row = await self._sessions.load(message.model, message.session)
                held = decode_history(row.messages).messages if row else ()
                messages = tuple(msgspec.to_builtins(entry) for entry in held)
                turns = await self._turns(message.model, message.session)
                return as_dict(msgspec.structs.replace(view, messages=messages, turns=turns))
        raise missing(message.model, message.session)

    async def _turns(self, model: str, session: str) -> tuple[TurnView, ...]:
        held = await self._sessions.held(model, session)
        return tuple(
            TurnView(
                turn=entry.turn, tokens=entry.tokens, messages=entry.message_count, at=entry.at
            )
            for entry in (reachable_turns(held) if held is not None else ())
        )

    async def _views(self, model: str | None) -> list[SessionView]:
        runner = self._runner()
        beat, state = runner.beat, runner.state
        seated = state.model if state.phase is Phase.READY else None
        running = {
            work.request.session or ""
            for work in self._works.in_state(WorkState.STARTING, WorkState.RUNNING)
        }
        live = frozenset(beat.live_sessions) if beat else frozenset[str]()
        tags = {str(record.name): record.tag for record in self._planner.registry.records()}
        return await self._sessions.views(model, live, seated, running, tags)

    async def plan(self, message: Plan) -> dict[str, Any]:
        """The memory plan of a model, without touching the seat."""
        record = self._planner.registry.get(message.model)
        if message.ram_bytes is not None or message.working_set_bytes is not None:
            return as_dict(
                self._planner.plan_elsewhere(record, message.ram_bytes, message.working_set_bytes)
            )
        return as_dict(
            await asyncio.to_thread(
                self._planner.plan,
                record,
                own_footprint_bytes=self.own_footprint(),
                with_holders=True,
            )
        )

    # --- events ---------------------------------------------------------------------------------

    def subscribe(self, peer: Peer, request_id: RequestId, message: Events) -> None:
        """Streams events under this request id until it is cancelled or the peer is gone."""
        assert self.events is not None  # noqa: S101 - set before the port opens
        self.unsubscribe(peer, request_id)

        def deliver(item: Event | Gap) -> None:
            self._port().send(peer, request_id, item)

        since = self.events.last_seq if message.since is None else message.since
        credit = message.credit_bytes or DEFAULT_CREDIT_BYTES
        subscriber = Subscriber(deliver, since, message.topics, credit)
        self._subscribers[peer.routing, request_id] = subscriber
        self.events.subscribe(subscriber)
        if self.feed is not None and wants_telemetry(message.topics):
            self.feed.add(subscriber, replays=message.since == 0)

    def unsubscribe(self, peer: Peer, request_id: RequestId) -> bool:
        """False when there was no such subscription."""
        subscriber = self._subscribers.pop((peer.routing, request_id), None)
        if subscriber is not None and self.events is not None:
            self.events.unsubscribe(subscriber)
            if self.feed is not None:
                self.feed.remove(subscriber)
        return subscriber is not None

    def grant(self, peer: Peer, request_id: RequestId, credit_bytes: int) -> None:
        """More credit for a subscription, if there is one."""
        subscriber = self._subscribers.get((peer.routing, request_id))
        if subscriber is not None and self.events is not None:
            self.events.grant(subscriber, credit_bytes)

    def forget(self, peer: Peer) -> None:
        """The peer is gone."""
        for routing, request_id in tuple(self._subscribers):
            if routing == peer.routing:
                self.unsubscribe(peer, request_id)


def as_dict(view: msgspec.Struct) -> dict[str, Any]:
    """The JSON-safe form of a view."""
    plain: dict[str, Any] = msgspec.to_builtins(view, str_keys=True)
    return plain


def _request_view(work: Work, place: int, now: float) -> RequestView:
    state: Literal["waiting", "running", "suspended"] = "running"
    if work.state is WorkState.WAITING:
        state = "suspended" if work.is_suspended else "waiting"
    return RequestView(
        id=work.request_id,
        client=work.client,
        model=work.model,
        session=work.request.session,
        state=state,
        position=place,
        age_s=round(now - work.accepted_at, 3),
        completion_tokens=work.completion_tokens,
    )
