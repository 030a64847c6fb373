"""What the worker says of the requests it runs. Starts nothing; ends go through `running`."""

import time

import structlog

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link_orders import CancelWork
from hotseat.protocol.link_reports import (
    Broken,
    ContextLost,
    Diverged,
    Divergence,
    Emitted,
    Finished,
    FromWorker,
    Prefilled,
    Refused,
    Started,
    Suspended,
)
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.loop.tasks import defect_of
from hotseat.supervisor.requests.ends import WorkEnds
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.works import Work, Works, WorkState
from hotseat.supervisor.seat.rules.wear import Wear
from hotseat.supervisor.seat.seat import Seat

log = structlog.get_logger()


class WorkerReports:
    """Brings reports to the works they are about, and counts what wears the worker."""

    def __init__(
        self,
        works: Works,
        runs: WorkRuns,
        ends: WorkEnds,
        outbox: Outbox,
        events: EventLog,
        seat: Seat,
    ) -> None:
        self._works = works
        self._runs = runs
        self._ends = ends
        self._outbox = outbox
        self._events = events
        self._seat = seat
        self.wear = Wear()

    def is_running(self, request: RequestKey) -> bool:
        """False for a request that has left the worker."""
        work = self._works.get(request)
        return work is not None and work.state is WorkState.RUNNING

    def session_of(self, request: RequestKey) -> str | None:
        """The session whose KV a request uses, the hidden one of a suspended request included."""
        work = self._works.get(request)
        return None if work is None else work.held_as or work.request.session

    def hear(self, message: FromWorker) -> bool:
        """True if a work got further than ever. A defect ends its request, not the link."""
        work = self._works.get(getattr(message, "request", RequestKey("")))
        if work is None or work.state is not WorkState.RUNNING:
            return False
        reached = work.reached_tokens
        try:
            self._hear(work, message)
        except Exception as error:  # task root
            log.exception("request.defect", request=work.request_id)
            self._seat.send(CancelWork(request=work.key))
            self._runs.break_off(work, defect_of(error))
        return work.reached_tokens > reached

    def note_footprint(self, quiet_bytes: int) -> None:
        """What the worker holds beside contexts while nothing runs."""
        self.wear = self.wear.with_footprint(self._seat.state.epoch, quiet_bytes)

    def _hear(self, work: Work, message: FromWorker) -> None:
        match message:
            case Emitted():
                self._emitted(work, message)
            case Started():
                self._started(work, message)
            case Diverged():
                self._left(work, message)
            case Prefilled(tokens_done=done):
                work.prompt_done = done
                work.reach(done)
                self._outbox.progress(work, self._outbox.note_for(work, time.monotonic()))
            case Suspended():
                self._runs.keep_suspended(work, message)
            case Finished():
                work.finished = message
                self._runs.end(work, self._ends.finish(work, message))
            case ContextLost(reason=reason):
                self._runs.begin_again(work, reason)
            case Refused() | Broken():
                error = HotseatError(message.code, message.message, **message.facts)
                self._runs.break_off(work, error)
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
        epoch = self._seat.serving_epoch
        if epoch is not None:
            self.wear = self.wear.with_tokens(epoch, max(0, tokens))
