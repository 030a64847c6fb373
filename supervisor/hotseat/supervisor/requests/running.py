"""Running requests: to the worker, through its reports, to a durable end. Accepts nothing.

A work counts as running until its end is durable, so that a drain waits for the commit too.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from hotseat.protocol import failpoints
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link import (
    BlockWritten,
    Broken,
    CancelWork,
    Diverged,
    Divergence,
    Drop,
    Emitted,
    Finished,
    FromWorker,
    Lookup,
    Prefilled,
    Quarantined,
    Refused,
    Rewrite,
    Start,
    Started,
    Suspend,
    Suspended,
    TailWritten,
    ToWorker,
    WriteFailed,
)
from hotseat.protocol.messages import Generate
from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.conversation.intake import plan_turn
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.ports.client_port import error_body
from hotseat.supervisor.requests.ends import WorkEnds
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.rules.blame import after_death
from hotseat.supervisor.requests.session_store import SessionStore, as_stored, clock_of
from hotseat.supervisor.requests.suspended import (
    SuspendedRuns,
    hidden_name,
    imported_again,
    resume_of,
)
from hotseat.supervisor.requests.works import Work, Works, WorkState
from hotseat.supervisor.seat.rules.states import Fault
from hotseat.supervisor.seat.rules.wear import Wear

log = structlog.get_logger()
_TOLD: Final = ("epoch", "returncode", "signal", "stderr", "stacks")
"""Facts of a death that the error of the request keeps."""


class WorkRuns:
    """Starts works on the seated worker and brings them to their end."""

    def __init__(
        self,
        *,
        works: Works,
        ends: WorkEnds,
        held: SuspendedRuns,
        sessions: SessionStore,
        keeper: KvKeeper,
        outbox: Outbox,
        events: EventLog,
        send: Callable[[ToWorker], bool],
        record: Callable[[], ModelRecord | None],
        serving: Callable[[], int | None],
        waits_again: Callable[[], None],
        filled: Callable[..., Generate],
    ) -> None:
        """`record` is what the seated worker has loaded, `serving` the epoch that takes work.

        `waits_again` is called when a work could not be handed over, `filled` gives a request with
        its model's defaults.
        """
        self._works = works
        self._ends = ends
        self._sessions = sessions
        self._keeper = keeper
        self._outbox = outbox
        self._events = events
        self._send = send
        self._record = record
        self._serving = serving
        self._waits_again = waits_again
        self._filled = filled
        self._held = held
        ends.rewrite = lambda block: send(Rewrite(block=block))
        self.wear = Wear()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- beginnings -----------------------------------------------------------------------------

    def start(self, key: str) -> None:
        """Hands a waiting work to the worker."""
        work = self._works.get(RequestKey(key))
        if work is not None and work.state is WorkState.WAITING:
            work.state = WorkState.STARTING
            work.phase = "starting"
            self._spawn(work, self._start(work, self._serving()))

    async def _start(self, work: Work, epoch: int | None) -> None:
        record = self._record()
        if epoch is None or record is None or record.name != work.model:
            self._put_back(work)
            return
        request = work.request
        if work.started is not None and work.record is not None and work.record.tag != record.tag:
            raise imported_again(record)
        work.record = record
        row = None if request.session is None else await self._sessions.load(
            record.name, request.session
        )  # fmt: skip
        stored = as_stored(row, record)
        request = self._filled(request, record.name, begins=stored is None)
        work.intake = plan_turn(request, record, stored)
        work.turn = (stored.turn if stored else 0) + 1
        work.clock = clock_of(row)
        session = request.session
        work.persist = work.persist and not (
            session is not None and self._sessions.is_volatile(record.name, session)
        )
        if work.cancel_asked:
            await self._ends.cancelled(work)
            return
        if self._serving() != epoch:
            self._put_back(work)  # the worker died meanwhile: the next one has no model yet
            return
        now = time.monotonic()
        work.sent_at = work.sent_at or now
        work.resume(now)
        work.state = WorkState.RUNNING
        work.phase = "restoring"
        sent = self._send(
            Start(
                request=work.key,
                session=session,
                context=work.intake.context,
                hint=work.intake.hint,
                input=work.intake.input,
                clock=work.clock,
                sampling=request.sampling,
                seed=work.seed,
                stop=request.stop,
                max_tokens=request.max_tokens,
                logprobs=request.logprobs,
                tools=work.intake.framing.tools,
                tool_choice=request.tool_choice or "auto",
                response_format=request.response_format,
                template_args=work.intake.framing.template_args,
                persist=work.persist,
                resume=resume_of(work),
            )
        )
        if not sent:
            work.wait_again("queued", time.monotonic())

    def _put_back(self, work: Work) -> None:
        work.state = WorkState.WAITING
        self._waits_again()

    def cancel(self, work: Work) -> bool:
        """Ends a work at the next token boundary; False when it has ended already."""
        if work.state is WorkState.ENDED or work.finished is not None:
            return False
        work.cancel_asked = True
        if work.state is WorkState.WAITING:
            work.state = WorkState.STARTING
            self._spawn(work, self._ends.cancelled(work))
        elif work.state is WorkState.RUNNING:
            self._send(CancelWork(request=work.key))
        return True

    def suspend_running(self) -> None:
        """Running works leave at the next token and go on when their model is back."""
        for work in self._works.in_state(WorkState.RUNNING):
            if work.finished is None:
                self.suspend(work)

    def suspend(self, work: Work) -> None:
        """One running work leaves at the next token and waits."""
        self._send(Suspend(request=work.key, hold_as=hidden_name(work.key)))

    async def _suspended(self, work: Work, message: Suspended) -> None:
        """Durable first; only then does the drain see it as gone."""
        await self._held.keep(work, message)
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
        self._waits_again()

    def forget_held(self, work: Work) -> None:
        """The work ended: nothing of its suspension is needed any more."""
        if work.held_as is not None:
            self._send(Drop(session=work.held_as))
            self._spawn(work, self._held.forget(work.model, work.key))

    def cancel_running(self) -> None:
        """Ends all running works; their partial turns are kept."""
        for work in self._works.in_state(WorkState.STARTING, WorkState.RUNNING):
            self.cancel(work)

    # --- what the worker says -------------------------------------------------------------------

    def worker_said(self, message: FromWorker) -> bool:
        """Routes a report to its work or to the KV keeper; True if a work got further than ever."""
        record = self._record()
        if record is None:
            return False
        match message:
            case BlockWritten():
                self._keeper.block_written(message, record, self._send)
            case TailWritten():
                self._keeper.tail_written(message, record)
            case WriteFailed():
                self._keeper.write_failed(message)
            case Quarantined():
                self._keeper.quarantined(message, record)
            case _:
                work = self._works.get(getattr(message, "request", RequestKey("")))
                if work is not None and work.state is WorkState.RUNNING:
                    reached = work.reached_tokens
                    self._hear(work, message, record)
                    return work.reached_tokens > reached
        return False

    def _hear(self, work: Work, message: FromWorker, record: ModelRecord) -> None:
        """A defect in handling one report ends its request, not the link."""
        try:
            self._work_said(work, message, record)
        except Exception as error:  # task root
            log.exception("request.defect", request=work.request_id)
            self._send(CancelWork(request=work.key))
            work.state = WorkState.STARTING
            text = f"defect in hotseat ({type(error).__name__}); see the log"
            self._spawn(work, self._ends.fail(work, HotseatError("internal", text)))

    def _work_said(self, work: Work, message: FromWorker, record: ModelRecord) -> None:
        match message:
            case Emitted():
                self._emitted(work, message)
            case Lookup():
                session = work.held_as or work.request.session
                self._keeper.lookup(message, record, session, self._send)
            case Started():
                self._started(work, message)
            case Diverged():
                self._left(work, message)
            case Prefilled(tokens_done=done):
                work.prompt_done = done
                work.reach(done)
                self._outbox.progress(work, self._outbox.note_for(work, time.monotonic()))
            case Suspended():
                work.state = WorkState.STARTING  # out of the worker: its death is no concern
                self._spawn(work, self._suspended(work, message))
            case Finished():
                work.finished = message
                self._spawn(work, self._ends.finish(work, message))
            case Refused() | Broken():
                work.state = WorkState.STARTING
                error = HotseatError(message.code, message.message, **message.facts)
                self._spawn(work, self._ends.fail(work, error))
            case _:
                pass

    def _started(self, work: Work, message: Started) -> None:
        is_resumed = work.started is not None
        self._wears(message.computed_tokens)
        work.started = work.started or message
        work.phase = "prefill"
        self._events.publish(
            "request.resumed" if is_resumed else "request.started",
            request=work.request_id,
            model=work.model,
            session=work.request.session,
            prompt_tokens=message.prompt_tokens,
            restored_tokens=message.restored_tokens,
            computed_tokens=message.computed_tokens,
            miss=message.miss,
        )
        if message.diverged is not None:
            self._diverged(work, message.diverged)
        self._outbox.progress(work, self._outbox.note_for(work, time.monotonic()))

    def _diverged(self, work: Work, found: Divergence) -> None:
        self._events.publish(
            "session.diverged",
            request=work.request_id,
            model=work.model,
            session=work.request.session,
            position=found.position,
            lost_tokens=found.lost_tokens,
            unlogged={"held": found.held, "rendered": found.rendered},
        )

    def _left(self, work: Work, message: Diverged) -> None:
        """Told to whoever watches; the pieces are text of a conversation."""
        self._events.publish(
            "prefix.diverged",
            unlogged={"held": message.held, "given": message.given},
            request=work.request_id,
            model=work.model,
            session=work.request.session,
            position=message.position,
            same_text=message.same_text,
        )

    def _emitted(self, work: Work, message: Emitted) -> None:
        if work.first_token_at is None:
            work.first_token_at = time.monotonic()
        work.phase = "decode"
        self._wears(len(message.tokens))
        self._outbox.emit(work, work.add_emission(message))
        if message.tokens:
            prompt_tokens = work.started.prompt_tokens if work.started is not None else 0
            work.reach(prompt_tokens + work.completion_tokens)

    def _wears(self, tokens: int) -> None:
        epoch = self._serving()
        if epoch is not None:
            self.wear = self.wear.with_tokens(epoch, max(0, tokens))

    def running_lost(self, fault: Fault) -> None:
        """The worker is gone: its works wait again, unless one of them is what kills workers."""
        self._keeper.release_all()
        # Of those that finished only the commit is left, and that needs no worker.
        running = [w for w in self._works.in_state(WorkState.RUNNING) if w.finished is None]
        for work in running:
            if work.cancel_asked:
                work.state = WorkState.STARTING
                self._spawn(work, self._ends.cancelled(work))
                continue
            known = work.suspicion
            work.suspicion = after_death(known, alone=len(running) == 1, by_system=fault.by_system)
            work.wait_again("queued", time.monotonic())
            if work.suspicion.is_poison:
                work.state = WorkState.STARTING
                self._spawn(work, self._ends.fail(work, _poison(work, fault)))

    def fail_soon(self, work: Work, error: HotseatError) -> None:
        """`fail` from code that cannot wait; a waiting work does not start any more."""
        if work.state is WorkState.WAITING:
            work.state = WorkState.STARTING
            self._spawn(work, self._ends.fail(work, error))

    async def settle(self) -> None:
        """Returns when what was begun has ended."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Work, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(work, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Work, job: Coroutine[Any, Any, None]) -> None:
        """A work ends even when something goes wrong that nobody foresaw."""
        try:
            await job
        except HotseatError as error:
            await self._fail_hard(work, error)
        except Exception as error:  # task root
            log.exception("request.defect", request=work.request_id)
            text = f"defect in hotseat ({type(error).__name__}); see the log"
            await self._fail_hard(work, HotseatError("internal", text))

    async def _fail_hard(self, work: Work, error: HotseatError) -> None:
        try:
            await self._ends.fail(work, error)
        except HotseatError as second:
            log.warning("request.end_not_stored", request=work.request_id, reason=second.message)
            self._ends.end(work, error_body(error))


def _poison(work: Work, fault: Fault) -> HotseatError:
    count = work.suspicion.lone_deaths + work.suspicion.lone_kills
    return HotseatError(
        "poison_request",
        f"{fault.message}; the request ran alone and got no further {count} times; "
        "change it before asking again",
        **{"deaths": count} | {key: fault.facts[key] for key in _TOLD if key in fault.facts},
    )
