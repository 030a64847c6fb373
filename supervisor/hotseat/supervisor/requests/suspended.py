"""Suspended requests on disk: a hidden session per request, so that blocks and tail are kept.

The name begins with a dot, which no client may use; the session goes when the request ends.
"""

import hashlib
import time
from collections.abc import Iterable
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, RequestKey, SessionName
from hotseat.protocol.link_orders import Drop, Resume
from hotseat.protocol.link_reports import Started, Suspended
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.tokens import pack_tokens
from hotseat.supervisor.catalogue.rows import SessionRow, TurnCommit
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.loop.tasks import TaskSet
from hotseat.supervisor.requests.rules.streams import Emission
from hotseat.supervisor.requests.session_store import tokenizer_digest
from hotseat.supervisor.requests.works import Work
from hotseat.supervisor.seat.seat import Seat

HIDDEN: Final = "."
log = structlog.get_logger()


class SuspendedRun(Struct, frozen=True, kw_only=True):
    """What the daemon has to know to go on with a request that a worker suspended."""

    started: Started
    emissions: tuple[Emission, ...]


def hidden_name(key: RequestKey) -> SessionName:
    """Name of the hidden session of a request."""
    digest = hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
    return SessionName(f"{HIDDEN}run-{digest}")


def resume_of(work: Work) -> Resume | None:
    """How the worker goes on with a request; None when it never began."""
    if work.started is None or not work.started.prompt:
        return None
    emitted = pack_tokens(token for entry in work.emissions for token in entry.tokens)
    return Resume(
        prompt=work.started.prompt,
        emitted=emitted,
        held_as=work.held_as,
        restored_tokens=work.started.restored_tokens,
    )


class SuspendedRuns:
    """Keeps and forgets hidden sessions."""

    def __init__(self, catalogue: Catalogue, keeper: KvKeeper, seat: Seat) -> None:
        self._catalogue = catalogue
        self._keeper = keeper
        self._seat = seat
        self._tasks = TaskSet("suspended.defect", _not_forgotten)

    async def keep(self, work: Work, message: Suspended) -> None:
        """Makes a suspended request durable; its tail follows with the checkpoint."""
        record, started = work.record, work.started
        if record is None or started is None or not work.persist:
            return
        run = SuspendedRun(started=started, emissions=tuple(work.emissions))
        await self._catalogue.commit_turn(
            TurnCommit(
                model=ModelName(record.name),
                session=SessionName(message.hold_as),
                tag=record.tag,
                tokenizer_digest=tokenizer_digest(record),
                tokens=message.context,
                messages=msgspec.msgpack.encode(run),
                message_count=0,
                hint=message.hint,
                closed=False,
                clock=work.clock,
                at=time.time(),
            )
        )
        await self._catalogue.note_offset(work.key, work.completion_tokens)

    async def find(self, model: str, key: RequestKey) -> tuple[SessionRow, SuspendedRun] | None:
        """The suspended state of a request that a daemon before this one left."""
        row = await self._catalogue.session(ModelName(model), hidden_name(key))
        if row is None:
            return None
        return row, msgspec.msgpack.decode(row.messages, type=SuspendedRun)

    async def forget(self, model: str, key: RequestKey) -> None:
        """Removes the hidden session and what only it needs."""
        await self._remove(ModelName(model), hidden_name(key))

    def end(self, work: Work) -> None:
        """The work ended: nothing of its suspension is needed any more."""
        if work.held_as is not None:
            self._seat.send(Drop(session=work.held_as))
            self._tasks.spawn(self.forget(work.model, work.key))

    async def settle(self) -> None:
        """Returns when what ended is forgotten."""
        await self._tasks.settle()

    async def forget_orphans(self, alive: Iterable[RequestKey]) -> None:
        """Removes hidden sessions of other requests: the last daemon died before it did."""
        wanted = {hidden_name(key) for key in alive}
        for model, name in await self._catalogue.hidden_sessions():
            if name not in wanted:
                await self._remove(model, name)

    async def _remove(self, model: ModelName, name: SessionName) -> None:
        files = await self._catalogue.delete_session(model, name, self._keeper.leased)
        await self._keeper.unlink(files or [])


def _not_forgotten(error: HotseatError) -> None:
    log.warning("request.suspension_not_forgotten", reason=error.message)


def imported_again(record: ModelRecord) -> HotseatError:
    """For a request that began with another model of the same name."""
    text = f"{record.name} was imported again meanwhile; output of the model before cannot "
    return HotseatError("worker_lost", text + "be repeated; ask again")
