"""Answers about sessions: a list of them, or one with its messages and turns. Changes nothing."""

from typing import Any, Final

import msgspec

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Sessions
from hotseat.protocol.views import SessionView, TurnView
from hotseat.supervisor.catalogue.session_verbs import missing
from hotseat.supervisor.conversation.cuts import reachable_turns
from hotseat.supervisor.conversation.history import decode_history
from hotseat.supervisor.models.registry import Registry
from hotseat.supervisor.requests.session_store import SessionStore
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.seat.seat import Seat

LISTED_SESSIONS: Final = 1_000
"""Most sessions in one answer; more would break the limits of a message."""


class SessionList:
    """What is stored, and what of it is in memory or at work."""

    def __init__(
        self, works: Works, sessions: SessionStore, registry: Registry, seat: Seat
    ) -> None:
        self._works = works
        self._sessions = sessions
        self._registry = registry
        self._seat = seat

    async def sessions(self, message: Sessions) -> SessionView | dict[str, Any]:
        """A list, last used first, or one session with its messages."""
        if message.session is None:
            views = await self._views(message.model)
            return {"sessions": views[:LISTED_SESSIONS], "total": len(views)}
        if message.model is None:
            raise HotseatError("invalid_request", "naming a session needs its model too")
        for view in await self._views(message.model):
            if view.session == message.session:
                row = await self._sessions.load(message.model, message.session)
                held = decode_history(row.messages).messages if row else ()
                messages = tuple(msgspec.to_builtins(entry) for entry in held)
                turns = await self._turns(message.model, message.session)
                return msgspec.structs.replace(view, messages=messages, turns=turns)
        raise missing(message.model, message.session)

    async def _turns(self, model: str, session: str) -> tuple[TurnView, ...]:
        held = await self._sessions.held(model, session)
        return tuple(
            TurnView(
                turn=entry.turn,
                tokens=entry.tokens,
                messages=entry.message_count,
                at=entry.at,
                request=entry.request,
            )
            for entry in (reachable_turns(held) if held is not None else ())
        )

    async def _views(self, model: str | None) -> list[SessionView]:
        beat, seated = self._seat.beat, self._seat.seated
        running = {
            work.request.session or ""
            for work in self._works.in_state(WorkState.STARTING, WorkState.RUNNING)
        }
        live = frozenset(beat.live_sessions) if beat else frozenset[str]()
        tags = {str(record.name): record.tag for record in self._registry.records()}
        return await self._sessions.views(model, live, seated, running, tags)
