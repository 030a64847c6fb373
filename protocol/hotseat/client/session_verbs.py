"""What both clients can do with sessions and prompts beside generating; one method per kind.

Must not know sockets or threads: `_call` (asyncio) and `_run` (threads) bring messages there.
"""

from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import msgspec

from hotseat.client.requests import MessageLike, as_message
from hotseat.client.results import SessionsResult, typed
from hotseat.protocol.messages import (
    ClientMessage,
    Count,
    Message,
    SessionDelete,
    SessionFork,
    SessionPin,
    SessionReplace,
    SessionRewind,
    Sessions,
    Tool,
)
from hotseat.protocol.replies import Reply
from hotseat.protocol.views import CountView, SessionChange, SessionView

T = TypeVar("T")


class _Removed(msgspec.Struct, frozen=True):
    removed_bytes: int


class AsyncSessionVerbs(ABC):
    """Session methods of `AsyncClient`."""

    @abstractmethod
    async def _call(self, message: ClientMessage) -> Reply:
        """The answer of the daemon; the client has it."""

    async def sessions(self, model: str | None = None) -> list[SessionView]:
        """Sessions, of one model or of all."""
        return list(typed(await self._call(Sessions(model=model)), SessionsResult).sessions)

    async def session(self, model: str, name: str) -> SessionView:
        """One session with its messages and the turns it can go back to."""
        return typed(await self._call(Sessions(model=model, session=name)), SessionView)

    async def delete_session(self, model: str, name: str) -> int:
        """Removes a session and what only it used; returns the bytes freed on disk."""
        reply = await self._call(SessionDelete(model=model, session=name))
        return typed(reply, _Removed).removed_bytes

    async def fork_session(
        self, model: str, name: str, to: str, at_turn: int | None = None
    ) -> SessionChange:
        """Makes session `to` of what `name` was after a turn, its last one if none is given."""
        fork = SessionFork(model=model, session=name, to=to, at_turn=at_turn)
        return typed(await self._call(fork), SessionChange)

    async def rewind_session(self, model: str, name: str, turn: int) -> SessionChange:
        """Cuts a session back to what it was after `turn`."""
        rewind = SessionRewind(model=model, session=name, turn=turn)
        return typed(await self._call(rewind), SessionChange)

    async def replace_session(
        self,
        model: str,
        name: str,
        history: Sequence[MessageLike] | str,
        expect_turn: int | None = None,
    ) -> SessionChange:
        """Puts another history in place: messages, or text for a model without a template."""
        text = history if isinstance(history, str) else None
        replace = SessionReplace(
            model=model,
            session=name,
            messages=None if isinstance(history, str) else _messages(history),
            text=text,
            expect_turn=expect_turn,
        )
        return typed(await self._call(replace), SessionChange)

    async def pin_session(self, model: str, name: str, *, pinned: bool = True) -> SessionChange:
        """Keeps a session's files from eviction, or ends that."""
        pin = SessionPin(model=model, session=name, pinned=pinned)
        return typed(await self._call(pin), SessionChange)

    async def count(
        self,
        model: str,
        *,
        messages: Sequence[MessageLike] | None = None,
        prompt: str | None = None,
        tokens: Sequence[int] | None = None,
        session: str | None = None,
        append: Sequence[MessageLike] | str | None = None,
        tools: Sequence[Tool] | None = None,
        render: bool = False,
    ) -> CountView:
        """How many tokens a request would have, and how many of them are stored."""
        given = append if append is None or isinstance(append, str) else _messages(append)
        count = Count(
            model=model,
            messages=None if messages is None else _messages(messages),
            prompt=prompt,
            tokens=None if tokens is None else tuple(tokens),
            session=session,
            append=given,
            tools=None if tools is None else tuple(tools),
            render=render,
        )
        return typed(await self._call(count), CountView)


class SyncSessionVerbs(ABC):
    """Session methods of `Client`: those of `AsyncSessionVerbs`, waited for."""

    _verbs: AsyncSessionVerbs

    @abstractmethod
    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` comes to; the client has it."""

    def sessions(self, model: str | None = None) -> list[SessionView]:
        """Sessions, of one model or of all."""
        return self._wait(self._verbs.sessions(model))

    def session(self, model: str, name: str) -> SessionView:
        """One session with its messages and the turns it can go back to."""
        return self._wait(self._verbs.session(model, name))

    def delete_session(self, model: str, name: str) -> int:
        """Removes a session and what only it used; returns the bytes freed on disk."""
        return self._wait(self._verbs.delete_session(model, name))

    def fork_session(
        self, model: str, name: str, to: str, at_turn: int | None = None
    ) -> SessionChange:
        """Makes session `to` of what `name` was after a turn, its last one if none is given."""
        return self._wait(self._verbs.fork_session(model, name, to, at_turn))

    def rewind_session(self, model: str, name: str, turn: int) -> SessionChange:
        """Cuts a session back to what it was after `turn`."""
        return self._wait(self._verbs.rewind_session(model, name, turn))

    def replace_session(
        self,
        model: str,
        name: str,
        history: Sequence[MessageLike] | str,
        expect_turn: int | None = None,
    ) -> SessionChange:
        """Puts another history in place: messages, or text for a model without a template."""
        return self._wait(self._verbs.replace_session(model, name, history, expect_turn))

    def pin_session(self, model: str, name: str, *, pinned: bool = True) -> SessionChange:
        """Keeps a session's files from eviction, or ends that."""
        return self._wait(self._verbs.pin_session(model, name, pinned=pinned))

    def count(
        self,
        model: str,
        *,
        messages: Sequence[MessageLike] | None = None,
        prompt: str | None = None,
        tokens: Sequence[int] | None = None,
        session: str | None = None,
        append: Sequence[MessageLike] | str | None = None,
        tools: Sequence[Tool] | None = None,
        render: bool = False,
    ) -> CountView:
        """How many tokens a request would have, and how many of them are stored."""
        return self._wait(
            self._verbs.count(
                model,
                messages=messages,
                prompt=prompt,
                tokens=tokens,
                session=session,
                append=append,
                tools=tools,
                render=render,
            )
        )


def _messages(given: Sequence[MessageLike]) -> tuple[Message, ...]:
    return tuple(as_message(entry) for entry in given)
