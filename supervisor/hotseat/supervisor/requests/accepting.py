"""Taking in requests: checks, the durable accept, joining and cancelling. Runs nothing itself."""

import secrets
import time
from typing import Final, Protocol

import msgspec
import structlog
from msgspec import UNSET, structs

from hotseat.protocol import failpoints
from hotseat.protocol.codec import pack_body, unpack_body
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, RequestId, RequestKey, SessionName, request_key
from hotseat.protocol.limits import MAX_SAFE_INTEGER
from hotseat.protocol.messages import Attach, Generate
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.replies import Accepted
from hotseat.supervisor.catalogue.requests import body_digest
from hotseat.supervisor.catalogue.rows import AcceptRecord, RequestRow
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.conversation.intake import check_generate
from hotseat.supervisor.conversation.prompt_size import known_tokens
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.ports.client_port import Peer, error_body
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.prompt_fits import PromptFits
from hotseat.supervisor.requests.stored_reply import StoredReply, decode_reply, encode_reply
from hotseat.supervisor.requests.suspended import SuspendedRuns
from hotseat.supervisor.requests.turn_planner import TurnPlanner
from hotseat.supervisor.requests.works import Work, Works, WorkState
from hotseat.supervisor.settings.values import LimitSettings

RETRY_S: Final = 1.0
log = structlog.get_logger()


class Admitting(Protocol):
    """Whether requests may run at all; what raises raises `HotseatError`."""

    @property
    def limits(self) -> LimitSettings:
        """What clients may use up."""

    def request(self, request: Generate) -> ModelRecord:
        """The record of the model a request names; raises if it may not run."""

    def persists(self, model: ModelName) -> bool:
        """False for a model whose contexts stay off the disk."""

    def slow_speed(self, record: ModelRecord, prompt_tokens: int = 0) -> float | None:
        """Tokens a second of a model, and of so long a context, that the disk holds below 1."""

    async def explained(self, error: HotseatError) -> HotseatError:
        """A refusal with what a person should know of it."""


class Acceptor:
    """Accepts, joins and claims requests."""

    def __init__(
        self,
        *,
        works: Works,
        catalogue: Catalogue,
        suspended: SuspendedRuns,
        turns: TurnPlanner,
        outbox: Outbox,
        events: EventLog,
        admission: Admitting,
        fits: PromptFits,
    ) -> None:
        self._works = works
        self._catalogue = catalogue
        self._suspended = suspended
        self._turns = turns
        self._outbox = outbox
        self._events = events
        self._admission = admission
        self._fits = fits
        self._unclaimed: dict[RequestKey, RequestRow] = {}
        self._unclaimed_until = 0.0

    # --- generate -------------------------------------------------------------------------------

    async def generate(
        self, peer: Peer, request_id: RequestId, request: Generate, ignored: tuple[str, ...]
    ) -> None:
        """Accepts a request, or joins the one this id stands for. Raises `HotseatError`.

        `ignored` are fields that it had and that mean nothing.
        """
        key = request_key(peer.token, request_id)
        known = self._works.get(key)
        if known is not None:
            if known.request != request:
                raise _conflict(request_id)
            self._rejoin(known, peer, request_id, 0, request.credit_bytes)
            return
        check_generate(request)
        work = self._works.create(key, request_id, peer.name, request)
        work.ignored = ignored
        self._outbox.attach(work, peer, request_id, 0, request.credit_bytes)
        await self._take_in(work, peer, None)

    async def _take_in(self, work: Work, peer: Peer, row: RequestRow | None) -> None:
        """Accept and queue; a work that cannot be accepted leaves no trace."""
        stored = row
        try:
            stored = row or await self._stored(work)
            if stored is not None and stored.state != "accepted":
                self._replay(work, stored)
                return
            await self._accept(work, peer, stored)
        except HotseatError as error:
            await self._refuse(work, stored, await self._admission.explained(error))
            return
        except Exception:
            # A defect: whoever asked is told by the caller, and the session is free again.
            self._works.forget(work)
            self._outbox.forget_work(work)
            raise
        if failpoints.ARMED:
            failpoints.reach("accept.stored")
        accepted = self._accepted(work, replayed=stored is not None)
        self._events.publish(
            "request.accepted",
            request=work.request_id,
            client=work.client,
            agent=work.request.agent,
            model=work.model,
            session=work.request.session,
        )
        self._outbox.accepted(work, accepted)
        self._works.changed.set()

    async def _refuse(self, work: Work, row: RequestRow | None, error: HotseatError) -> None:
        """A claimed request was accepted before the restart: its refusal is its one end."""
        log.info("request.refused", code=error.code, reason=error.message)
        body = error_body(error)
        try:
            if row is not None:
                reply = encode_reply(StoredReply(error=body))
                await self._catalogue.finish(row.key, "error", reply, time.time())
                await self._suspended.forget(row.model, row.key)
        finally:
            self._works.forget(work)
            self._outbox.end(work, body)

    async def _stored(self, work: Work) -> RequestRow | None:
        """What the catalogue knows of this id; raises if it was used for something else."""
        row = await self._catalogue.request(work.key)
        if row is None:
            return None
        if row.kind != "generate" or row.body_digest != body_digest(pack_body(work.request)):
            raise _conflict(work.request_id)
        if row.state == "accepted":
            self._unclaimed.pop(work.key, None)
        return row

    async def _accept(self, work: Work, peer: Peer, row: RequestRow | None) -> None:
        request = work.request
        waiting = len(self._works.in_state(WorkState.WAITING))
        most = self._admission.limits.max_waiting
        if row is None and waiting >= most:
            raise HotseatError(
                "queue_full",
                f"{waiting} requests wait already (max_waiting {most})",
                retry_after_s=self._room_in_s(),
                waiting=waiting,
            )
        work.record = self._admission.request(request)
        work.slow_speed = self._admission.slow_speed(work.record)
        if request.next_model is not None:
            other = structs.replace(request, model=request.next_model, swap="auto")
            self._admission.request(other)
        await self._check_session(work, may_wait=request.queue or row is not None)
        work.seed = _seed(request, row)
        work.created_at = time.time()
        work.persist = self._persists(request, work.record)
        work.is_recorded = row is not None or work.persist
        if row is None and work.persist:
            accepted = await self._catalogue.accept(_accept_record(work, peer))
            if not accepted.same_body:
                raise _conflict(work.request_id)
        if row is not None:
            await self._claim_suspended(work)
        work.accepted_at = time.monotonic()
        work.state = WorkState.WAITING
        self._works.forecaster.arrived(work.client, request, work.model, work.accepted_at)

    async def _claim_suspended(self, work: Work) -> None:
        """A request that the last daemon suspended goes on where it was."""
        found = await self._suspended.find(work.model, work.key)
        if found is None or work.record is None:
            return
        if found[0].tag != work.record.tag:
            await self._suspended.forget(work.model, work.key)  # imported anew: of no use any more
            return
        row, run = found
        work.started, work.held_as, work.clock = run.started, row.name, row.clock
        for emission in run.emissions:
            work.note(emission)
            self._outbox.emit(work, emission)

    async def _check_session(self, work: Work, *, may_wait: bool) -> None:
        """Early answers: a busy session, a wrong turn, input that cannot follow what it holds."""
        assert work.record is not None  # noqa: S101 - set by the only caller
        if work.session_key is not None and work.request.session is not None:
            holder = self._works.holder(work.session_key, work)
            if holder is not None:
                if may_wait:
                    return
                raise HotseatError(
                    "session_busy",
                    f"session {work.request.session} has a turn under way; wait for it, cancel "
                    f"{holder.request_id}, or set queue",
                    retry_after_s=RETRY_S,
                    request_id=holder.request_id,
                )
        turn = await self._turns.plan(work, work.record)
        if work.held_as is None:
            work.prompt_tokens = await self._fits.check(
                work.record,
                turn.intake,
                turn.clock,
                work.request,
                persists=self._persists(work.request, work.record),
                is_worker_free=not self._works.running,
            )
        work.known_tokens = work.prompt_tokens or known_tokens(turn.intake)
        self._turns.keep(work, turn)

    def _persists(self, request: Generate, record: ModelRecord) -> bool:
        """Whether its context may reach the disk: by the request, the model and the session."""
        allowed = self._admission.persists(record.name)
        return request.persist and allowed and self._turns.persists(record, request.session)

    def _accepted(self, work: Work, *, replayed: bool) -> Accepted:
        """With its place in the queue and the wait to expect, as long as it waits."""
        forecast = None
        if work.state is WorkState.WAITING:
            forecast = self._works.forecaster.forecast(work.key, time.monotonic())
        wait_s = None if forecast is None else forecast.wait_s
        # What must not reach the disk is never read from there.
        tokens = max(work.known_tokens, work.reached_tokens) if work.persist else 0
        speed = None if work.record is None else self._admission.slow_speed(work.record, tokens)
        return Accepted(
            position=forecast.position if forecast is not None else 0,
            expected_wait_s=None if wait_s is None else round(wait_s, 3),
            seed=work.seed,
            replayed=replayed,
            ignored=work.ignored or UNSET,
            tokens_per_s=UNSET if speed is None else speed,
        )

    def _room_in_s(self) -> float:
        """When asking again makes sense: a waiting request starts and leaves its place."""
        room_in_s = self._works.forecaster.room_in_s(time.monotonic())
        return RETRY_S if room_in_s is None else round(max(RETRY_S, room_in_s), 1)

    # --- joining --------------------------------------------------------------------------------

    async def attach(self, peer: Peer, request_id: RequestId, message: Attach) -> None:
        """Joins work in progress or its stored reply. Raises `HotseatError`."""
        key = request_key(peer.token, RequestId(message.request_id))
        known = self._works.get(key)
        if known is not None:
            self._rejoin(known, peer, request_id, message.offset_tokens, message.credit_bytes)
            return
        row = await self._catalogue.request(key)
        if row is None or row.kind != "generate":
            raise HotseatError(
                "request_unknown",
                f"no request {message.request_id} of this client is known; replies are kept for "
                f"{self._admission.limits.reply_keep_s:.0f} s",
                request_id=message.request_id,
            )
        known = self._works.get(key)  # another attach may have claimed it meanwhile
        if known is not None:
            self._rejoin(known, peer, request_id, message.offset_tokens, message.credit_bytes)
            return
        if row.state != "accepted":
            stored = decode_reply(row.reply)
            accepted = Accepted(position=0, seed=row.seed, replayed=True)
            self._outbox.replay(peer, request_id, accepted, stored, message.offset_tokens)
            return
        self._unclaimed.pop(key, None)
        request = unpack_body(row.body, Generate)
        work = self._works.create(key, row.request_id, peer.name, request)
        offset, credit = message.offset_tokens, message.credit_bytes
        self._outbox.attach(work, peer, request_id, offset, credit)
        await self._take_in(work, peer, row)

    def _rejoin(
        self, work: Work, peer: Peer, request_id: RequestId, offset: int, credit: int | None
    ) -> None:
        self._outbox.attach(work, peer, request_id, offset, credit)
        if work.state is not WorkState.ACCEPTING:
            self._outbox.accepted(work, self._accepted(work, replayed=True))

    def _replay(self, work: Work, row: RequestRow) -> None:
        """A re-sent id whose reply is stored: the same reply again, nothing runs."""
        stored = decode_reply(row.reply)
        readers = tuple(work.readers)
        self._works.forget(work)
        for reader in readers:
            accepted = Accepted(
                position=0, seed=row.seed, replayed=True, ignored=work.ignored or UNSET
            )
            self._outbox.replay(reader.peer, reader.request_id, accepted, stored, 0)
        work.end = stored.end
        self._outbox.forget_work(work)

    # --- after a restart ------------------------------------------------------------------------

    async def recover(self, now: float) -> list[RequestRow]:
        """Requests that had not ended when the last daemon did wait to be claimed; swaps end."""
        rows = await self._catalogue.unfinished()
        for row in rows:
            if row.kind == "generate":
                self._unclaimed[row.key] = row
            else:
                await self._end_row(row, "the daemon restarted during the swap; ask again")
        await self._suspended.forget_orphans(self._unclaimed)
        self._unclaimed_until = now + self._admission.limits.claim_s
        if self._unclaimed:
            self._events.publish("request.unclaimed", count=len(self._unclaimed))
        return rows

    async def expire(self, now: float) -> None:
        """Ends what nobody claimed in time."""
        if not self._unclaimed or now < self._unclaimed_until:
            return
        rows, self._unclaimed = tuple(self._unclaimed.values()), {}
        for row in rows:
            if self._works.get(row.key) is None:
                await self._end_row(row, "the daemon restarted and nobody claimed the request")
                await self._suspended.forget(row.model, row.key)

    async def _end_row(self, row: RequestRow, reason: str) -> None:
        error = HotseatError("interrupted", reason, durable_tokens=row.offset_tokens)
        body = error_body(error)
        reply = encode_reply(StoredReply(error=body))
        if row.kind == "swap":
            reply = msgspec.msgpack.encode(body)
        await self._catalogue.finish(row.key, "error", reply, time.time())


def _seed(request: Generate, row: RequestRow | None) -> int:
    """The client's seed, the one that was drawn before a restart, or a new one."""
    if request.sampling.seed is not None:
        return request.sampling.seed
    if row is not None and row.seed is not None:
        return row.seed
    return secrets.randbelow(MAX_SAFE_INTEGER)


def _accept_record(work: Work, peer: Peer) -> AcceptRecord:
    session = work.request.session
    return AcceptRecord(
        key=work.key,
        token=peer.token,
        request_id=work.request_id,
        kind="generate",
        body=pack_body(work.request),
        model=ModelName(work.model),
        session=None if session is None else SessionName(session),
        seed=work.seed,
        created_at=work.created_at,
    )


def _conflict(request_id: str) -> HotseatError:
    return HotseatError(
        "request_conflict",
        f"request id {request_id} was used with another body; choose a new id",
        request_id=request_id,
    )
