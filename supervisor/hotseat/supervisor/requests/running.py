"""Running requests: handed to the worker, taken back from it, lost with it. Accepts nothing.

A work counts as running until its end is durable, so that a drain waits for the commit too. What
the worker says of them is heard in `worker_reports`.
"""

import time
from collections.abc import Coroutine
from typing import Any, Final

import structlog

from hotseat.protocol import failpoints
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link_orders import CancelWork, Start, Suspend
from hotseat.protocol.link_reports import Suspended
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.loop.tasks import TaskSet, outcome
from hotseat.supervisor.ports.client_port import error_body
from hotseat.supervisor.requests.abandoned import Abandoned
from hotseat.supervisor.requests.ends import WorkEnds
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.rules.blame import after_death
from hotseat.supervisor.requests.suspended import (
    SuspendedRuns,
    hidden_name,
    imported_again,
    resume_of,
)
from hotseat.supervisor.requests.turn_planner import PlannedTurn, TurnPlanner
from hotseat.supervisor.requests.works import Work, Works, WorkState
from hotseat.supervisor.seat.rules.states import Fault
from hotseat.supervisor.seat.seat import Seat

log = structlog.get_logger()
MAX_BLOCKS_LOST: Final = 3
"""Blocks of a context that a request loses in a row before it ends; after each it begins again."""
_TOLD: Final = ("epoch", "returncode", "signal", "gpu", "stderr", "stacks")
"""Facts of a death that the error of the request keeps."""


class WorkRuns:
    """Starts works on the seated worker and brings them to their end."""

    def __init__(
        self,
        *,
        works: Works,
        abandoned: Abandoned,
        turns: TurnPlanner,
        ends: WorkEnds,
        suspended: SuspendedRuns,
        outbox: Outbox,
        events: EventLog,
        seat: Seat,
    ) -> None:
        self._works = works
        self._abandoned = abandoned
        self._turns = turns
        self._ends = ends
        self._suspended = suspended
        self._outbox = outbox
        self._events = events
        self._seat = seat
        self._tasks = TaskSet("request.defect", self._not_ended)

    # --- beginnings -----------------------------------------------------------------------------

    def start(self, key: str) -> None:
        """Hands a waiting work to the worker."""
        work = self._works.get(RequestKey(key))
        if work is not None and work.state is WorkState.WAITING:
            work.state = WorkState.STARTING
            work.phase = "starting"
            self._spawn(work, self._start(work, self._seat.serving_epoch))

    async def _start(self, work: Work, epoch: int | None) -> None:
        record = self._seat.record
        if epoch is None or record is None or record.name != work.model:
            self._put_back(work)
            return
        if work.started is not None and work.record is not None and work.record.tag != record.tag:
            raise imported_again(record)
        work.record = record
        turn = await self._turns.plan(work, record)
        work.intake, work.turn, work.clock = turn.intake, turn.turn, turn.clock
        work.persist = work.persist and turn.persists
        if work.cancel_asked:
            await self._ends.cancelled(work)
            return
        if self._seat.serving_epoch != epoch:
            self._put_back(work)  # the worker died meanwhile: the next one has no model yet
            return
        now = time.monotonic()
        work.sent_at = work.sent_at or now
        work.resume(now)
        work.state = WorkState.RUNNING
        work.phase = "restoring"
        if not self._seat.send(_order(work, turn)):
            work.wait_again("queued", time.monotonic())

    def _put_back(self, work: Work) -> None:
        work.state = WorkState.WAITING
        self._works.changed.set()

    # --- on the way -----------------------------------------------------------------------------

    def cancel(self, work: Work) -> bool:
        """Ends a work at the next token boundary; False when it has ended already."""
        if work.state is WorkState.ENDED or work.finished is not None:
            return False
        work.cancel_asked = True
        if work.state is WorkState.WAITING:
            work.state = WorkState.STARTING
            self._spawn(work, self._ends.cancelled(work))
        elif work.state is WorkState.RUNNING:
            self._seat.send(CancelWork(request=work.key))
        return True

    def cancel_abandoned(self, now: float) -> None:
        """Ends works that nobody has read for so long that nobody will."""
        for work in self._abandoned.take_overdue(now):
            self.cancel(work)

    def cancel_running(self) -> None:
        """Ends all running works; their partial turns are kept."""
        for work in self._works.in_state(WorkState.STARTING, WorkState.RUNNING):
            self.cancel(work)

    def suspend_running(self) -> None:
        """Running works leave at the next token and go on when their model is back."""
        for work in self._works.in_state(WorkState.RUNNING):
            if work.finished is None:
                self.suspend(work)

    def suspend(self, work: Work) -> None:
        """One running work leaves at the next token and waits."""
        self._seat.send(Suspend(request=work.key, hold_as=hidden_name(work.key)))

    # --- ends -----------------------------------------------------------------------------------

    def keep_suspended(self, work: Work, message: Suspended) -> None:
        """It is out of the worker, whose death is no concern of it any more."""
        work.state = WorkState.STARTING
        self._spawn(work, self._keep_suspended(work, message))

    async def _keep_suspended(self, work: Work, message: Suspended) -> None:
        """Durable first; only then does the drain see it as gone."""
        await self._suspended.keep(work, message)
        if failpoints.ARMED:
            failpoints.reach("suspension.kept")
        work.held_as = message.hold_as
        if work.cancel_asked:
            await self._ends.cancelled(work)
            return
        self._events.publish(
            "request.suspended",
            request=work.request_id,
            model=work.model,
            completion_tokens=message.completion_tokens,
        )
        work.wait_again("suspended", time.monotonic())
        self._outbox.progress(work, self._outbox.note_for(work, time.monotonic()))
        self._works.changed.set()

    def begin_again(self, work: Work, reason: str) -> None:
        """A block of its context is lost: what is missing is computed, with any worker."""
        log.warning("request.context_lost", request=work.request_id, reason=reason)
        work.blocks_lost += 1
        if work.cancel_asked:
            work.state = WorkState.STARTING
            self._spawn(work, self._ends.cancelled(work))
        elif work.blocks_lost >= MAX_BLOCKS_LOST:
            self.break_off(work, _blocks_lost(work, reason))
        else:
            work.wait_again("queued", time.monotonic())
            self._works.changed.set()

    def end(self, work: Work, job: Coroutine[Any, Any, None]) -> None:
        """Runs what ends a work; a work ends even when that goes wrong."""
        self._spawn(work, job)

    def fail_soon(self, work: Work, error: HotseatError) -> None:
        """Ends a waiting work with an error; it does not start any more."""
        if work.state is WorkState.WAITING:
            self.break_off(work, error)

    def fail_waiting(self, model: str, error: HotseatError) -> None:
        """Everybody who waits for this model gets the reason.

        Where only a restart is missing, requests that began wait for it.
        """
        keeps_begun = error.code == "restart_needed"
        for work in self._works.in_state(WorkState.WAITING):
            if work.model == model and not (keeps_begun and work.outlives_daemon):
                self.fail_soon(work, error)

    def break_off(self, work: Work, error: HotseatError) -> None:
        """Ends a work with an error, wherever it is."""
        work.state = WorkState.STARTING
        self._spawn(work, self._ends.fail(work, error))

    def running_lost(self, fault: Fault) -> None:
        """The worker is gone: its works wait again, but for one that no worker can go on with."""
        # Of those that finished only the commit is left, and that needs no worker.
        running = [w for w in self._works.in_state(WorkState.RUNNING) if w.finished is None]
        for work in running:
            if work.cancel_asked:
                work.state = WorkState.STARTING
                self._spawn(work, self._ends.cancelled(work))
                continue
            known = work.suspicion
            work.suspicion = after_death(
                known,
                alone=len(running) == 1,
                by_system=fault.by_system,
                by_gpu=bool(fault.gpu),
                by_disk=fault.by_disk,
            )
            work.wait_again("queued", time.monotonic())
            if work.suspicion.needs_unreadable:
                self.break_off(work, _unreadable(work, fault))
            elif work.suspicion.is_poison:
                self.break_off(work, _poison(work, fault))

    async def settle(self) -> None:
        """Returns when what was begun has ended."""
        await self._tasks.settle()

    def _spawn(self, work: Work, job: Coroutine[Any, Any, None]) -> None:
        self._tasks.spawn(self._guard(work, job))

    async def _guard(self, work: Work, job: Coroutine[Any, Any, None]) -> None:
        """A work ends even when something goes wrong that nobody foresaw."""
        error = await outcome(job, "request.defect", request=work.request_id)
        if error is None:
            return
        try:
            await self._ends.fail(work, error)
        except HotseatError as second:
            log.warning("request.end_not_stored", request=work.request_id, reason=second.message)
            self._ends.end(work, error_body(error))

    @staticmethod
    def _not_ended(error: HotseatError) -> None:
        log.error("request.not_ended", reason=error.message)


def _order(work: Work, turn: PlannedTurn) -> Start:
    """What the worker is told to run."""
    request, intake = turn.request, turn.intake
    return Start(
        request=work.key,
        session=request.session,
        context=intake.context,
        hint=intake.hint,
        input=intake.input,
        clock=work.clock,
        sampling=request.sampling,
        seed=work.seed,
        stop=request.stop,
        max_tokens=request.max_tokens,
        logprobs=request.logprobs,
        tools=intake.framing.tools,
        tool_choice=request.tool_choice or "auto",
        response_format=request.response_format,
        parallel_calls=request.parallel_calls,
        template_args=intake.framing.template_args,
        persist=work.persist,
        resume=resume_of(work),
    )


def _poison(work: Work, fault: Fault) -> HotseatError:
    count = work.suspicion.count
    return HotseatError(
        "poison_request",
        f"{fault.message}; the request ran alone and got no further {count} times; "
        "change it before asking again",
        **_told(count, fault),
    )


def _unreadable(work: Work, fault: Fault) -> HotseatError:
    count = work.suspicion.disk_ends
    return HotseatError(
        fault.code,
        f"{fault.message}; {count} workers ended by it under this request",
        **_told(count, fault),
    )


def _blocks_lost(work: Work, reason: str) -> HotseatError:
    return HotseatError(
        "worker_lost",
        f"{reason}; {work.blocks_lost} times in a row a block was lost before the request got "
        "further; check the disk under the folder kv of the home, then ask again",
        blocks_lost=work.blocks_lost,
    )


def _told(deaths: int, fault: Fault) -> dict[str, Any]:
    return {"deaths": deaths} | {key: fault.facts[key] for key in _TOLD if key in fault.facts}
