"""Swaps that clients asked for: accepted once, answered once, with progress in between.

Also tells every waiting reader which phase the seat is in. Does not decide when a swap begins:
that is the dispatcher's.
"""

import time
from itertools import pairwise
from typing import Any, Final, Literal

import msgspec
import structlog

from hotseat.protocol import failpoints
from hotseat.protocol.codec import pack_body
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, RequestId, RequestKey, request_key
from hotseat.protocol.limits import PROGRESS_S
from hotseat.protocol.messages import Swap
from hotseat.protocol.replies import (
    Cause,
    ErrorBody,
    Progress,
    SwapMemory,
    SwapPhases,
    SwapReport,
)
from hotseat.supervisor.catalogue.requests import body_digest
from hotseat.supervisor.catalogue.rows import AcceptRecord, RequestRow
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.dispatch.admission import Admission
from hotseat.supervisor.loop.tasks import TaskSet
from hotseat.supervisor.ports.client_port import ClientPort, Peer, error_body
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.scheduling.scheduler import WantedSwap
from hotseat.supervisor.seat.rules.states import Mark, Phase

KEPT_RESULTS: Final = 256
log = structlog.get_logger()
SwapMode = Literal["auto", "process", "in-process"]


class AskedSwap:
    """A swap with everybody who waits for its end."""

    def __init__(
        self, number: int, key: RequestKey, message: Swap, model: str, cause: Cause
    ) -> None:
        self.number = number
        self.key = key
        self.message = message
        self.model = model
        self.cause = cause
        self.listeners: list[tuple[Peer, RequestId]] = []
        self.accepted = False
        self.end: SwapReport | ErrorBody | None = None
        self.is_told = False
        """True when the end is durable and listeners have it."""


class AskedSwaps:
    """Table of asked-for swaps. The dispatcher looks again when one was accepted or has ended."""

    def __init__(
        self, catalogue: Catalogue, port: ClientPort, admission: Admission, works: Works
    ) -> None:
        self._catalogue = catalogue
        self._port = port
        self._admission = admission
        self._works = works
        self._tasks = TaskSet("swap.defect", _not_stored)
        self._swaps: dict[RequestKey, AskedSwap] = {}
        self._numbers = 0
        self._note: Progress | None = None
        self._said_at = 0.0

    @property
    def wanted(self) -> list[WantedSwap]:
        """Accepted swaps that have not ended, in the order they were asked for."""
        return [
            WantedSwap(swap=swap.number, model=swap.model)
            for swap in self._swaps.values()
            if swap.end is None and swap.accepted
        ]

    def next_number(self) -> int:
        """A number no other swap of this daemon has."""
        self._numbers += 1
        return self._numbers

    def get(self, key: RequestKey) -> AskedSwap | None:
        """The swap a request id stands for, ended ones included while they are kept."""
        return self._swaps.get(key)

    def by_number(self, number: int) -> AskedSwap | None:
        """The asked-for swap of that number; None for swaps that requests caused."""
        return next((s for s in self._swaps.values() if s.number == number), None)

    async def ask(self, peer: Peer, request_id: RequestId, message: Swap) -> None:
        """Accepts a swap, or joins the one this id stands for. Raises `HotseatError`."""
        key = request_key(peer.token, request_id)
        known = self._swaps.get(key)
        if known is not None:
            self._join(known, peer, request_id, message)
            return
        stored = await self._catalogue.request(key)
        if stored is not None and stored.body_digest != body_digest(pack_body(message)):
            raise _conflict(request_id)
        if stored is not None and stored.state != "accepted":
            self._port.send(peer, request_id, _stored_end(stored))
            return
        model = (await self._admission.swap(message)).name
        known = self._swaps.get(key)  # a copy of the request may have arrived meanwhile
        if known is not None:
            self._join(known, peer, request_id, message)
            return
        cause = Cause(
            client=peer.name,
            request_id=request_id,
            model_asked=message.model,
            agent=message.agent,
        )
        swap = self._swaps[key] = AskedSwap(self.next_number(), key, message, model, cause)
        swap.listeners.append((peer, request_id))
        try:
            await self._accept(swap, peer, request_id)
        except HotseatError:
            del self._swaps[key]
            raise
        swap.accepted = True
        if failpoints.ARMED:
            failpoints.reach("swap.accepted")
        self._tell(swap, Progress(phase="queued", model=model, position=len(self.wanted) - 1))
        self._works.changed.set()

    async def _accept(self, swap: AskedSwap, peer: Peer, request_id: RequestId) -> None:
        accepted = await self._catalogue.accept(
            AcceptRecord(
                key=swap.key,
                token=peer.token,
                request_id=request_id,
                kind="swap",
                body=pack_body(swap.message),
                model=ModelName(swap.model),
                created_at=time.time(),
            )
        )
        if not accepted.same_body:
            raise _conflict(request_id)

    def _join(self, swap: AskedSwap, peer: Peer, request_id: RequestId, message: Swap) -> None:
        if swap.message != message:
            raise _conflict(request_id)
        if swap.end is not None and swap.is_told:
            self._port.send(peer, request_id, swap.end)
            return
        swap.listeners.append((peer, request_id))
        self._port.send(peer, request_id, Progress(phase="queued", model=swap.model))

    def tick(self, now: float) -> None:
        """Repeats the last note when nothing was said for a while: the stream is alive."""
        if now - self._said_at >= PROGRESS_S / 2 and self._note is not None:
            self.progress(self._note)

    def progress(self, report: Progress) -> None:
        """Tells everybody who waits for a swap what the seat does."""
        self._note, self._said_at = report, time.monotonic()
        for swap in self._swaps.values():
            if swap.end is None and swap.accepted:
                self._tell(swap, report)

    def end(self, swap: AskedSwap, result: SwapReport | HotseatError) -> None:
        """Ends a swap at once; its answer is stored, then sent, and `settle` waits for that.

        A second end changes nothing. Nobody may see an ended swap as wanted: it would begin again.
        """
        if swap.end is None:
            end = swap.end = error_body(result) if isinstance(result, HotseatError) else result
            self._tasks.spawn(self._tell_end(swap, end))

    async def _tell_end(self, swap: AskedSwap, end: SwapReport | ErrorBody) -> None:
        kind: Literal["done", "error"] = "error" if isinstance(end, ErrorBody) else "done"
        try:
            reply = msgspec.msgpack.encode(end)
            await self._catalogue.finish(swap.key, kind, reply, time.time())
            if failpoints.ARMED:
                failpoints.reach("swap.stored")
        finally:
            self._tell(swap, end)
            swap.is_told = True
            swap.listeners.clear()
            self._works.changed.set()
        for key in list(self._swaps)[:-KEPT_RESULTS]:
            if self._swaps[key].end is not None:
                del self._swaps[key]

    async def end_all(self, error: HotseatError) -> None:
        """The daemon stops: nobody waits for nothing. Returns when everybody was told."""
        for swap in tuple(self._swaps.values()):
            if swap.accepted:
                self.end(swap, error)
        await self.settle()

    async def settle(self) -> None:
        """Returns when everybody who asked for a swap that ended has been told."""
        await self._tasks.settle()

    def forget(self, peer: Peer) -> None:
        """The peer is gone; the swap goes on."""
        for swap in self._swaps.values():
            swap.listeners = [entry for entry in swap.listeners if entry[0] is not peer]

    def _tell(self, swap: AskedSwap, message: Progress | SwapReport | ErrorBody) -> None:
        for peer, request_id in tuple(swap.listeners):
            self._port.send(peer, request_id, message)


def _not_stored(error: HotseatError) -> None:
    log.warning("swap.end_not_stored", reason=error.message)


def _conflict(request_id: str) -> HotseatError:
    return HotseatError(
        "request_conflict",
        f"request id {request_id} was used for something else; choose a new id",
        request_id=request_id,
    )


def _stored_end(row: RequestRow) -> SwapReport | ErrorBody:
    if row.state == "done":
        return msgspec.msgpack.decode(row.reply, type=SwapReport)
    return msgspec.msgpack.decode(row.reply, type=ErrorBody)


def phase_seconds(marks: tuple[Mark, ...]) -> SwapPhases:
    """How long each phase lasted, from the times they were entered. Starting counts as loading."""
    spent: dict[Phase, float] = {}
    for mark, following in pairwise(marks):
        spent[mark.phase] = spent.get(mark.phase, 0.0) + following.at - mark.at
    return SwapPhases(
        drain_s=spent.get(Phase.DRAINING, 0.0),
        checkpoint_s=spent.get(Phase.CHECKPOINTING, 0.0),
        stop_s=spent.get(Phase.STOPPING, 0.0),
        reclaim_s=spent.get(Phase.RECLAIMING, 0.0),
        load_s=spent.get(Phase.STARTING, 0.0) + spent.get(Phase.LOADING, 0.0),
        warm_s=spent.get(Phase.WARMING, 0.0),
    )


def no_swap(model: str, cause: Cause) -> SwapReport:
    """The report when the model holds the seat already."""
    return SwapReport(
        from_=model,
        to=model,
        mode="none",
        cause=cause,
        phases=SwapPhases(),
        total_s=0.0,
        memory=SwapMemory(),
        sessions_checkpointed=0,
        bytes_written=0,
    )


def as_facts(report: SwapReport) -> dict[str, Any]:
    """The report as facts of an event."""
    facts: dict[str, Any] = msgspec.to_builtins(report, str_keys=True)
    return facts
