"""`status`: everything at a glance. Changes nothing and waits for nobody."""

import os
import time
from typing import Any, Literal

import msgspec

from hotseat.protocol.residence import StreamedView
from hotseat.protocol.views import (
    MemoryView,
    QuarantineView,
    QueueView,
    RequestView,
    StandbyView,
    StatusView,
    SwapView,
    WorkerView,
)
from hotseat.supervisor.dispatch.idle_seat import IdleSeat
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.ports.client_port import Identity
from hotseat.supervisor.requests.works import Work, Works, WorkState
from hotseat.supervisor.seat.rules.states import Phase, SeatState
from hotseat.supervisor.seat.rules.table import quarantines
from hotseat.supervisor.seat.runner import SeatRunner


class StatusDesk:
    """Reads what others hold."""

    def __init__(
        self,
        *,
        identity: Identity,
        works: Works,
        runner: SeatRunner,
        planner: Planner,
        keeper: KvKeeper,
        figures: Figures,
        releases: Releases,
        idle: IdleSeat,
    ) -> None:
        self._identity = identity
        self._works = works
        self._seat = runner.seat
        self._standby_worker = runner.standby
        self._planner = planner
        self._keeper = keeper
        self._figures = figures
        self._releases = releases
        self._idle = idle

    def status(self) -> StatusView:
        """Everything at a glance; costs microseconds, so it answers during any phase."""
        seat, now = self._seat, time.monotonic()
        state = seat.state
        is_ready = state.phase is Phase.READY
        waiting = self._works.in_state(WorkState.WAITING)
        left_s = self._idle.left_s(now)
        queued = (model for model in self._works.forecaster.queued if model != state.model)
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
            sessions_live=len(seat.beat.live_sessions) if seat.beat else 0,
            sessions_total=self._figures.sessions_total,
            bytes_written=self._keeper.bytes_written,
            bytes_written_today=self._keeper.days.today_bytes,
            seated_for_s=round(now - state.seated_at, 3) if is_ready else 0.0,
            last_error=state.fault.message if state.fault else "",
            quarantined=self._quarantined(state, now),
            recovery=self._figures.recovery,
            notices=self._notices(now),
            gpu_errors=self._figures.gpu_errors,
            gateway=self._figures.gateway,
            streamed=self._streamed(),
            released_until=self._releases.held_until(time.time()),
            seated_until=None if left_s is None else round(time.time() + left_s, 3),
            keeps_awake=self._figures.keeps_awake,
        )

    def _notices(self, now: float) -> tuple[str, ...]:
        figures, code = self._figures, self._seat.code
        found = (
            *figures.notices,
            figures.pages_notice,
            self._planner.wiring_notice,
            code.notice(now),
        )
        return tuple(text for text in found if text)

    def status_dict(self) -> dict[str, Any]:
        """The JSON-safe form."""
        plain: dict[str, Any] = msgspec.to_builtins(self.status(), str_keys=True)
        return plain

    def _quarantined(self, state: SeatState, now: float) -> tuple[QuarantineView, ...]:
        barred = self._figures.barred
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
        standby = self._standby_worker
        if standby.pid is None:
            return StandbyView()
        return StandbyView(
            pid=standby.pid,
            ready=standby.is_greeted,
            footprint_bytes=self._planner.own.standby_bytes or None,
        )

    def _worker(self) -> WorkerView:
        seat, beat = self._seat, self._seat.beat
        if seat.worker_pid is None:
            return WorkerView()
        return WorkerView(
            pid=seat.worker_pid,
            footprint_bytes=self._planner.own.worker_bytes,
            active_bytes=beat.active_bytes if beat else None,
            cache_bytes=beat.cache_bytes if beat else None,
            peak_bytes=beat.peak_bytes if beat else None,
            live_kv_bytes=beat.live_kv_bytes if beat else None,
            live_sessions=len(beat.live_sessions) if beat else 0,
            backlog_bytes=beat.backlog_bytes if beat else None,
        )

    def _streamed(self) -> StreamedView | None:
        planned = self._seat.streamed
        if planned is None or self._seat.record is None:
            return None
        return self._planner.streamed_now(planned)

    def _memory(self) -> MemoryView:
        machine = self._planner.probe.machine()
        return MemoryView(
            total_bytes=machine.total_bytes,
            available_bytes=machine.available_bytes,
            wired_bytes=machine.wired_bytes,
            reserve_bytes=self._planner.settings.memory.reserve_for(machine),
            kv_budget_bytes=self._seat.kv_budget_bytes,
            kv_disk_bytes=self._figures.kv_disk_bytes,
            pressure=self._figures.pressure,
            shedding=self._figures.shedding,
            pages=machine.pages,
        )

    def _swap(self, now: float) -> SwapView | None:
        state = self._seat.state
        if state.plan is None:
            return None
        started = state.marks[0].at if state.marks else state.since
        return SwapView(
            from_=state.came_from,
            to=state.plan.target,
            phase=state.phase.value,
            elapsed_s=round(now - started, 3),
            percent=self._figures.load_percent if state.phase is Phase.LOADING else None,
        )

    def _requests(self, now: float) -> tuple[RequestView, ...]:
        alive = self._works.in_state(WorkState.WAITING, WorkState.STARTING, WorkState.RUNNING)
        return tuple(_request_view(work, place, now) for place, work in enumerate(alive))


def _request_view(work: Work, place: int, now: float) -> RequestView:
    state: Literal["waiting", "running", "suspended"] = "running"
    if work.state is WorkState.WAITING:
        state = "suspended" if work.is_suspended else "waiting"
    return RequestView(
        id=work.request_id,
        client=work.client,
        agent=work.request.agent,
        model=work.model,
        session=work.request.session,
        state=state,
        position=place,
        age_s=round(now - work.accepted_at, 3),
        completion_tokens=work.completion_tokens,
    )
