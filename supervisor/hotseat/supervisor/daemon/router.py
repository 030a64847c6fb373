"""What clients ask, brought to the part that answers. Knows kinds, no rules."""

from collections.abc import Callable, Coroutine
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
from hotseat.supervisor.daemon.reload import Reloads
from hotseat.supervisor.desks.counting import Counter
from hotseat.supervisor.desks.quotes import QuoteDesk
from hotseat.supervisor.desks.sessions import SessionDesk
from hotseat.supervisor.desks.state import StateDesk, as_dict
from hotseat.supervisor.dispatch.asked_swaps import AskedSwaps
from hotseat.supervisor.dispatch.dispatcher import Dispatcher
from hotseat.supervisor.kv.checking import KvChecks
from hotseat.supervisor.kv.disk_tier import DiskTier
from hotseat.supervisor.loop.rhythm import Rhythm
from hotseat.supervisor.ports.client_port import ClientPort, Peer
from hotseat.supervisor.requests.accepting import Acceptor
from hotseat.supervisor.requests.outbox import Outbox
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.seat.rules import states as t
from hotseat.supervisor.seat.runner import SeatRunner

log = structlog.get_logger()


class Answerers(Struct, frozen=True, kw_only=True):
    """Who answers what."""

    works: Works
    runs: WorkRuns
    outbox: Outbox
    state: StateDesk
    sessions: SessionDesk
    desk: Acceptor
    swaps: AskedSwaps
    quotes: QuoteDesk
    counter: Counter
    runner: SeatRunner
    dispatcher: Dispatcher
    disk: DiskTier
    kv: KvChecks
    reloads: Reloads
    rhythm: Rhythm


class Router:
    """Routes messages of the request socket."""

    def __init__(
        self,
        parts: Answerers,
        *,
        port: Callable[[], ClientPort],
        spawn: Callable[[Coroutine[Any, Any, Any]], None],
        stop: Callable[[], None],
        is_stopping: Callable[[], bool],
        fail_waiting: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._port = port
        self._spawn = spawn
        self._stop = stop
        self._is_stopping = is_stopping
        self._fail_waiting = fail_waiting

    def route(self, peer: Peer, request_id: RequestId, message: ClientMessage) -> None:
        """Answers at once what can be answered at once; the rest gets a task."""
        self._parts.rhythm.stir()
        match message:
            case Credit():
                if not self._parts.outbox.grant(peer, request_id, message.grant_bytes):
                    self._parts.state.grant(peer, request_id, message.grant_bytes)
            case Status():
                self._reply(peer, request_id, self._parts.state.status_dict())
            case Events():
                self._parts.state.subscribe(peer, request_id, message)
            case Shutdown():
                self._reply(peer, request_id, {"stopping": True})
                self._stop()
            case _:
                self._spawn(self._answer(peer, request_id, message))

    async def _answer(self, peer: Peer, request_id: RequestId, message: ClientMessage) -> None:
        """A message that takes longer; its error goes to whoever sent it."""
        try:
            result = await self._handle(peer, request_id, message)
            if self._is_stopping():
                self._fail_waiting()  # it was being accepted when the stop began
            if result is not None:
                self._reply(peer, request_id, result)
        except HotseatError as error:
            self._port().refuse(peer, request_id, error)
        except Exception as error:  # task root
            log.exception("message.defect", kind=type(message).__name__)
            text = f"defect in hotseat ({type(error).__name__}); see the log"
            self._port().refuse(peer, request_id, HotseatError("internal", text))

    async def _handle(  # noqa: C901, PLR0911, PLR0912 - one case a kind
        self, peer: Peer, request_id: RequestId, message: ClientMessage
    ) -> dict[str, Any] | None:
        """The answer, or None when a stream answers."""
        match message:
            case Generate():
                self._refuse_when_stopping()
                await self._parts.desk.generate(peer, request_id, message)
            case Attach():
                await self._parts.desk.attach(peer, request_id, message)
            case Swap():
                self._refuse_when_stopping()
                await self._parts.swaps.ask(peer, request_id, message)
            case Cancel():
                return {"cancelled": self._cancel(peer, message)}
            case Models():
                return {"models": [as_dict(view) for view in self._parts.state.models()]}
            case Sessions():
                return await self._parts.state.sessions(message)
            case SessionDelete():
                return {"removed_bytes": await self._parts.sessions.delete(message)}
            case SessionFork() | SessionRewind() | SessionReplace() | SessionPin():
                return as_dict(await self._change_session(message))
            case Disk():
                return as_dict(await self._parts.disk.view())
            case KvVerify():
                return as_dict(await self._parts.kv.verify())
            case KvGc():
                return as_dict(await self._parts.kv.collect(dry_run=message.dry_run))
            case Count():
                return as_dict(await self._parts.counter.count(message))
            case Plan():
                return await self._parts.state.plan(message)
            case Release():
                return as_dict(await self._release(peer, request_id, message))
            case Quote():
                return {
                    "quotes": [as_dict(view) for view in await self._parts.quotes.quote(message)]
                }
            case Reload():
                return as_dict(await self._parts.reloads.reload())
            case Why():
                return {
                    "swaps": [as_dict(view) for view in await self._parts.quotes.why(message.limit)]
                }
            case _:
                raise HotseatError("unknown_kind", f"{type(message).__name__} is not for daemons")
        return None

    async def _change_session(
        self, message: SessionFork | SessionRewind | SessionReplace | SessionPin
    ) -> SessionChange:
        desk = self._parts.sessions
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
        self._refuse_when_stopping()
        cause = Cause(client=peer.name, request_id=request_id, model_asked="")
        answer = self._parts.dispatcher.releases.ask(cause, message.for_s, message.model)
        self._parts.dispatcher.kick()
        return await answer

    def _reply(self, peer: Peer, request_id: RequestId, result: dict[str, Any]) -> None:
        self._port().send(peer, request_id, Reply(result=result))

    def _refuse_when_stopping(self) -> None:
        if self._is_stopping():
            raise shutting_down()

    def _cancel(self, peer: Peer, message: Cancel) -> bool:
        """A request, a swap that can still be taken back, or an event subscription."""
        target = RequestId(message.request_id)
        key = request_key(peer.token, target)
        work = self._parts.works.get(key)
        if work is not None:
            return self._parts.runs.cancel(work)
        if self._parts.state.unsubscribe(peer, target):
            return True
        swap = self._parts.swaps.get(key)
        if swap is None:
            raise HotseatError(
                "request_unknown",
                f"no request {target} of this client is under way; `hotseat queue` lists all",
            )
        if swap.end is not None:
            return False
        plan = self._parts.runner.state.plan
        if plan is not None and plan.swap == swap.number:
            self._parts.runner.feed(t.SwapCancelled(swap=swap.number))
            now_plan = self._parts.runner.state.plan
            return now_plan is None or now_plan.swap != swap.number
        error = HotseatError("interrupted", "the swap was cancelled before it began")
        self._spawn(self._parts.swaps.end(swap, error))
        return True


def shutting_down() -> HotseatError:
    """What is answered while the daemon stops."""
    return HotseatError("shutting_down", "the daemon is stopping; ask again when it is back")
