"""Running requests: to the worker, through its reports, to a durable end. Accepts nothing.

A work counts as running until its end is durable, so that a drain waits for the commit too.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, RequestKey, SessionName
from hotseat.protocol.link import (
    BlockWritten,
    Broken,
    CancelWork,
    Emitted,
    Finished,
    FromWorker,
    Lookup,
    Prefilled,
    Quarantined,
    Refused,
    Start,
    Started,
    TailWritten,
    ToWorker,
    WriteFailed,
)
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.replies import Done, ErrorBody, Timing, Usage
from hotseat.supervisor.catalogue.rows import TurnCommit
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.client_port import error_body
from hotseat.supervisor.core.intake import encode_history, history_after, plan_turn
from hotseat.supervisor.core.seat_types import Fault
from hotseat.supervisor.event_log import EventLog
from hotseat.supervisor.kept import KeptReply, encode_kept, keep_done
from hotseat.supervisor.kv_keeper import KvKeeper
from hotseat.supervisor.outbox import Outbox
from hotseat.supervisor.sessions import Sessions, as_stored, clock_of, tokenizer_digest
from hotseat.supervisor.works import Work, Works, WorkState

MAX_ATTEMPTS: Final = 2
"""Worker deaths a request survives; the next one ends it."""
log = structlog.get_logger()


class WorkRuns:
    """Starts works on the seated worker and brings them to their end."""

    def __init__(
        self,
        *,
        works: Works,
        catalogue: Catalogue,
        sessions: Sessions,
        keeper: KvKeeper,
        outbox: Outbox,
        events: EventLog,
        send: Callable[[ToWorker], bool],
        record: Callable[[], ModelRecord | None],
        ended: Callable[[], None],
    ) -> None:
        """`record` is what the seated worker has loaded; `ended` follows every end."""
        self._works = works
        self._catalogue = catalogue
        self._sessions = sessions
        self._keeper = keeper
        self._outbox = outbox
        self._events = events
        self._send = send
        self._record = record
        self._ended = ended
        self._tasks: set[asyncio.Task[None]] = set()
        self.last_end_at = 0.0

    # --- beginnings -----------------------------------------------------------------------------

    def start(self, key: str) -> None:
        """Hands a waiting work to the worker."""
        work = self._works.get(RequestKey(key))
        if work is not None and work.state is WorkState.WAITING:
            work.state = WorkState.STARTING
            work.phase = "starting"
            self._spawn(work, self._start(work))

    async def _start(self, work: Work) -> None:
        record = self._record()
        if record is None or record.name != work.model:
            work.state = WorkState.WAITING
            return
        request = work.request
        work.record = record
        row = None if request.session is None else await self._sessions.load(
            record.name, request.session
        )  # fmt: skip
        stored = as_stored(row, record)
        work.intake = plan_turn(request, record, stored)
        work.turn = (stored.turn if stored else 0) + 1
        work.clock = clock_of(row)
        if work.state is not WorkState.STARTING:
            return  # the worker died meanwhile: it waits again
        if work.cancel_asked:
            await self._end_cancelled(work)
            return
        work.sent_at = time.monotonic()
        work.state = WorkState.RUNNING
        work.phase = "restoring"
        sent = self._send(
            Start(
                request=work.key,
                session=request.session,
                context=work.intake.context,
                hint=work.intake.hint,
                input=work.intake.input,
                clock=work.clock,
                sampling=request.sampling,
                seed=work.seed,
                stop=request.stop,
                max_tokens=request.max_tokens,
                logprobs=request.logprobs,
                persist=request.persist,
            )
        )
        if not sent:
            work.begin_again()

    def cancel(self, work: Work) -> bool:
        """Ends a work at the next token boundary; False when it has ended already."""
        if work.state is WorkState.ENDED or work.finished is not None:
            return False
        work.cancel_asked = True
        if work.state is WorkState.WAITING:
            work.state = WorkState.STARTING
            self._spawn(work, self._end_cancelled(work))
        elif work.state is WorkState.RUNNING:
            self._send(CancelWork(request=work.key))
        return True

    def cancel_running(self) -> None:
        """Ends all running works; their partial turns are kept."""
        for work in self._works.in_state(WorkState.STARTING, WorkState.RUNNING):
            self.cancel(work)

    # --- what the worker says -------------------------------------------------------------------

    def worker_said(self, message: FromWorker) -> None:
        """Routes a report to its work or to the KV keeper."""
        record = self._record()
        if record is None:
            return
        match message:
            case BlockWritten():
                self._keeper.block_written(message, record)
            case TailWritten():
                self._keeper.tail_written(message, record)
            case WriteFailed():
                self._keeper.write_failed(message)
            case Quarantined():
                self._keeper.quarantined(message, record)
            case _:
                work = self._works.get(getattr(message, "request", RequestKey("")))
                if work is not None and work.state is WorkState.RUNNING:
                    self._work_said(work, message, record)

    def _work_said(self, work: Work, message: FromWorker, record: ModelRecord) -> None:
        match message:
            case Emitted():
                self._emitted(work, message)
            case Lookup():
                self._keeper.lookup(message, record, work.request.session, self._send)
            case Started():
                self._started(work, message)
            case Prefilled(tokens_done=done):
                work.prompt_done = done
                self._outbox.progress(work, self._outbox.note_for(work, time.monotonic()))
            case Finished():
                work.finished = message
                self._spawn(work, self._finish(work, message))
            case Refused() | Broken():
                work.state = WorkState.STARTING
                error = HotseatError(message.code, message.message, **message.facts)
                self._spawn(work, self.fail(work, error))
            case _:
                pass

    def _started(self, work: Work, message: Started) -> None:
        work.started = message
        work.phase = "prefill"
        self._events.publish(
            "request.started",
            request=work.request_id,
            model=work.model,
            session=work.request.session,
            prompt_tokens=message.prompt_tokens,
            restored_tokens=message.restored_tokens,
            computed_tokens=message.computed_tokens,
            miss=message.miss,
        )
        self._outbox.progress(work, self._outbox.note_for(work, time.monotonic()))

    def _emitted(self, work: Work, message: Emitted) -> None:
        if work.first_token_at is None:
            work.first_token_at = time.monotonic()
            work.phase = "decode"
        emission = work.add_emission(message.tokens, message.text, message.logprobs)
        if work.replaying and work.diverged():
            self._send(CancelWork(request=work.key))
            work.state = WorkState.STARTING
            error = HotseatError(
                "worker_lost", "the worker died and its output could not be repeated exactly"
            )
            self._spawn(work, self.fail(work, error))
            return
        self._outbox.emit(work, emission)

    def running_lost(self, fault: Fault) -> None:
        """The worker is gone: its works wait again, unless they were there too often."""
        self._keeper.release_all()
        running = self._works.in_state(WorkState.RUNNING)
        for work in running:
            if work.finished is not None:
                continue  # only the commit is left, and that needs no worker
            work.begin_again()
            if work.attempts > MAX_ATTEMPTS:
                code = "poison_request" if len(running) == 1 else "worker_lost"
                work.state = WorkState.STARTING
                text = f"{fault.message}; the request was tried {work.attempts} times"
                self._spawn(work, self.fail(work, HotseatError(code, text)))

    # --- ends -----------------------------------------------------------------------------------

    async def _finish(self, work: Work, finished: Finished) -> None:
        """Commit first, then the answer."""
        rest = finished.text[work.text_length :]
        if rest:
            self._outbox.emit(work, work.add_emission((), rest))
        done = self._done(work, finished)
        reply = encode_kept(keep_done(done, work.emissions))
        keeps_turn = finished.completion_tokens > 0 or finished.finish_reason != "cancelled"
        if work.request.session is not None and keeps_turn:
            await self._commit(work, finished, reply)
        elif work.request.persist:
            await self._catalogue.finish(work.key, "done", reply, time.time())
        self._end(work, done)

    async def _commit(self, work: Work, finished: Finished, reply: bytes) -> None:
        record, intake, session = work.record, work.intake, work.request.session
        assert record is not None  # noqa: S101 - it ran
        assert intake is not None  # noqa: S101
        assert session is not None  # noqa: S101 - checked by the caller
        history = history_after(intake, finished.text)
        obsolete = await self._sessions.commit(
            TurnCommit(
                model=ModelName(record.name),
                session=SessionName(session),
                tag=record.tag,
                tokenizer_digest=tokenizer_digest(record),
                turn=work.turn,
                tokens=finished.context,
                messages=encode_history(history),
                message_count=len(history.messages),
                hint=finished.hint,
                closed=finished.closed,
                clock=work.clock,
                persist=work.request.persist,
                at=time.time(),
                key=work.key,
                reply=reply,
            )
        )
        await self._keeper.unlink(list(obsolete))

    def _done(self, work: Work, finished: Finished) -> Done:
        started = work.started
        usage = Usage(
            prompt_tokens=started.prompt_tokens if started else 0,
            restored_tokens=started.restored_tokens if started else 0,
            computed_tokens=started.computed_tokens if started else 0,
            completion_tokens=work.completion_tokens,
        )
        rendered = started.rendered if started else False
        in_session = work.request.session is not None
        note = ""
        if not work.request.persist:
            note = "nothing was written to disk: a swap costs this context a prefill"
        return Done(
            model=work.model,
            text=finished.text,
            tokens=tuple(token for entry in work.emissions for token in entry.tokens),
            finish_reason=finished.finish_reason,
            usage=usage,
            timing=self._timing(work),
            limit=finished.limit,
            session=work.request.session,
            turn=work.turn if in_session else None,
            context="rendered" if rendered else "appended",
            seed=work.seed,
            note=note,
        )

    def _timing(self, work: Work) -> Timing:
        now = time.monotonic()
        first = work.first_token_at
        waited_s = max(0.0, work.sent_at - work.accepted_at) if work.sent_at else 0.0
        return Timing(
            queue_s=round(max(0.0, waited_s - work.swap_s), 6),
            swap_s=round(min(work.swap_s, waited_s), 6),
            restore_s=round(work.started.restore_s, 6) if work.started else 0.0,
            ttft_s=round(first - work.accepted_at, 6) if first else 0.0,
            decode_s=round(now - first, 6) if first else 0.0,
            total_s=round(now - work.accepted_at, 6),
        )

    async def _end_cancelled(self, work: Work) -> None:
        """Cancelled before the worker had it: an empty, regular end."""
        done = Done(
            model=work.model,
            text="",
            tokens=(),
            finish_reason="cancelled",
            usage=Usage(),
            timing=self._timing(work),
            session=work.request.session,
            turn=None,
            seed=work.seed,
        )
        if work.request.persist:
            reply = encode_kept(keep_done(done, []))
            await self._catalogue.finish(work.key, "done", reply, time.time())
        self._end(work, done)

    async def fail(self, work: Work, error: HotseatError) -> None:
        """An accepted work ends with an error; its session stays at the turn before."""
        if work.state is WorkState.ENDED:
            return
        body = error_body(error)
        if work.request.persist:
            reply = encode_kept(KeptReply(error=body))
            await self._catalogue.finish(work.key, "error", reply, time.time())
        self._end(work, body)

    def fail_soon(self, work: Work, error: HotseatError) -> None:
        """`fail` from code that cannot wait; a waiting work does not start any more."""
        if work.state is WorkState.WAITING:
            work.state = WorkState.STARTING
            self._spawn(work, self.fail(work, error))

    def _end(self, work: Work, end: Done | ErrorBody) -> None:
        if work.state is WorkState.ENDED:
            return
        self._works.mark_ended(work)
        self._keeper.release(work.key)
        self.last_end_at = time.monotonic()
        facts: dict[str, Any] = {"request": work.request_id, "model": work.model}
        if isinstance(end, Done):
            facts |= {
                "finish_reason": end.finish_reason,
                "session": end.session,
                "turn": end.turn,
                "restored_tokens": end.usage.restored_tokens,
                "computed_tokens": end.usage.computed_tokens,
                "completion_tokens": end.usage.completion_tokens,
                "ttft_s": end.timing.ttft_s,
                "total_s": end.timing.total_s,
            }
            self._events.publish("request.finished", **facts)
        else:
            self._events.publish("request.failed", code=end.code, reason=end.message, **facts)
        self._outbox.end(work, end)
        self._ended()

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
            await self.fail(work, error)
        except HotseatError as second:
            log.warning("request.end_not_stored", request=work.request_id, reason=second.message)
            self._end(work, error_body(error))
