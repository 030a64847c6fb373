"""What clients ask, brought to the part that answers. Knows kinds, no rules."""

from typing import Any, assert_never

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
from hotseat.supervisor.daemon.life import Life
from hotseat.supervisor.daemon.reload import Reloads
from hotseat.supervisor.desks.counting import Counter
from hotseat.supervisor.desks.models import ModelDesk
from hotseat.supervisor.desks.plain import as_dict
from hotseat.supervisor.desks.quotes import QuoteDesk
from hotseat.supervisor.desks.session_list import SessionList
from hotseat.supervisor.desks.sessions import SessionDesk
from hotseat.supervisor.desks.status import StatusDesk
from hotseat.supervisor.desks.subscriptions import Subscriptions
from hotseat.supervisor.dispatch.asked_swaps import AskedSwaps
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.kv.checking import KvChecks
from hotseat.supervisor.kv.disk_tier import DiskTier
from hotseat.supervisor.loop.rhythm import Rhythm
from hotseat.supervisor.loop.tasks import TaskSet, outcome
from hotseat.supervisor.ports.client_port import ClientPort, Peer
from hotseat.supervisor.requests.accepting import Acceptor
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.works import Works

log = structlog.get_logger()


class Answerers(Struct, frozen=True, kw_only=True):
    """Who answers what."""

    works: Works
    runs: WorkRuns
    outbox: Outbox
    acceptor: Acceptor
    swaps: AskedSwaps
    releases: Releases
    dispatcher: Dispatcher
    status: StatusDesk
    subscriptions: Subscriptions
    models: ModelDesk
    session_list: SessionList
    sessions: SessionDesk
    quotes: QuoteDesk
    counter: Counter
    disk: DiskTier
    kv: KvChecks
    reloads: Reloads


class Router:
    """Routes messages of the request socket."""

    def __init__(self, answerers: Answerers, port: ClientPort, life: Life, rhythm: Rhythm) -> None:
        self._to = answerers
        self._port = port
        self._life = life
        self._rhythm = rhythm
        self._tasks = TaskSet("message.defect", _not_answered)

    def forget(self, peer: Peer) -> None:
        """The peer is gone."""
        self._to.outbox.forget(peer)
        self._to.swaps.forget(peer)
        self._to.subscriptions.forget(peer)

    def route(self, peer: Peer, request_id: RequestId, message: ClientMessage) -> None:
        """Answers at once what can be answered at once; the rest gets a task."""
        self._rhythm.stir()
        match message:
            case Credit():
                if not self._to.outbox.grant(peer, request_id, message.grant_bytes):
                    self._to.subscriptions.grant(peer, request_id, message.grant_bytes)
            case Status():
                self._reply(peer, request_id, self._to.status.status_dict())
            case Events():
                self._to.subscriptions.subscribe(peer, request_id, message)
            case Shutdown():
                self._reply(peer, request_id, {"stopping": True})
                self._life.stop()
            case _:
                self._tasks.spawn(self._answer(peer, request_id, message))

    def close(self) -> None:
        """Nothing is answered any more."""
        self._tasks.cancel()

    async def _answer(self, peer: Peer, request_id: RequestId, message: ClientMessage) -> None:
        """A message that takes longer; its error goes to whoever sent it."""

        async def answer() -> None:
            result = await self._handle(peer, request_id, message)
            if self._life.is_stopping:
                self._life.fail_waiting()  # it was being accepted when the stop began
            if result is not None:
                self._reply(peer, request_id, result)

        error = await outcome(answer(), "message.defect", kind=type(message).__name__)
        if error is not None:
            self._port.refuse(peer, request_id, error)

    async def _handle(  # noqa: C901, PLR0911, PLR0912 - one case a kind
        self, peer: Peer, request_id: RequestId, message: ClientMessage
    ) -> dict[str, Any] | None:
        """The answer, or None when a stream answers."""
        match message:
            case Generate():
                self._life.refuse_when_stopping()
                await self._to.acceptor.generate(peer, request_id, message)
            case Attach():
                await self._to.acceptor.attach(peer, request_id, message)
            case Swap():
                self._life.refuse_when_stopping()
                await self._to.swaps.ask(peer, request_id, message)
            case Cancel():
                return {"cancelled": self._cancel(peer, message)}
            case Models():
                return {"models": [as_dict(view) for view in self._to.models.models()]}
            case Sessions():
                return await self._to.session_list.sessions(message)
            case SessionDelete():
                return {"removed_bytes": await self._to.sessions.delete(message)}
            case SessionFork() | SessionRewind() | SessionReplace() | SessionPin():
                return as_dict(await self._change_session(message))
            case Disk():
                return as_dict(await self._to.disk.view())
            case KvVerify():
                return as_dict(await self._to.kv.verify())
            case KvGc():
                return as_dict(await self._to.kv.collect(dry_run=message.dry_run))
            case Count():
                return as_dict(await self._to.counter.count(message))
            case Plan():
                return await self._to.models.plan(message)
            case Release():
                return as_dict(await self._release(peer, request_id, message))
            case Quote():
                return {"quotes": [as_dict(view) for view in await self._to.quotes.quote(message)]}
            case Reload():
                return as_dict(await self._to.reloads.reload())
            case Why():
                return {
                    "swaps": [as_dict(view) for view in await self._to.quotes.why(message.limit)]
                }
            case _:
                raise HotseatError("unknown_kind", f"{type(message).__name__} is not for daemons")
        return None

    async def _change_session(
        self, message: SessionFork | SessionRewind | SessionReplace | SessionPin
    ) -> SessionChange:
        desk = self._to.sessions
        match message:
            case SessionFork():
                return await desk.fork(message)
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
        answer = self._to.releases.ask(cause, message.for_s, message.model)
        self._to.works.changed.set()
        return await answer

    def _reply(self, peer: Peer, request_id: RequestId, result: dict[str, Any]) -> None:
        self._port.send(peer, request_id, Reply(result=result))

    def _cancel(self, peer: Peer, message: Cancel) -> bool:
        """A request, a swap that can still be taken back, or an event subscription."""
        target = RequestId(message.request_id)
        key = request_key(peer.token, target)
        work = self._to.works.get(key)
        if work is not None:
            return self._to.runs.cancel(work)
        if self._to.subscriptions.unsubscribe(peer, target):
            return True
        swap = self._to.swaps.get(key)
        if swap is None:
            raise HotseatError(
                "request_unknown",
                f"no request {target} of this client is under way; `hotseat queue` lists all",
            )
        return self._to.dispatcher.cancel_swap(swap)


def _not_answered(error: HotseatError) -> None:
    log.error("message.not_answered", reason=error.message)
