"""Output of works on its way to their readers: credit, progress notes, ends. Starts no work."""

import asyncio
import time
from typing import Final

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestId, RequestKey
from hotseat.protocol.limits import DEFAULT_CREDIT_BYTES, PROGRESS_S
from hotseat.protocol.replies import Accepted, DaemonMessage, Done, ErrorBody, Progress
from hotseat.supervisor.ports.client_port import ClientPort, Peer
from hotseat.supervisor.requests.abandoned import Abandoned
from hotseat.supervisor.requests.rules.streams import Emission, OutStream
from hotseat.supervisor.requests.stored_reply import StoredReply
from hotseat.supervisor.requests.works import Reader, Work, Works, WorkState
from hotseat.supervisor.settings.values import Settings

_Slot = tuple[bytes, RequestId]
MAX_STEP: Final = 8
"""Chunks sent to one reader before others get their turn."""


class Outbox:
    """Readers of all works."""

    def __init__(
        self, works: Works, port: ClientPort, abandoned: Abandoned, settings: Settings
    ) -> None:
        """`abandoned` is told when the last reader of a work is gone."""
        self._works = works
        self._port = port
        self._slow_consumer_s = settings.limits.slow_consumer_s
        self._abandoned = abandoned
        self._slots: dict[_Slot, Work] = {}
        self._due: dict[RequestKey, Work] = {}

    def use(self, settings: Settings) -> None:
        """Takes new settings."""
        self._slow_consumer_s = settings.limits.slow_consumer_s

    @property
    def has_readers(self) -> bool:
        """True while anybody is to get output, or the end of it."""
        return bool(self._slots)

    def attach(
        self, work: Work, peer: Peer, request_id: RequestId, offset: int, credit: int | None
    ) -> Reader:
        """Adds a reader from completion token `offset` on; one under the same id is replaced."""
        self._drop(work, peer, request_id)
        reader = Reader(peer, request_id, OutStream(credit or DEFAULT_CREDIT_BYTES, offset))
        for emission in work.emissions.behind(offset):
            reader.stream.push(emission)
        work.readers.append(reader)
        work.unread_since = None
        self._slots[peer.routing, request_id] = work
        return reader

    def accepted(self, work: Work, message: Accepted) -> None:
        """Tells readers that were not told yet; output may follow."""
        for reader in tuple(work.readers):
            if not reader.is_accepted:
                reader.is_accepted = True
                reader.sent_at = time.monotonic()
                self._port.send(reader.peer, reader.request_id, message)
        self.pump(work)

    def replay(
        self,
        peer: Peer,
        request_id: RequestId,
        accepted: Accepted,
        stored: StoredReply,
        offset: int,
    ) -> None:
        """A stored reply from completion token `offset` on; nothing runs."""
        self._port.send(peer, request_id, accepted)
        for chunk in stored.chunks_from(offset):
            self._port.send(peer, request_id, chunk)
        self._port.send(peer, request_id, stored.end)

    def emit(self, work: Work, emission: Emission) -> None:
        """New output; it leaves as soon as what came together with it was looked at.

        So tokens that wait in the link's queue share a chunk, and one that is alone is not held.
        """
        for reader in work.readers:
            reader.stream.push(emission)
        if not self._due:
            asyncio.get_running_loop().call_soon(self._pump_due)
        self._due[work.key] = work

    def end(self, work: Work, end: Done | ErrorBody) -> None:
        """The end, after whatever output has not been read yet."""
        work.end = end
        self.pump(work)

    def grant(self, peer: Peer, request_id: RequestId, credit_bytes: int) -> bool:
        """More credit for a reader; False when there is no such stream."""
        work = self._slots.get((peer.routing, request_id))
        if work is None:
            return False
        for reader in work.readers:
            if reader.peer is peer and reader.request_id == request_id:
                reader.stream.grant(credit_bytes)
        self.pump(work)
        return True

    def pump(self, work: Work) -> None:
        """Sends what credit allows."""
        now = time.monotonic()
        for reader in tuple(work.readers):
            if not reader.is_accepted and work.end is None:
                continue
            for _ in range(MAX_STEP):
                chunk, reader.held = reader.held or reader.stream.take(now), None
                if chunk is None:
                    break
                if not self._send(work, reader, chunk):
                    reader.held = chunk
                    reader.stream.starve(now)
                    break
            is_read = reader.held is None and reader.stream.is_empty
            if (
                work.end is not None
                and is_read
                and reader in work.readers
                and self._send(work, reader, work.end)
            ):
                self._drop(work, reader.peer, reader.request_id)

    def _pump_due(self) -> None:
        due, self._due = self._due, {}
        for work in due.values():
            self.pump(work)

    def progress(self, work: Work, message: Progress) -> None:
        """A note for all readers."""
        for reader in tuple(work.readers):
            if reader.is_accepted:
                self._send(work, reader, message)

    def forget(self, peer: Peer) -> None:
        """The peer is gone."""
        for slot, work in tuple(self._slots.items()):
            if slot[0] == peer.routing:
                self._drop(work, peer, slot[1])
                self._note_unread(work)

    def forget_work(self, work: Work) -> None:
        """Nobody reads this work any more: its readers were served otherwise."""
        for reader in tuple(work.readers):
            self._drop(work, reader.peer, reader.request_id)

    def tick(self, now: float) -> None:
        """Keeps quiet streams alive and gives up on readers that do not read."""
        for work in {id(work): work for work in self._slots.values()}.values():
            for reader in tuple(work.readers):
                self._tick_reader(work, reader, now)

    def _tick_reader(self, work: Work, reader: Reader, now: float) -> None:
        if reader.stream.is_slow(now, self._slow_consumer_s):
            error = HotseatError(
                "slow_consumer",
                f"no credit for {self._slow_consumer_s:.0f} s with more than 1 MiB waiting; "
                "read faster or attach again",
            )
            self._port.refuse(reader.peer, reader.request_id, error)
            self._drop(work, reader.peer, reader.request_id)
            self._note_unread(work)
            return
        if work.end is None and reader.is_accepted and now - reader.sent_at >= PROGRESS_S / 2:
            self._send(work, reader, self.note_for(work, now))
        elif work.end is not None or reader.held is not None or not reader.stream.is_empty:
            self.pump(work)

    def note_for(self, work: Work, now: float) -> Progress:
        """What there is to say about a work that says nothing itself."""
        forecast = None
        if work.state is WorkState.WAITING:
            forecast = self._works.forecaster.forecast(work.key, now)
        started = work.started
        return Progress(
            phase=work.phase,
            model=work.model,
            position=None if forecast is None else forecast.position,
            prompt_tokens_done=work.prompt_done if started else None,
            prompt_tokens=started.prompt_tokens if started else work.prompt_tokens,
            elapsed_s=round(now - work.accepted_at, 3),
        )

    def _send(self, work: Work, reader: Reader, message: DaemonMessage) -> bool:
        """False when it did not leave: the reader is gone, or reads more slowly than we write."""
        reader.sent_at = time.monotonic()
        sent = self._port.offer(reader.peer, reader.request_id, message)
        if sent is False:
            self._drop(work, reader.peer, reader.request_id)
            self._note_unread(work)
        return bool(sent)

    def _drop(self, work: Work, peer: Peer, request_id: RequestId) -> None:
        work.readers = [
            reader
            for reader in work.readers
            if reader.peer is not peer or reader.request_id != request_id
        ]
        self._slots.pop((peer.routing, request_id), None)

    def _note_unread(self, work: Work) -> None:
        if not work.readers and work.end is None and work.unread_since is None:
            work.unread_since = time.monotonic()
            self._abandoned.note(work)
