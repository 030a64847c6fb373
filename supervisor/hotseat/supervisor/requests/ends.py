"""How requests end: reply and turn in one commit, then the answer. Runs nothing.

A work ends exactly once, whatever brings it there.
"""

import time
from typing import Any, Literal

from hotseat.protocol import failpoints
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, SessionName
from hotseat.protocol.limits import MAX_FORM_TOKENS
from hotseat.protocol.link_reports import Emitted, Finished
from hotseat.protocol.replies import Done, ErrorBody, LengthLimit, Timing, Usage
from hotseat.protocol.tokens import pack_tokens
from hotseat.supervisor.catalogue.rows import TurnCommit
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.conversation.history import encode_history
from hotseat.supervisor.conversation.intake import history_after
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.ports.client_port import error_body
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.quiet_sessions import QuietSessions
from hotseat.supervisor.requests.session_store import SessionStore, tokenizer_digest
from hotseat.supervisor.requests.stored_reply import StoredReply, encode_reply, reply_of
from hotseat.supervisor.requests.suspended import SuspendedRuns
from hotseat.supervisor.requests.works import Work, Works, WorkState


class WorkEnds:
    """Brings works to their end."""

    def __init__(
        self,
        *,
        works: Works,
        catalogue: Catalogue,
        sessions: SessionStore,
        keeper: KvKeeper,
        suspended: SuspendedRuns,
        outbox: Outbox,
        events: EventLog,
        quiet: QuietSessions,
    ) -> None:
        self._works = works
        self._catalogue = catalogue
        self._sessions = sessions
        self._keeper = keeper
        self._suspended = suspended
        self._outbox = outbox
        self._events = events
        self._quiet = quiet

    async def finish(self, work: Work, finished: Finished) -> None:
        """Commit first, then the answer."""
        rest = finished.text[work.text_length :]
        if rest:
            left = Emitted(request=work.key, tokens=(), text=rest)
            self._outbox.emit(work, work.add_emission(left))
        done = self._done(work, finished)
        reply = encode_reply(reply_of(done, work.emissions))
        if done.turn is not None:
            await self._commit(work, finished, reply)
        if done.turn is None or not work.persist:
            await self._record(work, "done", reply)
        if failpoints.ARMED:
            failpoints.reach("turn.stored")
        self.end(work, done)

    async def _commit(self, work: Work, finished: Finished, reply: bytes) -> None:
        record, intake, session = work.record, work.intake, work.request.session
        assert record is not None  # noqa: S101 - it ran
        assert intake is not None  # noqa: S101
        assert session is not None  # noqa: S101 - checked by the caller
        history = history_after(intake, work.said)
        committed = await self._sessions.commit(
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
                persist=work.persist,
                agent=work.request.agent or "",
                starts_over=not intake.base.messages,
                at=time.time(),
                key=work.key,
                reply=reply,
            )
        )
        await self._keeper.unlink(list(committed.obsolete_files))
        if committed.missing is not None:
            self._keeper.rewrite(committed.missing)

    async def _record(self, work: Work, kind: Literal["done", "error"], reply: bytes) -> None:
        """How it ended goes to the record of its accept; what must not persist loses that too."""
        if not work.is_recorded:
            return
        if work.persist:
            await self._catalogue.finish(work.key, kind, reply, time.time())
        else:
            await self._catalogue.reject(work.key)

    def _done(self, work: Work, finished: Finished) -> Done:
        started = work.started
        usage = Usage(
            prompt_tokens=started.prompt_tokens if started else 0,
            restored_tokens=started.restored_tokens if started else 0,
            computed_tokens=started.computed_tokens if started else 0,
            completion_tokens=work.completion_tokens,
            live_tokens=started.live_tokens if started else 0,
            disk_tokens=started.restored_tokens - started.live_tokens if started else 0,
            own_tokens=started.own_tokens if started else 0,
            shared_tokens=started.restored_tokens - started.own_tokens if started else 0,
            reasoning_tokens=finished.reasoning_tokens,
        )
        rendered = started.rendered if started else False
        keeps_turn = finished.completion_tokens > 0 or finished.finish_reason != "cancelled"
        in_session = work.request.session is not None and keeps_turn
        note = work_note(work, finished.limit)
        said = work.said
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
            stop_string=finished.stop_string,
            reasoning=said.reasoning,
            tool_calls=said.tool_calls,
            tool_parse_error=said.tool_parse_error,
        )

    def _timing(self, work: Work) -> Timing:
        now = time.monotonic()
        first = work.first_token_at
        waited_s = max(0.0, work.sent_at - work.accepted_at) if work.sent_at else 0.0
        return Timing(
            queue_s=round(max(0.0, waited_s - work.swap_s), 6),
            swap_s=round(min(work.swap_s, waited_s) + work.paused_s, 6),
            restore_s=round(work.started.restore_s, 6) if work.started else 0.0,
            ttft_s=round(first - work.accepted_at, 6) if first else 0.0,
            decode_s=round(now - first - work.paused_s, 6) if first else 0.0,
            total_s=round(now - work.accepted_at, 6),
        )

    async def cancelled(self, work: Work) -> None:
        """Cancelled while no worker had it: a regular end, with what was shown before.

        A suspended one keeps its partial turn; of any other the worker knows nothing any more.
        """
        if work.held_as is not None and work.emissions:
            await self.finish(work, _partial(work))
            return
        tokens = tuple(token for entry in work.emissions for token in entry.tokens)
        said = work.said
        done = Done(
            model=work.model,
            text=said.text,
            tokens=tokens,
            finish_reason="cancelled",
            usage=Usage(completion_tokens=len(tokens)),
            timing=self._timing(work),
            session=work.request.session,
            turn=None,
            seed=work.seed,
            reasoning=said.reasoning,
            tool_calls=said.tool_calls,
            tool_parse_error=said.tool_parse_error,
        )
        await self._record(work, "done", encode_reply(reply_of(done, work.emissions)))
        self.end(work, done)

    async def fail(self, work: Work, error: HotseatError) -> None:
        """An accepted work ends with an error; its session stays at the turn before."""
        if work.state is WorkState.ENDED:
            return
        body = error_body(error)
        await self._record(work, "error", encode_reply(StoredReply(error=body)))
        self.end(work, body)

    def end(self, work: Work, end: Done | ErrorBody) -> None:
        """Tells readers and the log; a second end changes nothing."""
        if work.state is WorkState.ENDED:
            return
        self._works.mark_ended(work)
        self._keeper.release(work.key)
        self._suspended.end(work)
        self._quiet.note_end(work, time.monotonic())
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


def work_note(work: Work, limit: LengthLimit | None) -> str:
    """What a client should know of a request that went well, or was cut."""
    notes = []
    if limit == "max_tokens" and work.request.max_tokens is None:
        notes.append(
            f"the answer was cut: without max_tokens a form gets {MAX_FORM_TOKENS} tokens; give "
            "max_tokens for a longer one"
        )
    found = work.started.diverged if work.started is not None else None
    if found is not None:
        keeps = work.record is None or work.record.template.keeps_reasoning
        why = "" if keeps else "; the template drops the reasoning of earlier turns"
        notes.append(
            f"{found.lost_tokens} tokens of the session could not be reused: from token "
            f"{found.position} on the conversation is rendered otherwise than it was held{why}"
        )
    if not work.persist:
        notes.append("nothing was written to disk: a swap costs this context a prefill")
    return ". ".join(notes)


def _partial(work: Work) -> Finished:
    """The end of a suspended work, as the worker would have told it."""
    emitted = [token for entry in work.emissions for token in entry.tokens]
    prompt = work.started.prompt if work.started is not None else b""
    return Finished(
        request=work.key,
        finish_reason="cancelled",
        text="".join(entry.text for entry in work.emissions),
        completion_tokens=len(emitted),
        context=prompt + pack_tokens(emitted),
        hint=b"",
        closed=False,
        ttft_s=0.0,
        decode_s=0.0,
    )
