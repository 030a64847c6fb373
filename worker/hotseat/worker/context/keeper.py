"""What happens to KV that is computed: captured for the disk, kept while idle, given up for room.

Runs on the engine's thread; the writer thread only hands back what failed. Must not know lanes.
"""

import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from hotseat.protocol.ids import BlockId, Epoch
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_reports import Checkpointed, FromWorker, WriteFailed
from hotseat.protocol.tokens import pack_tokens
from hotseat.worker.context.capture import (
    PartsUnderway,
    RowView,
    capture_parts,
    capture_states,
    set_apart,
)
from hotseat.worker.context.live import LiveSession, LiveTier
from hotseat.worker.context.steps import HINT_VERSION, Hint, RingMark, encode_hint
from hotseat.worker.context.streamed import is_streamed
from hotseat.worker.context.trace import Snapshot, Trace
from hotseat.worker.model.caches import ring_starts
from hotseat.worker.model.loading import SeatedModel
from hotseat.worker.store.kv_format import KvPayload
from hotseat.worker.store.writer import Failures, WriterThread

Send = Callable[[FromWorker], None]


class _Capture(Struct, frozen=True):
    """A full block that goes to the writer when `parts` are read; `payload` lacks them."""

    trace: Trace
    index: int
    block: BlockId
    payload: KvPayload
    parts: PartsUnderway


class Keeper:
    """Write-behind of blocks, tails, the live tier and checkpoints of one seating."""

    def __init__(self, seated: SeatedModel, epoch: Epoch, send: Send) -> None:
        self.live = LiveTier()
        self._record = seated.record
        self._send = send
        self._writer = WriterThread(
            Path(seated.load.kv_dir),
            seated.record.tag,
            epoch,
            send,
            floor_bytes=seated.load.disk_floor_bytes,
        )
        self._returned: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._running: list[Trace] = []
        self._captures: deque[_Capture] = deque()
        self.defers_blocks = False

    @property
    def captures_underway(self) -> int:
        """Blocks of running requests that are not read yet."""
        return len(self._captures)

    @property
    def backlog_bytes(self) -> int:
        """Bytes put and not written yet."""
        return self._writer.backlog_bytes

    def settle(self) -> bool:
        """Runs what the writer thread handed back; False if there was nothing."""
        worked = False
        while not self._returned.empty():
            self._returned.get()()
            worked = True
        return worked

    def after_written(self, then: FromWorker | Callable[[Failures], None]) -> None:
        """Sends a message, or calls on this thread, once all that was put is durable or failed."""

        def returned(failures: Failures) -> None:
            if not callable(then):
                self._send(then)
            self._returned.put(lambda: self._settle_failures(failures, then))

        self.finish_captures()
        self._writer.after_written(returned)

    def defer_blocks(self, *, is_wanted: bool) -> None:
        """Whether blocks of running requests wait until their session is written or given up.

        Only plain attention holds all of a context until then.
        """
        is_plain = all(layer.kind == "full" for layer in self._record.layers)
        self.defers_blocks = is_wanted and is_plain

    def capture_blocks(self, trace: Trace, view: RowView) -> None:
        """Puts every full block that is not stored; runs in the stream that owns `view`."""
        if any(one.trace is trace for one in self._captures):
            self.finish_captures()
        for capture in self._uncaptured(trace, view):
            self._put_block(capture)

    def write_blocks(self, trace: Trace, view: RowView) -> Failures:
        """The same, and waits until all that was put is durable or failed."""
        self.capture_blocks(trace, view)
        self.finish_captures()
        written: queue.SimpleQueue[Failures] = queue.SimpleQueue()
        self._writer.after_written(written.put)
        failures = written.get()
        self._settle_failures(failures, None)
        return failures

    def begin_blocks(self, trace: Trace, view: RowView) -> None:
        """The same for a request that runs on: they are put by `finish_captures`, nothing waits.

        None if they are deferred: those of a request without a session are then never written.
        """
        if self.defers_blocks:
            return
        for capture in self._uncaptured(trace, view):
            self._captures.append(replace(capture, parts=set_apart(capture.parts)))

    def finish_captures(self, count: int | None = None) -> bool:
        """Puts the oldest `count` blocks that were begun, or all; False if there were none.

        Tails, snapshots and what waits for writes come behind all that was begun before them.
        """
        left = len(self._captures) if count is None else min(count, len(self._captures))
        for _ in range(left):
            self._put_block(self._captures.popleft())
        return left > 0

    def drop_captures(self, trace: Trace) -> None:
        """The request was lost with a step: what was begun of it may never have been computed."""
        self._captures = deque(one for one in self._captures if one.trace is not trace)

    def _uncaptured(self, trace: Trace, view: RowView) -> Iterator[_Capture]:
        record = self._record
        while trace.stored_blocks < len(trace.chain):
            index = trace.stored_blocks
            trace.stored_blocks += 1
            begin = index * BLOCK_TOKENS
            end = begin + BLOCK_TOKENS
            marks = ring_starts(view.caches, view.tokens) if view.tokens == end else {}
            rings = tuple(RingMark(window, now, now) for window, now in sorted(marks.items()))
            hint = encode_hint(Hint(HINT_VERSION, end, end, (), rings)) if rings else b""
            payload = self._payload(trace, index, (begin, end), hint)
            parts = capture_parts(view, record.layers, begin, end, record.kv_dtype)
            yield _Capture(trace, index, trace.chain[index], payload, parts)

    def _put_block(self, capture: _Capture) -> None:
        payload = replace(capture.payload, parts=capture.parts.read())
        self._writer.put_block(payload, capture.block, capture.index)

    def keep(self, name: str, caches: list[Any], trace: Trace, *, persist: bool) -> None:
        """The session is idle from now on, its KV stays in memory.

        With recurrent layers its end is written at once: what comes next overwrites the state. What
        is read from files anyway is written and goes.
        """
        session = LiveSession(name, caches, trace, persist=persist)
        if is_streamed(caches):
            self.live.take(name)
            self.capture_blocks(trace, _view(session))
            self._put_tail(session)
            return
        self.live.keep(session)
        if persist and trace.is_recurrent:
            self.capture_blocks(trace, _view(session))
            self._put_tail(session)

    def snapshot(self, trace: Trace, view: RowView, *, persist: bool) -> None:
        """Keeps the recurrent state after the newest token, in memory and, if new, on disk.

        Runs in the stream that owns `view`, after `capture_blocks`.
        """
        snapshot = Snapshot(trace.position, capture_states(view, self._record.layers))
        trace.snapshot = snapshot
        if persist and trace.position not in trace.snapshots_at:
            self._put_snapshot(trace, self._tail(trace, view, snapshot), None)

    def make_room(
        self, fits: Callable[[int], bool], spare: str | None = None, *, spare_stays: bool = False
    ) -> bool:
        """Gives up idle sessions, oldest first, until `fits(bytes of those that stay)`.

        `spare` is not touched, and counted only if it stays. Nothing is given up if that could not
        be enough. A session whose tail is not durable goes later, when its tail is written: then
        False.
        """
        spared = self.live.find(spare)
        taken_bytes = spared.size_bytes if spared and not spare_stays else 0
        if not fits(spared.size_bytes if spared and spare_stays else 0):
            return False
        for session in self.live.sessions():
            if fits(self.live.size_bytes - taken_bytes):
                return True
            if session is spared:
                continue
            self._release(session)
        return fits(self.live.size_bytes - taken_bytes)

    def shrink(self, keep: int) -> None:
        """Gives up idle sessions but for the `keep` newest; one that is not durable goes later."""
        sessions = self.live.sessions()
        for session in sessions[: max(0, len(sessions) - keep)]:
            self._release(session)

    def release(self, name: str) -> None:
        """Gives up an idle session, once it is durable."""
        session = self.live.find(name)
        if session is not None and not session.is_leaving:
            self._release(session)

    def is_making_room(self) -> bool:
        """True while sessions wait for their tails to be written before they go."""
        return any(session.is_leaving for session in self.live.sessions())

    def checkpoint(self, swap: int, names: Sequence[str] | None = None) -> None:
        """Makes idle sessions (all, or `names`) durable, then reports it. All stay live."""
        sessions = [
            session
            for session in self.live.sessions()
            if session.persist and (names is None or session.name in names)
        ]
        self.finish_captures()
        written_before = self._writer.bytes_written
        for session in sessions:
            self.capture_blocks(session.trace, _view(session))
            self._put_tail(session)

        def report(failures: Failures) -> None:
            failed = {failure.session for failure in failures if failure.session is not None}
            failed |= {
                session.name
                for session in sessions
                for failure in failures
                if failure.session is None and _failed_block(failure) in session.trace.chain
            }
            self._send(
                Checkpointed(
                    swap=swap,
                    sessions=len(sessions),
                    bytes_written=self._writer.bytes_written - written_before,
                    failed=tuple(sorted(failed)),
                    message=failures[0].message if failures else "",
                )
            )
            self._returned.put(lambda: self._settle_failures(failures, None))

        self._writer.after_written(report)

    def watch(self, trace: Trace) -> None:
        """A running request feeds `trace`: blocks of it that fail to be written are tried again."""
        self._running.append(trace)

    def unwatch(self, trace: Trace) -> None:
        """The request ended."""
        self._running = [one for one in self._running if one is not trace]

    def close(self) -> None:
        """Writes what was put or begun and drops all live KV."""
        try:
            self.finish_captures()
        finally:
            self._writer.stop()
            self.live.clear()

    def _release(self, session: LiveSession) -> None:
        """Gives it up, once its tail is written."""
        if session.is_safe:
            self.live.take(session.name)
            return
        if session.is_leaving:
            return
        session.is_leaving = True
        self.capture_blocks(session.trace, _view(session))
        self._put_tail(session)

        def leave(_failures: Failures) -> None:
            # Also if the write failed: the tail can be computed again, the room is needed now.
            if self.live.find(session.name) is session:
                self.live.take(session.name)

        self.after_written(leave)

    def _put_tail(self, session: LiveSession) -> None:
        trace = session.trace
        if trace.is_tail_stored:
            return
        view = _view(session)
        if trace.is_recurrent:
            snapshot = Snapshot(trace.position, capture_states(view, self._record.layers))
            self._put_snapshot(trace, self._tail(trace, view, snapshot), session.name)
            return
        trace.tail_at = trace.position
        self.finish_captures()
        self._writer.put_tail(session.name, self._tail(trace, view, None))

    def _put_snapshot(self, trace: Trace, payload: KvPayload, session: str | None) -> None:
        position = trace.position
        trace.snapshots_at.add(position)
        self.finish_captures()

        def forget() -> None:
            trace.snapshots_at.discard(position)

        self._writer.put_snapshot(payload, session, lambda: self._returned.put(forget))

    def _tail(self, trace: Trace, view: RowView, snapshot: Snapshot | None) -> KvPayload:
        """What follows the last full block, with the states of `snapshot`."""
        hint = encode_hint(trace.log.hint(ring_starts(view.caches, view.tokens)))
        span = (trace.boundary, trace.position)
        parts = capture_parts(view, self._record.layers, *span, self._record.kv_dtype)
        payload = self._payload(trace, len(trace.chain), span, hint)
        states = snapshot.states if snapshot is not None else ()
        return replace(payload, parts=parts.read(), states=states)

    def _payload(self, trace: Trace, index: int, span: tuple[int, int], hint: bytes) -> KvPayload:
        """What goes with the numbers of a block or a tail."""
        return KvPayload(
            tag=self._record.tag,
            parent=trace.parent(index),
            tokens=pack_tokens(trace.tokens[slice(*span)]),
            hint=hint,
            parts=(),
        )

    def _settle_failures(
        self, failures: Failures, then: FromWorker | Callable[[Failures], None] | None
    ) -> None:
        """What could not be written counts as not stored, so that it is tried again."""
        for failure in failures:
            if failure.session is not None:
                session = self.live.find(failure.session)
                if session is not None:
                    session.trace.tail_at = None
                continue
            self.forget_stored(_failed_block(failure))
        if callable(then):
            then(failures)

    def forget_stored(self, block: BlockId) -> None:
        """The block is not on disk: it is written again with the next ones of its chain."""
        traces = [session.trace for session in self.live.sessions()] + self._running
        for trace in traces:
            if block in trace.chain:
                trace.forget_stored(trace.chain.index(block))


def _view(session: LiveSession) -> RowView:
    return RowView(session.caches, 0, session.trace.position)


def _failed_block(failure: WriteFailed) -> BlockId:
    return BlockId(PurePosixPath(failure.file).stem)
