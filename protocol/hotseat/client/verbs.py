"""What a client can ask that has one reply: a method a message, written once for every client.

Must not know sockets, threads or event loops: `_call` brings a message there.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from hotseat.client.requests import MessageLike, as_message
from hotseat.protocol.disk_views import DiskView, GcView, VerifyView
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import (
    Cancel,
    ClientMessage,
    Count,
    Disk,
    KvGc,
    KvVerify,
    Message,
    Models,
    Plan,
    Quote,
    Release,
    Reload,
    SessionCopy,
    SessionDelete,
    SessionFork,
    SessionPin,
    SessionReplace,
    SessionRewind,
    Sessions,
    Shutdown,
    Status,
    Tool,
    Why,
)
from hotseat.protocol.replies import Reply
from hotseat.protocol.views import (
    CountView,
    ModelView,
    PlanView,
    QuoteView,
    ReleaseView,
    ReloadView,
    SessionChange,
    SessionView,
    StatusView,
    WhyView,
)

T = TypeVar("T")
CALL_S: Final = 30.0
"""A daemon that answers pings but not this is stuck; reads take it milliseconds."""


class _ModelsResult(msgspec.Struct, frozen=True):
    models: tuple[ModelView, ...]


class _SessionsResult(msgspec.Struct, frozen=True):
    sessions: tuple[SessionView, ...]


class _Quotes(msgspec.Struct, frozen=True):
    quotes: tuple[QuoteView, ...]


class _Swaps(msgspec.Struct, frozen=True):
    swaps: tuple[WhyView, ...]


class _Cancelled(msgspec.Struct, frozen=True):
    cancelled: bool


class _Removed(msgspec.Struct, frozen=True):
    removed_bytes: int


class Verbs(ABC):
    """The methods of `AsyncClient` with one reply; `Client` and `BriefClient` wait for them."""

    @abstractmethod
    async def _call(self, message: ClientMessage, *, is_long: bool = False) -> Reply:
        """The answer of the daemon; one that `is_long` may take minutes."""

    async def status(self) -> StatusView:
        """State of seat, worker, queue and memory."""
        return _typed(await self._call(Status()), StatusView)

    async def models(self) -> list[ModelView]:
        """Registered models."""
        return list(_typed(await self._call(Models()), _ModelsResult).models)

    async def plan(
        self, model: str, ram_bytes: int | None = None, working_set_bytes: int | None = None
    ) -> PlanView:
        """Memory plan of a model, here or on a machine with so much memory; nothing is loaded."""
        plan = Plan(model=model, ram_bytes=ram_bytes, working_set_bytes=working_set_bytes)
        return _typed(await self._call(plan), PlanView)

    async def quote(
        self,
        models: Sequence[str],
        session: str | None = None,
        messages: Sequence[MessageLike] | None = None,
    ) -> list[QuoteView]:
        """What a request of each model would cost now, for a session or for messages."""
        given = None if messages is None else _messages(messages)
        quote = Quote(models=tuple(models), session=session, messages=given)
        return list(_typed(await self._call(quote), _Quotes).quotes)

    async def why(self, limit: int = 10) -> list[WhyView]:
        """The last swaps with who caused them, newest first."""
        return list(_typed(await self._call(Why(limit=limit)), _Swaps).swaps)

    async def reload(self) -> ReloadView:
        """Has the daemon read its settings again; a wrong file changes nothing."""
        return _typed(await self._call(Reload()), ReloadView)

    async def release(self, for_s: float | None = None, model: str | None = None) -> ReleaseView:
        """Has the seat given up; contexts are kept. Takes as long as running requests may.

        With `for_s`, requests do not seat a model for so many seconds; `swap` does. With `model`,
        only if that model holds the seat when its turn comes: `not_seated` otherwise.
        """
        opening = Release(for_s=for_s, model=model)
        return _typed(await self._call(opening, is_long=True), ReleaseView)

    async def cancel(self, request_id: str) -> bool:
        """Ends work of this token; False when there was nothing left to end."""
        reply = await self._call(Cancel(request_id=request_id))
        return _typed(reply, _Cancelled).cancelled

    async def shutdown(self) -> None:
        """Asks the daemon to stop; returns when it said yes or is gone."""
        await self._call(Shutdown())

    async def sessions(self, model: str | None = None) -> list[SessionView]:
        """Sessions, of one model or of all."""
        return list(_typed(await self._call(Sessions(model=model)), _SessionsResult).sessions)

    async def session(self, model: str, name: str) -> SessionView:
        """One session with its messages and the turns it can go back to."""
        return _typed(await self._call(Sessions(model=model, session=name)), SessionView)

    async def delete_session(self, model: str, name: str) -> int:
        """Removes a session and what only it used; returns the bytes freed on disk."""
        reply = await self._call(SessionDelete(model=model, session=name))
        return _typed(reply, _Removed).removed_bytes

    async def fork_session(
        self, model: str, name: str, to: str, at_turn: int | None = None
    ) -> SessionChange:
        """Makes session `to` of what `name` was after a turn, its last one if none is given."""
        fork = SessionFork(model=model, session=name, to=to, at_turn=at_turn)
        return _typed(await self._call(fork), SessionChange)

    async def copy_session(self, model: str, name: str, to_model: str, to: str) -> SessionChange:
        """Makes a session of another model with the conversation of this one."""
        copy = SessionCopy(model=model, session=name, to_model=to_model, to=to)
        return _typed(await self._call(copy), SessionChange)

    async def rewind_session(self, model: str, name: str, turn: int) -> SessionChange:
        """Cuts a session back to what it was after `turn`."""
        rewind = SessionRewind(model=model, session=name, turn=turn)
        return _typed(await self._call(rewind), SessionChange)

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
        return _typed(await self._call(replace), SessionChange)

    async def pin_session(self, model: str, name: str, *, pinned: bool = True) -> SessionChange:
        """Keeps a session's files from eviction, or ends that."""
        pin = SessionPin(model=model, session=name, pinned=pinned)
        return _typed(await self._call(pin), SessionChange)

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
        template_args: Mapping[str, Any] | None = None,
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
            template_args=None if template_args is None else dict(template_args),
            render=render,
        )
        return _typed(await self._call(count), CountView)

    async def disk(self) -> DiskView:
        """How much KV is on disk, whose it is and within which limits."""
        return _typed(await self._call(Disk()), DiskView)

    async def verify_kv(self) -> VerifyView:
        """Has every KV file read and checked; takes as long as reading them takes."""
        return _typed(await self._call(KvVerify(), is_long=True), VerifyView)

    async def collect_kv(self, *, dry_run: bool = False) -> GcView:
        """Removes KV that no session needs or no model can use; or lists it."""
        return _typed(await self._call(KvGc(dry_run=dry_run), is_long=True), GcView)


def _messages(given: Sequence[MessageLike]) -> tuple[Message, ...]:
    return tuple(as_message(entry) for entry in given)


def _typed(reply: Reply, kind: Callable[..., T]) -> T:
    """The result as its view; a field of the wrong type is a difference of versions."""
    result: Any = reply.result
    try:
        converted: T = msgspec.convert(result, kind)
    except msgspec.ValidationError as error:
        raise HotseatError(
            "bad_frame",
            f"daemon's answer is not a {kind.__name__.lstrip('_')}: {error}; client and daemon "
            "are of different versions",
        ) from error
    return converted
