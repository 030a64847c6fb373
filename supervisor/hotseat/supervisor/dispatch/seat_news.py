"""Who is told what the seat does: readers who wait, who asked for a swap, events and figures."""

import time
from typing import Any

import msgspec

from hotseat.protocol import failpoints
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB
from hotseat.protocol.replies import Progress, SwapReport
from hotseat.supervisor.dispatch.asked_swaps import AskedSwaps, as_facts, phase_seconds
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.seat.host import SwapFigures
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.rules.states import SETTLED, Fault, Phase, SeatState
from hotseat.supervisor.seat.rules.wired import Strands
from hotseat.supervisor.seat.worker_process import WorkerExit

_NOT_THE_MODEL = frozenset({"interrupted", "restart_needed"})


class SeatAnnouncer:
    """Implements `SeatNews`."""

    def __init__(
        self,
        *,
        works: Works,
        runs: WorkRuns,
        outbox: Outbox,
        swaps: AskedSwaps,
        releases: Releases,
        events: EventLog,
        figures: Figures,
        own: OwnMemory,
    ) -> None:
        self._works = works
        self._runs = runs
        self._outbox = outbox
        self._swaps = swaps
        self._releases = releases
        self._events = events
        self._figures = figures
        self._own = own
        self._swap_began = 0.0

    def phase_changed(self, state: SeatState) -> None:
        """Told to everybody who waits."""
        if state.plan is not None and len(state.marks) == 1:
            self._swap_began = state.marks[0].at
        if state.phase is Phase.LOADING:
            self._figures.load_percent = 0.0
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
            self._works.changed.set()

    def load_advanced(self, model: str, bytes_done: int, bytes_total: int) -> None:
        """With bytes and percent."""
        percent = round(100.0 * bytes_done / bytes_total, 1) if bytes_total else 100.0
        self._figures.load_percent = percent
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

    def swap_done(self, done: t.SwapDone, figures: SwapFigures) -> None:
        """Report, events, and the share of the swap in what requests waited."""
        now = time.monotonic()
        self._figures.load_percent = None
        if done.plan.target is None:
            self._seat_emptied(done, figures)
            return
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
        self._works.forecaster.swapped(done.plan.target, lost_s)
        for work in self._works.in_state(WorkState.WAITING):
            if work.model == done.plan.target:
                work.swap_s += now - max(self._swap_began, work.accepted_at)
        self._events.publish("swap.finished", swap=done.plan.swap, **as_facts(report))
        asked = self._swaps.by_number(done.plan.swap)
        if asked is not None:
            self._swaps.end(asked, report)

    def _seat_emptied(self, done: t.SwapDone, figures: SwapFigures) -> None:
        self._events.publish(
            "seat.emptied",
            origin=done.came_from,
            cause=msgspec.to_builtins(done.plan.cause),
            total_s=round(done.at - done.marks[0].at, 3) if done.marks else 0.0,
            sessions_checkpointed=figures.sessions,
            bytes_written=figures.bytes_written,
        )
        self._releases.done(done.plan.swap, done.came_from, figures)

    def swap_failed(self, failed: t.SwapFailed) -> None:
        """The truth to whoever asked, and to those who wait for that model."""
        fault, plan = failed.fault, failed.plan
        self._figures.load_percent = None
        self._events.publish(
            "swap.failed",
            swap=plan.swap,
            target=plan.target,
            code=fault.code,
            reason=fault.message,
            back_to=failed.back_to,
            cause=msgspec.to_builtins(plan.cause),
        )
        self._releases.failed(plan.swap, fault)
        facts = dict(fault.facts) | {"target": plan.target, "back_to": failed.back_to}
        error = HotseatError(fault.code, fault.message, **facts)
        asked = self._swaps.by_number(plan.swap)
        if asked is not None:
            self._swaps.end(asked, error)
        if plan.target is not None and fault.code not in _NOT_THE_MODEL:
            self._runs.fail_waiting(plan.target, error)

    def worker_exited(self, ended: WorkerExit, fault: Fault, *, asked: bool) -> None:
        """With the reason and, for a crash, its last words."""
        self._own.worker_bytes = self._own.worker_pid = None
        if fault.gpu:
            self._figures.gpu_errors += 1
            self._events.publish(
                "worker.gpu_lost",
                epoch=ended.epoch,
                reason=fault.gpu,
                since_start=self._figures.gpu_errors,
            )
        facts: dict[str, Any] = {"epoch": ended.epoch, "pid": ended.pid, "reason": fault.message}
        if not asked and ended.stderr:
            facts["stderr"] = list(ended.stderr[-5:])
        if ended.leftovers:
            facts["kin"] = list(ended.leftovers)
        self._events.publish("worker.exited", asked=asked, **facts)

    def pages_judged(self, strands: Strands) -> None:
        """Said once, until pages of a worker come back."""
        is_said = bool(self._figures.pages_notice)
        if not strands.wants_restart:
            self._figures.pages_notice = ""
        elif not is_said:
            size_gib = strands.not_back_bytes / GIB
            self._figures.pages_notice = (
                f"{size_gib:.1f} GiB that a worker had wired did not come back after its end, the "
                f"same after {strands.in_a_row - 1} ends before it; restart the Mac"
            )
            self._events.publish(
                "system.pages_stranded",
                in_a_row=strands.in_a_row,
                wired_not_back_bytes=strands.not_back_bytes,
                remedy="restart the Mac",
            )
