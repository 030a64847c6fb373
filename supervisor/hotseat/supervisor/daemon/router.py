"""What clients ask, brought to the part that answers. Knows kinds, no rules."""

from typing import Any, assert_never

import msgspec
import structlog
from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestId, request_key
from hotseat.protocol.messages import (
    Attach,
    Cancel,
    ClientMessage,
    Count,
    Credit,
    Disk,
    Events,
    Generate,
    KvGc,
    KvVerify,
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
    Swap,
    Why,
)
from hotseat.protocol.replies import Cause, Reply
from hotseat.protocol.views import ReleaseView, SessionChange
from hotseat.supervisor.daemon.assembly.desks import Desks
from hotseat.supervisor.daemon.assembly.dispatch import Dispatch
from hotseat.supervisor.daemon.assembly.requests import Requests
from hotseat.supervisor.kv.disk_tier import DiskTier
from hotseat.supervisor.loop.tasks import TaskSet, outcome
from hotseat.supervisor.ports.client_port import ClientPort, Peer

Answer = Struct | dict[str, Any]
log = structlog.get_logger()


class Router:
    """Routes messages of the request socket."""

    def __init__(
        self, port: ClientPort, requests: Requests, dispatch: Dispatch, disk: DiskTier, desks: Desks
    ) -> None:
        self._port = port
        self._requests = requests
        self._dispatch = dispatch
        self._disk = disk
        self._desks = desks
        self._life = dispatch.life
        self._tasks = TaskSet("message.defect", _not_answered)

    def forget(self, peer: Peer) -> None:
        """The peer is gone."""
        self._requests.outbox.forget(peer)
        self._dispatch.swaps.forget(peer)
        self._desks.subscriptions.forget(peer)

    def route(
        self, peer: Peer, request_id: RequestId, message: ClientMessage, ignored: tuple[str, ...]
    ) -> None:
        """Answers at once what can be answered at once; the rest gets a task."""
        self._dispatch.rhythm.stir()
        match message:
            case Credit():
                if not self._requests.outbox.grant(peer, request_id, message.grant_bytes):
                    self._desks.subscriptions.grant(peer, request_id, message.grant_bytes)
            case Status():
                self._reply(peer, request_id, self._desks.status.status())
            case Events():
                self._desks.subscriptions.subscribe(peer, request_id, message)
            case Shutdown():
                self._reply(peer, request_id, {"stopping": True})
                self._life.stop()
            case _:
                self._tasks.spawn(self._answer(peer, request_id, message, ignored))

    def close(self) -> None:
        """Nothing is answered any more."""
        self._tasks.cancel()

    async def _answer(
        self, peer: Peer, request_id: RequestId, message: ClientMessage, ignored: tuple[str, ...]
    ) -> None:
        """A message that takes longer; its error goes to whoever sent it."""

        async def answer() -> None:
            result = await self._handle(peer, request_id, message, ignored)
            if self._life.is_stopping:
                self._life.refuse_waiting()  # it was being accepted when the stop began
            if result is not None:
                self._reply(peer, request_id, result)

        error = await outcome(answer(), "message.defect", kind=type(message).__name__)
        if error is not None:
            explained = await self._dispatch.admission.explained(error)
            self._port.refuse(peer, request_id, explained)

    async def _handle(  # noqa: C901, PLR0911, PLR0912 - one case a kind
        self, peer: Peer, request_id: RequestId, message: ClientMessage, ignored: tuple[str, ...]
    ) -> Answer | None:
        """The answer, or None when a stream answers."""
        match message:
            case Generate():
                self._life.refuse_when_stopping()
                await self._dispatch.acceptor.generate(peer, request_id, message, ignored)
            case Attach():
                await self._dispatch.acceptor.attach(peer, request_id, message)
            case Swap():
                self._life.refuse_when_stopping()
                await self._dispatch.swaps.ask(peer, request_id, message)
            case Cancel():
                return {"cancelled": self._cancel(peer, message)}
            case Models():
                return {"models": self._desks.models.models()}
            case Sessions():
                return await self._desks.session_list.sessions(message)
            case SessionDelete():
                return {"removed_bytes": await self._desks.sessions.delete(message)}
            case SessionFork() | SessionCopy() | SessionRewind() | SessionReplace() | SessionPin():
                return await self._change_session(message)
            case Disk():
                return await self._disk.view()
            case KvVerify():
                return await self._desks.kv.verify()
            case KvGc():
                return await self._desks.kv.collect(dry_run=message.dry_run)
            case Count():
                return await self._desks.counter.count(message)
            case Plan():
                return await self._desks.models.plan(message)
            case Release():
                return await self._release(peer, request_id, message)
            case Quote():
                return {"quotes": await self._desks.quotes.quote(message)}
            case Reload():
                return await self._desks.reloads.reload()
            case Why():
                return {"swaps": await self._desks.quotes.why(message.limit)}
            case _:
                raise HotseatError("unknown_kind", f"{type(message).__name__} is not for daemons")
        return None

    async def _change_session(
        self, message: SessionFork | SessionCopy | SessionRewind | SessionReplace | SessionPin
    ) -> SessionChange:
        desk = self._desks.sessions
        match message:
            case SessionFork():
                return await desk.fork(message)
            case SessionCopy():
                return await desk.copy(message)
            case SessionRewind():
                return await desk.rewind(message)
            case SessionReplace():
                return await desk.replace(message)
            case SessionPin():
                return await desk.pin(message)
            case _:
                assert_never(message)

    async def _release(self, peer: Peer, request_id: RequestId, message: Release) -> ReleaseView:
        self._life.refuse_when_stopping()
        cause = Cause(client=peer.name, request_id=request_id, model_asked="")
        answer = self._dispatch.releases.ask(cause, message.for_s, message.model)
        self._requests.works.changed.set()
        return await answer

    def _reply(self, peer: Peer, request_id: RequestId, result: Answer) -> None:
        plain = msgspec.to_builtins(result, str_keys=True)  # what JSON can hold
        self._port.send(peer, request_id, Reply(result=plain))

    def _cancel(self, peer: Peer, message: Cancel) -> bool:
        """A request, a swap that can still be taken back, or an event subscription."""
        target = RequestId(message.request_id)
        key = request_key(peer.token, target)
        work = self._requests.works.get(key)
        if work is not None:
            return self._requests.runs.cancel(work)
        if self._desks.subscriptions.unsubscribe(peer, target):
            return True
        swap = self._dispatch.swaps.get(key)
        if swap is None:
            raise HotseatError(
                "request_unknown",
                f"no request {target} of this client is under way; `hotseat queue` lists all",
            )
        return self._dispatch.dispatcher.cancel_swap(swap)


def _not_answered(error: HotseatError) -> None:
    log.error("message.not_answered", reason=error.message)
