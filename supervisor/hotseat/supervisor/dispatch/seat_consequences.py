"""What follows from the seat's transitions: reports, events, progress, freed and failed requests.

The other side of `SeatRunner`: it knows requests and clients, the runner does not.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from hotseat.protocol import failpoints
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.link import FromWorker
from hotseat.protocol.replies import Progress, SwapReport
from hotseat.supervisor.dispatch.asked_swaps import AskedSwaps, as_facts, phase_seconds
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.seat.host import SwapFigures
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.states import SETTLED, Fault, Phase, SeatState
from hotseat.supervisor.seat.runner import SeatRunner
from hotseat.supervisor.seat.worker_process import WorkerExit

_NOT_THE_MODEL = frozenset({"interrupted"})
log = structlog.get_logger()


class SeatConsequences:
    """Implements `SeatHost`. `parts` are set by the daemon before anything runs."""

    def __init__(
        self,
        *,
        works: Works,
        outbox: Outbox,
        events: EventLog,
        keeper: KvKeeper,
        swaps: AskedSwaps,
        telemetry: Figures,
        exit_daemon: Callable[[], None],
    ) -> None:
        self._works = works
        self._outbox = outbox
        self._events = events
        self._keeper = keeper
        self._swaps = swaps
        self._telemetry = telemetry
        self._exit_daemon = exit_daemon
        self._tasks: set[asyncio.Task[None]] = set()
        self._swap_began = 0.0
        self.seated_before: deque[str] = deque(maxlen=2)
        """Models that held the seat most recently, the newest last."""
        self.prepare: Callable[[str, bool], None] = lambda _model, _warms: None
        self.on_swap: Callable[[SwapReport], None] = lambda _report: None
        self.runner: SeatRunner
        self.runs: WorkRuns
        self.dispatcher: Dispatcher

    def phase_changed(self, state: SeatState) -> None:
        """Told to everybody who waits."""
        if state.plan is not None and len(state.marks) == 1:
            self._swap_began = state.marks[0].at
        if state.phase is Phase.LOADING:
            self._telemetry.load_percent = 0.0
        if failpoints.ARMED:
            failpoints.reach(f"seat.{state.phase.value}")
        plan = state.plan
        self._events.publish(
            "seat.phase_changed",
            phase=state.phase.value,
            model=state.model,
            epoch=state.epoch,
            swap=plan.swap if plan else None,
            cause=msgspec.to_builtins(plan.cause) if plan else None,
            reason=state.fault.message if state.fault else "",
        )
        self._progress(Progress(phase=state.phase.value, model=self._target(state)))
        if state.phase in SETTLED:
            self.runner.standby.start_soon()
            self.dispatcher.kick()

    def load_advanced(self, model: str, bytes_done: int, bytes_total: int) -> None:
        """With bytes and percent."""
        percent = round(100.0 * bytes_done / bytes_total, 1) if bytes_total else 100.0
        self._telemetry.load_percent = percent
        self._progress(
            Progress(
                phase=Phase.LOADING.value,
                model=model,
                bytes_done=bytes_done,
                bytes_total=bytes_total,
                percent=percent,
            )
        )

    def _target(self, state: SeatState) -> str | None:
        return state.plan.target if state.plan is not None else state.model

    def _progress(self, note: Progress) -> None:
        """To those whose model the seat is about to get; the others only wait."""
        self._swaps.progress(note)
        for work in self._works.in_state(WorkState.WAITING):
            concerns = note.model == work.model
            rests = not concerns or note.phase == Phase.READY.value
            work.phase = work.resting_phase if rests else note.phase
            if concerns:
                self._outbox.progress(work, note)

    def admission_stopped(self) -> None:
        """A drain begins; it may be over already. Meanwhile the standby reads ahead."""
        plan = self.runner.state.plan
        if plan is not None and plan.target is not None:
            self.prepare(plan.target, True)
        asyncio.get_running_loop().call_soon(self.work_ended)

    def admission_resumed(self) -> None:
        """Requests may start again."""
        self.dispatcher.kick()

    def work_ended(self) -> None:
        """Called after every end of a request: the last one ends a drain."""
        if self.runner.state.phase is Phase.DRAINING and self._works.running == 0:
            self.runner.feed(t.Drained())
        self.dispatcher.kick()

    def suspend_running(self) -> None:
        """They go on when their model is back."""
        self.runs.suspend_running()

    def cancel_running(self) -> None:
        """Partial turns are kept."""
        self.runs.cancel_running()

    def running_lost(self, fault: Fault) -> None:
        """The worker is gone with what it ran."""
        self.runs.running_lost(fault)

    async def contexts_committed(self) -> HotseatError | None:
        """All that the worker reported is in the catalogue."""
        return await self._keeper.flush()

    def worker_said(self, message: FromWorker) -> bool:
        """Concerns requests or KV."""
        return self.runs.worker_said(message)

    def worker_exited(self, ended: WorkerExit, fault: Fault) -> None:
        """With the reason and, for a crash, its last words."""
        self._telemetry.worker_footprint_bytes = None
        asked = self.runner.state.phase is Phase.STOPPING
        facts: dict[str, Any] = {"epoch": ended.epoch, "pid": ended.pid, "reason": fault.message}
        if not asked and ended.stderr:
            facts["stderr"] = list(ended.stderr[-5:])
        if ended.kin:
            facts["kin"] = list(ended.kin)
        self._events.publish("worker.exited", asked=asked, **facts)
        if ended.returncode:
            self._spawn(self._keeper.sweep_drafts(time.time()))

    def swap_done(self, done: t.SwapDone, figures: SwapFigures) -> None:
        """Report, events, and the share of the swap in what requests waited."""
        now = time.monotonic()
        self._telemetry.load_percent = None
        if done.plan.target is None:
            self._seat_emptied(done, figures)
            return
        if done.came_from is not None:
            self.seated_before.append(done.came_from)
        report = SwapReport(
            from_=done.came_from,
            to=done.plan.target,
            mode=done.plan.mode,
            cause=done.plan.cause,
            phases=phase_seconds(done.marks),
            total_s=done.at - done.marks[0].at if done.marks else 0.0,
            memory=figures.memory,
            sessions_checkpointed=figures.sessions,
            bytes_written=figures.bytes_written,
        )
        # Draining is work that would have been done anyway: only the rest is lost to a swap.
        lost_s = report.total_s - report.phases.drain_s
        self._works.foresight.swapped(done.plan.target, lost_s)
        for work in self._works.in_state(WorkState.WAITING):
            if work.model == done.plan.target:
                work.swap_s += now - max(self._swap_began, work.accepted_at)
        self.on_swap(report)
        self._events.publish("swap.finished", swap=done.plan.swap, **as_facts(report))
        asked = self._swaps.by_number(done.plan.swap)
        if asked is not None:
            self._spawn(self._swaps.end(asked, report))

    def _seat_emptied(self, done: t.SwapDone, figures: SwapFigures) -> None:
        self._events.publish(
            "seat.emptied",
            origin=done.came_from,
            cause=msgspec.to_builtins(done.plan.cause),
            total_s=round(done.at - done.marks[0].at, 3) if done.marks else 0.0,
            sessions_checkpointed=figures.sessions,
            bytes_written=figures.bytes_written,
        )
        self.dispatcher.releases.done(done.plan.swap, done.came_from, figures)

    def swap_failed(self, failed: t.SwapFailed) -> None:
        """The truth to whoever asked, and to those who wait for that model."""
        fault, plan = failed.fault, failed.plan
        self._telemetry.load_percent = None
        self._events.publish(
            "swap.failed",
            swap=plan.swap,
            target=plan.target,
            code=fault.code,
            reason=fault.message,
            back_to=failed.back_to,
            cause=msgspec.to_builtins(plan.cause),
        )
        self.dispatcher.releases.failed(plan.swap, fault)
        facts = dict(fault.facts) | {"target": plan.target, "back_to": failed.back_to}
        error = HotseatError(fault.code, fault.message, **facts)
        asked = self._swaps.by_number(plan.swap)
        if asked is not None:
            self._spawn(self._swaps.end(asked, error))
        if plan.target is not None and fault.code not in _NOT_THE_MODEL:
            self.dispatcher.fail_waiting(plan.target, error)

    def exit(self) -> None:
        """The seat is empty."""
        self._exit_daemon()

    async def settle(self) -> None:
        """Waits until everybody who asked for a swap has been told its end."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, job: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, job: Any) -> None:
        try:
            await job
        except HotseatError as error:
            log.warning("swap.end_not_stored", reason=error.message)
        self.dispatcher.kick()
