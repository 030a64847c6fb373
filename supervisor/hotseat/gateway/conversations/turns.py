"""Turns of conversations: appended where one goes on, branched where it goes on twice.

What a client sends is looked for among the histories that sessions hold; only what is new is sent
to the daemon then. Whatever does not fit after all is rendered as a whole: a client notices
nothing but the time. Must not know dialects.
"""

import logging
import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.requests import Request

from hotseat.client import AsyncClient
from hotseat.client.flow import AsyncStream
from hotseat.gateway.asked import Asked
from hotseat.gateway.conversations.habits import Habits
from hotseat.gateway.conversations.heads import HeadWatch
from hotseat.gateway.conversations.index import MOST, Place, PlaceIndex
from hotseat.gateway.conversations.value import (
    SYSTEM_ROLES,
    Head,
    Traced,
    branch_prefix,
    is_kept_briefly,
    is_made_here,
    name_of,
    open_points,
    prefix_of,
    system_text,
    trace,
)
from hotseat.gateway.replying import owner_of
from hotseat.gateway.serving import accepted, unless_gone
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message
from hotseat.protocol.replies import Done
from hotseat.protocol.views import SessionView

_log = logging.getLogger("hotseat.gateway")
_NONCE_BYTES: Final = 4
_LOOKED_AT: Final = 8
"""Sessions of one root that are read after a restart, newest first."""
_ROOTS: Final = 4096
_AS_A_WHOLE: Final = frozenset(
    {"session_missing", "session_busy", "session_conflict", "session_diverged"}
)
"""What is wrong with a session and not with what was asked."""

_UNHELD: Final = {"on_vanish": "cancel"}
"""Nobody could fetch the rest of it."""


class Opened(Struct, frozen=True):
    """Accepted work. The answer becomes `turn` of `session`; both empty if nothing is kept."""

    stream: AsyncStream
    session: str = ""
    turn: int = 0


class Call(Struct, frozen=True, kw_only=True):
    """A request on its way. `options` are of `AsyncClient.generate`, without its input.

    `registered`: what its model is called at the daemon, as far as that is known.
    """

    http: Request
    model: str
    registered: str
    options: dict[str, Any]


def head_of(call: Call, asked: Asked, *, is_kept: bool = True) -> Head:
    """What stands before the messages of a request."""
    return Head(
        owner=owner_of(call.http),
        model=asked.model,
        tools=asked.tools,
        template_args=call.options.get("template_args") or {},
        is_brief=not is_kept,
        has_ids=asked.has_call_ids,
    )


class Conversations:
    """Starts requests as turns of sessions, and remembers which history each session holds."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._index = PlaceIndex()
        self._searched: dict[str, None] = {}
        self._made: dict[tuple[str, int], str] = {}
        """Requests by the turns they make, so that most need not be asked for."""
        self._habits = Habits()
        self._heads = HeadWatch()

    async def open(self, call: Call, **given: Any) -> Opened:
        """Starts what names its session itself, or has none. Raises the daemon's refusal."""
        stream = await self._accepted(call, given)
        return Opened(stream)

    async def recognise(
        self, call: Call, head: Head, messages: Sequence[Message], *, is_kept: bool = False
    ) -> Opened:
        """Starts a whole history: as the next turn of the session that holds its beginning.

        `is_kept`: its answer has an id by which somebody may go on.
        """
        traced = trace(head, messages)
        product = call.options.get("agent", "").partition("/")[0]
        self._watch_head(product, traced.head, messages)
        kind = traced.kind + product.encode()
        if traced.points:
            self._habits.go_on(kind, product)
        elif not is_kept and not self._habits.begin(kind):
            if self._habits.has_others(product):
                call = _beside(call)
            return await self.open(call, messages=messages)
        found = await self._find(head, traced, len(messages))
        if found is not None:
            place, count = found
            try:
                return await self._go_on(call, place, messages[count:])
            except HotseatError as error:
                if error.code not in _AS_A_WHOLE:
                    raise
        prefix = prefix_of(head.owner, traced.root)
        return await self.begin(call, prefix, messages, is_brief=head.is_brief)

    async def resume(self, call: Call, place: Place, added: Sequence[Message]) -> Opened:
        """Goes on behind a turn. Raises session_missing if it is not there any more."""
        if place.request and self._made.get((place.session, place.turn)) != place.request:
            await self.read(place)
        try:
            return await self._go_on(call, place, added)
        except HotseatError as error:
            if error.code not in _AS_A_WHOLE:
                raise
        held, _ = await self.read(place)
        return await self.begin(
            call, branch_prefix(owner_of(call.http), place.session), (*held, *added)
        )

    async def begin(
        self, call: Call, prefix: str, messages: Sequence[Message], *, is_brief: bool = False
    ) -> Opened:
        """Starts a new session with a whole history; the longest prefix that is stored counts."""
        session = name_of(prefix, secrets.token_hex(_NONCE_BYTES), is_brief=is_brief)
        stream = await self._accepted(
            call, {"messages": messages, "session": session, "expect_turn": 0, **_UNHELD}
        )
        return self._opened(stream, session, 1)

    async def view(self, place: Place) -> SessionView:
        """The session of a place, with its messages and turns. Raises session_missing.

        An id of a response is written before anybody knows what an alias stands for: a name made
        here leads to its session by itself.
        """
        try:
            return await self._client.session(place.model, place.session)
        except HotseatError as error:
            if error.code != "session_missing" or not is_made_here(place.session):
                raise
            views = await self._client.sessions()
            named = [view.model for view in views if view.session == place.session]
            if not named:
                raise
        return await self._client.session(named[0], place.session)

    async def read(self, place: Place) -> tuple[tuple[Message, ...], float]:
        """What a session held after a turn, and when that was. Raises session_missing."""
        view = await self.view(place)
        mark = next((mark for mark in view.turns or () if mark.turn == place.turn), None)
        if mark is None or (place.request and mark.request not in ("", place.request)):
            raise _gone(place)
        return messages_of(view)[: mark.messages], mark.at

    async def counted(self, head: Head, messages: Sequence[Message]) -> dict[str, Any]:
        """Keywords of `AsyncClient.count` for a history: as it would be computed."""
        found = await self._find(head, trace(head, messages), len(messages))
        if found is None:
            return {"messages": messages}
        place, count = found
        return await self.counted_at(place, messages[count:]) or {"messages": messages}

    async def counted_at(self, place: Place, added: Sequence[Message]) -> dict[str, Any] | None:
        """The same for a turn that would be appended; None if it would be a branch."""
        try:
            view = await self.view(place)
        except HotseatError as error:
            if error.code != "session_missing":
                raise
            return None
        if view.turn != place.turn or _begins_with_system(added):
            return None
        return {"session": place.session, "append": added}

    def note(self, head: Head, messages: Sequence[Message], done: Done) -> None:
        """The answer is there: whoever sends the history with it goes on behind it."""
        if done.session is None or done.turn is None or done.finish_reason == "cancelled":
            return
        reply = Message(role="assistant", content=done.text, tool_calls=done.tool_calls)
        point = trace(head, (*messages, reply)).points[-1]
        place = Place(model=done.model, session=done.session, turn=done.turn)
        self._index.put(point.digest, place, time.monotonic())

    def _watch_head(self, product: str, head: bytes, messages: Sequence[Message]) -> None:
        found = self._heads.see(product, head, system_text(messages))
        if found is not None:
            # Where, and not what: texts are in no log.
            _log.warning(
                "prefix.unstable agent=%s position=%d given=%d before=%d: there its system text is "
                "another one with each request, so nothing behind it is read back",
                found.agent,
                found.position,
                found.given,
                found.before,
            )

    async def _find(self, head: Head, traced: Traced, count: int) -> tuple[Place, int] | None:
        found = self._remembered(traced, count)
        if found is not None or not open_points(traced, count) or traced.root in self._searched:
            return found
        self._searched[traced.root] = None
        if len(self._searched) > _ROOTS:
            del self._searched[next(iter(self._searched))]
        try:
            await self._search(head, traced.root)
        except BaseException:
            self._searched.pop(traced.root, None)  # the next one looks again
            raise
        return self._remembered(traced, count)

    def _remembered(self, traced: Traced, count: int) -> tuple[Place, int] | None:
        now = time.monotonic()
        for point in open_points(traced, count):
            place = self._index.get(point.digest, now)
            if place is not None:
                return place, point.count
        return None

    async def _search(self, head: Head, root: str) -> None:
        """Learns from the daemon what a gateway before this one made of the same beginning."""
        views = await self._client.sessions()
        prefix = prefix_of(head.owner, root)
        own = [view for view in views if view.session.startswith(prefix)][:_LOOKED_AT]
        for view in reversed(own):
            try:
                held = await self._client.session(view.model, view.session)
            except HotseatError as error:
                if error.code != "session_missing":
                    raise
                continue
            turns = {mark.messages: mark.turn for mark in held.turns or ()}
            for point in trace(head, messages_of(held)).points:
                if (turn := turns.get(point.count)) is not None:
                    place = Place(model=view.model, session=view.session, turn=turn)
                    self._index.put(point.digest, place, time.monotonic())

    async def _go_on(self, call: Call, place: Place, added: Sequence[Message]) -> Opened:
        try:
            return await self._append(call, place, added)
        except HotseatError as error:
            has_gone_on = int(error.facts.get("turn") or 0) > place.turn
            if error.code != "session_conflict" or not has_gone_on:
                raise
        return await self._append(call, await self._branch(call, place), added)

    async def _append(self, call: Call, place: Place, added: Sequence[Message]) -> Opened:
        given: dict[str, Any] = {"append": added}
        if _begins_with_system(added):
            # At the head of `append` it would be taken for that of the session.
            held, _ = await self.read(place)
            given = {"messages": (*held, *added)}
        stream = await self._accepted(
            call, given | {"session": place.session, "expect_turn": place.turn, **_UNHELD}
        )
        # What comes now has the number of a turn that was rewound meanwhile, and another content.
        self._index.forget_behind(place)
        return self._opened(stream, place.session, place.turn + 1)

    def _opened(self, stream: AsyncStream, session: str, turn: int) -> Opened:
        self._made[session, turn] = stream.request_id
        if len(self._made) > MOST:
            del self._made[next(iter(self._made))]
        return Opened(stream, session, turn)

    async def _branch(self, call: Call, place: Place) -> Place:
        prefix = branch_prefix(owner_of(call.http), place.session)
        nonce = secrets.token_hex(_NONCE_BYTES)
        to = name_of(prefix, nonce, is_brief=is_kept_briefly(place.session))
        model = (await self.view(place)).model
        try:
            await self._client.fork_session(model, place.session, to, place.turn)
        except HotseatError as error:
            if error.code != "invalid_request":
                raise
            raise _gone(place) from error
        return Place(model=model, session=to, turn=place.turn)

    async def _accepted(self, call: Call, given: dict[str, Any]) -> AsyncStream:
        stream = self._client.generate(call.model, **call.options, **given)
        try:
            await unless_gone(call.http, accepted(stream))
        except BaseException:
            await stream.leave()
            raise
        return stream


def _beside(call: Call) -> Call:
    """The same request, which waits until others seat its model unless its agent may more."""
    return msgspec.structs.replace(call, options={"swap": "wait"} | call.options)


def _begins_with_system(messages: Sequence[Message]) -> bool:
    return messages[0].role in SYSTEM_ROLES


def _gone(place: Place) -> HotseatError:
    return HotseatError(
        "session_missing",
        f"session {place.session} is not at turn {place.turn} or cannot go back to it; send the "
        "whole history",
        session=place.session,
        turn=place.turn,
    )


def messages_of(view: SessionView) -> tuple[Message, ...]:
    """Messages of a session that was read by its name."""
    return msgspec.convert(view.messages or (), tuple[Message, ...])
