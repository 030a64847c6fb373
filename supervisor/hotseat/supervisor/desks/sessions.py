"""What clients do to sessions beside turns: fork, copy, rewind, replace, pin, delete.

Checks that no turn is under way, has the change made durable, answers. Runs nothing.
"""

import time

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, SessionName, is_session_name
from hotseat.protocol.link_orders import Drop
from hotseat.protocol.messages import (
    Message,
    SessionCopy,
    SessionDelete,
    SessionFork,
    SessionPin,
    SessionReplace,
    SessionRewind,
)
from hotseat.protocol.views import SessionChange
from hotseat.supervisor.catalogue.rows import SessionRow
from hotseat.supervisor.catalogue.session_verbs import missing
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.conversation.cuts import TOKEN_BYTES, SessionTurns, cut_at, replace_history
from hotseat.supervisor.conversation.history import decode_history
from hotseat.supervisor.conversation.intake import check_parts
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.models.registry import Registry
from hotseat.supervisor.requests.session_store import SessionStore
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.seat.seat import Seat


class SessionDesk:
    """Session verbs."""

    def __init__(
        self,
        works: Works,
        sessions: SessionStore,
        catalogue: Catalogue,
        keeper: KvKeeper,
        events: EventLog,
        registry: Registry,
        seat: Seat,
    ) -> None:
        self._works = works
        self._sessions = sessions
        self._catalogue = catalogue
        self._keeper = keeper
        self._events = events
        self._registry = registry
        self._seat = seat

    async def fork(self, message: SessionFork) -> SessionChange:
        """A session of what another one was after a turn."""
        check_name(message.to, "to")
        self._check_quiet(message.model, message.session)

        def change(held: SessionTurns) -> SessionTurns:
            return cut_at(held, held.turn if message.at_turn is None else message.at_turn)

        row = await self._sessions.fork(message.model, message.session, message.to, change)
        self._events.publish(
            "session.forked",
            model=row.model,
            session=row.name,
            origin=message.session,
            turn=row.turn,
        )
        return _changed(row, origin=message.session)

    async def copy(self, message: SessionCopy) -> SessionChange:
        """A session of another model with the conversation of this one."""
        check_name(message.to, "to")
        record = self._registry.get(message.to_model)
        self._check_quiet(message.model, message.session)
        row = await self._sessions.load(message.model, message.session)
        if row is None:
            raise missing(message.model, message.session)
        if decode_history(row.messages).raw or record.template.mode == "raw":
            without = message.model if record.template.mode != "raw" else record.name
            raise HotseatError(
                "unsupported_feature",
                f"session {message.session!r} cannot be told to {record.name}: on {without} "
                "it is text without messages; send the text as a prompt",
                field="session",
            )
        made = await self._sessions.copy(row, record, message.to, time.time())
        self._events.publish(
            "session.forked",
            model=made.model,
            session=made.name,
            origin=message.session,
            turn=made.turn,
        )
        return _changed(made, origin=message.session)

    async def rewind(self, message: SessionRewind) -> SessionChange:
        """A session as it was after a turn."""
        self._check_quiet(message.model, message.session)
        row, files = await self._sessions.change(
            message.model, message.session, lambda held: cut_at(held, message.turn)
        )
        await self._keeper.unlink(files)
        self._events.publish("session.rewound", model=row.model, session=row.name, turn=row.turn)
        return _changed(row)

    async def replace(self, message: SessionReplace) -> SessionChange:
        """A session with another history."""
        raw = message.text is not None
        if raw == (message.messages is not None):
            raise HotseatError(
                "invalid_request",
                "exactly one of messages and text is needed",
                field="messages",
            )
        given = message.messages or ()
        if message.text is not None:
            given = (Message(role="user", content=message.text),)
        self._check_history(message, given, raw=raw)
        self._check_quiet(message.model, message.session)

        def change(held: SessionTurns) -> SessionTurns:
            if message.expect_turn not in (None, held.turn):
                raise HotseatError(
                    "session_conflict",
                    f"session is at turn {held.turn}, not {message.expect_turn}; read it and "
                    "decide",
                    field="expect_turn",
                    turn=held.turn,
                )
            return replace_history(held, given, time.time(), raw=raw)

        row, files = await self._sessions.change(message.model, message.session, change)
        await self._keeper.unlink(files)
        self._events.publish("session.replaced", model=row.model, session=row.name, turn=row.turn)
        return _changed(row)

    async def pin(self, message: SessionPin) -> SessionChange:
        """A session whose files stay on disk, or may go again."""
        if self._sessions.is_volatile(message.model, message.session):
            raise HotseatError(
                "invalid_request",
                f"session {message.session} is kept off the disk (persist false), where nothing "
                "can be pinned",
                field="session",
            )
        model, name = ModelName(message.model), SessionName(message.session)
        if not await self._catalogue.pin(model, name, pinned=message.pinned):
            raise missing(message.model, message.session)
        row = await self._sessions.load(message.model, message.session)
        if row is None:
            raise missing(message.model, message.session)
        return _changed(row)

    async def delete(self, message: SessionDelete) -> int:
        """Removes a session; the bytes that went."""
        self._check_quiet(message.model, message.session)
        if not await self._sessions.exists(message.model, message.session):
            raise missing(message.model, message.session)
        if self._seat.state.model == message.model:
            self._seat.send(Drop(session=message.session))
        files = await self._sessions.delete(message.model, message.session, self._keeper.leased)
        await self._keeper.unlink(files)
        return sum(entry.size_bytes for entry in files)

    def _check_quiet(self, model: str, session: str) -> None:
        """Raises while a turn of the session is under way.

        What is asked of the catalogue right after this comes before any turn that arrives later:
        the catalogue keeps the order of the calls.
        """
        check_name(session, "session")
        for work in self._works:
            if work.session_key == (model, session) and work.state is not WorkState.ENDED:
                raise HotseatError(
                    "session_busy",
                    f"session {session} has a turn under way; wait for it or cancel "
                    f"{work.request_id}",
                    request_id=work.request_id,
                )

    def _check_history(
        self, message: SessionReplace, given: tuple[Message, ...], *, raw: bool
    ) -> None:
        record = self._registry.get(message.model)
        if raw and message.text == "":
            raise HotseatError("invalid_request", "text is empty", field="text")
        if not given:
            raise HotseatError("invalid_request", "messages is empty", field="messages")
        check_parts("messages", given)
        if not raw and record.template.mode == "raw":
            raise HotseatError(
                "unsupported_feature",
                f"{record.name} has no chat template; replace with text",
                field="messages",
            )


def check_name(name: str, field: str) -> None:
    """Raises invalid_request for what is no name of a session."""
    if not is_session_name(name):
        raise HotseatError(
            "invalid_request",
            f"session name {name!r} is not allowed; use letters, digits and ._:@+- (at most 128, "
            "not starting with a dot)",
            field=field,
        )


def _changed(row: SessionRow, origin: str | None = None) -> SessionChange:
    return SessionChange(
        model=row.model,
        session=row.name,
        turn=row.turn,
        messages=len(decode_history(row.messages).messages),
        kept_tokens=0 if row.stale else len(row.tokens) // TOKEN_BYTES,
        origin=origin,
        pinned=row.pinned,
    )
