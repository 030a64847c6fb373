"""The writer thread: writes and syncs blocks, tails, snapshots in the order put, reports each.

Must not know mlx: payloads arrive as bytes. The compute thread waits here only when the backlog
is full, so a slow disk slows decoding down instead of eating memory.
"""

import contextlib
import threading
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from msgspec import Struct

from hotseat.protocol.exits import EX_INTERNAL
from hotseat.protocol.ids import BlockId, Epoch, Tag
from hotseat.protocol.limits import MIB
from hotseat.protocol.link_reports import BlockWritten, FromWorker, TailWritten, WriteFailed
from hotseat.worker.dying import die
from hotseat.worker.store.folders import prepare_kv_dir
from hotseat.worker.store.kv_file import (
    KvWriteError,
    KvWritten,
    TailKind,
    block_file,
    tail_file,
    write_block,
    write_kv,
)
from hotseat.worker.store.kv_format import KvPayload

BACKLOG_LIMIT_BYTES: Final = 256 * MIB
WRITE_THREADS: Final = 3
LARGE_BYTES: Final = 4 * MIB
"""From that size on files are written side by side."""

Failures = tuple[WriteFailed, ...]
AfterWritten = Callable[[Failures], None]
"""Runs on the writer thread, with what failed since the barrier before it."""


class _BlockJob(Struct, frozen=True):
    payload: KvPayload
    block: BlockId
    index: int


class _TailJob(Struct, frozen=True):
    payload: KvPayload
    session: str | None
    kind: TailKind
    failed: Callable[[], None] | None


class _Barrier(Struct, frozen=True):
    then: AfterWritten


_FileJob = _BlockJob | _TailJob
_Job = _FileJob | _Barrier


class _UnderWay(Struct, frozen=True):
    job: _FileJob
    name: str
    written: Future[KvWritten | KvWriteError]


class WriterThread:
    """FIFO of files to write under `kv_dir`, with a backlog bounded in bytes.

    Counters are read from any thread: `backlog_bytes`, `bytes_written`, `files_written`.
    """

    def __init__(
        self,
        kv_dir: Path,
        tag: Tag,
        epoch: Epoch,
        send: Callable[[FromWorker], None],
        *,
        floor_bytes: int = 0,
        backlog_limit_bytes: int = BACKLOG_LIMIT_BYTES,
    ) -> None:
        self.backlog_bytes = 0
        self.bytes_written = 0
        self.files_written = 0
        self._kv_dir = kv_dir
        self._tag = tag
        self._epoch = epoch
        self._send = send
        self._floor_bytes = floor_bytes
        self._limit_bytes = backlog_limit_bytes
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._unfinished = 0
        self._is_stopping = False
        # Writer thread only.
        self._failures: list[WriteFailed] = []
        self._sequence = 0
        self._under_way: deque[_UnderWay] = deque()
        self._pool = ThreadPoolExecutor(WRITE_THREADS, thread_name_prefix="writer")
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def put_block(self, payload: KvPayload, block_id: BlockId, index: int) -> None:
        """Queues a full block; answered by BlockWritten or WriteFailed.

        A file of the block that is there and verifies is reported again, not written again: the
        supervisor may have forgotten it, or a restore may just have found it damaged.
        """
        self._put(_BlockJob(payload, block_id, index), payload.size_bytes)

    def put_tail(self, session: str, payload: KvPayload) -> None:
        """Queues a tail under a new name; answered by TailWritten or WriteFailed."""
        self._put(_TailJob(payload, session, "tail", None), payload.size_bytes)

    def put_snapshot(
        self, payload: KvPayload, session: str | None, failed: Callable[[], None]
    ) -> None:
        """Queues a snapshot; answered as a tail is, a failure naming `session`.

        `failed` is called on the writer thread if it could not be written.
        """
        self._put(_TailJob(payload, session, "snapshot", failed), payload.size_bytes)

    def after_written(self, then: AfterWritten) -> None:
        """Calls `then` once everything put before it is synced and reported, or has failed."""
        self._put(_Barrier(then), 0)

    def drain(self, timeout_s: float | None = None) -> bool:
        """Waits until nothing is queued; False if that took longer than `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._unfinished, timeout_s)

    def stop(self) -> None:
        """Writes what is queued and ends the thread."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        self._thread.join()
        self._pool.shutdown()

    def _put(self, job: _Job, size: int) -> None:
        with self._changed:
            # One job may exceed the limit, else it could never be written.
            self._changed.wait_for(
                lambda: (
                    self._is_stopping
                    or not size
                    or not self.backlog_bytes
                    or self.backlog_bytes + size <= self._limit_bytes
                )
            )
            if self._is_stopping:
                raise RuntimeError("the writer was stopped")
            self.backlog_bytes += size
            self._unfinished += 1
            self._jobs.append(job)
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            # If this fails, the first write fails too, and says so.
            with contextlib.suppress(OSError):
                prepare_kv_dir(self._kv_dir)
            while (job := self._take()) is not None:
                self._begin(job)
                del job  # frees the payload before the wait for the next one
        except Exception:  # noqa: BLE001 - task root: without a writer nothing is durable
            traceback.print_exc()
            die(EX_INTERNAL, "writer thread failed")

    def _take(self) -> _Job | None:
        """The next job; None at the end. What is under way is reported before a wait."""
        while True:
            with self._changed:
                if not self._under_way:
                    self._changed.wait_for(lambda: self._jobs or self._is_stopping)
                    if not self._jobs:
                        return None
                if self._jobs:
                    return self._jobs.popleft()
            self._report_oldest()

    def _done(self, size: int) -> None:
        with self._changed:
            self._unfinished -= 1
            self.backlog_bytes -= size
            self._changed.notify_all()

    def _begin(self, job: _Job) -> None:
        """Large files are written side by side, so that no disk waits for a digest or a copy.

        They are reported in the order put all the same.
        """
        if isinstance(job, _Barrier):
            self._report_all()
            failures, self._failures = tuple(self._failures), []
            job.then(failures)
            self._done(0)
            return
        name = self._name_of(job)
        if job.payload.size_bytes < LARGE_BYTES or any(one.name == name for one in self._under_way):
            self._report_all()
            self._report(job, name, self._write(job, name))
            return
        if len(self._under_way) >= WRITE_THREADS:
            self._report_oldest()
        self._under_way.append(_UnderWay(job, name, self._pool.submit(self._write, job, name)))

    def _name_of(self, job: _FileJob) -> str:
        if isinstance(job, _BlockJob):
            return block_file(job.block)
        self._sequence += 1
        return tail_file(job.kind, self._epoch, self._sequence)

    def _write(self, job: _FileJob, name: str) -> KvWritten | KvWriteError:
        """On the writer thread or one of its helpers."""
        try:
            if job.payload.tag != self._tag:
                reason = f"payload of tag {job.payload.tag} put under {self._tag}"
                return KvWriteError("internal", reason)
            if isinstance(job, _BlockJob):
                return write_block(
                    self._kv_dir, job.block, job.payload, floor_bytes=self._floor_bytes
                )
            return write_kv(self._kv_dir, name, job.payload, floor_bytes=self._floor_bytes)
        except KvWriteError as error:
            return error

    def _report_all(self) -> None:
        while self._under_way:
            self._report_oldest()

    def _report_oldest(self) -> None:
        oldest = self._under_way.popleft()
        self._report(oldest.job, oldest.name, oldest.written.result())

    def _report(self, job: _FileJob, name: str, written: KvWritten | KvWriteError) -> None:
        session = None if isinstance(job, _BlockJob) else job.session
        if isinstance(written, KvWriteError):
            if isinstance(job, _TailJob) and job.failed is not None:
                job.failed()
            self._fail(written, name, session)
        else:
            self.files_written += written.bytes_written > 0
            self.bytes_written += written.bytes_written
            self._send(_written_report(job, written))
        self._done(job.payload.size_bytes)

    def _fail(self, error: KvWriteError, file: str, session: str | None) -> None:
        failure = WriteFailed(code=error.code, message=error.message, file=file, session=session)
        self._failures.append(failure)
        self._send(failure)


def _written_report(job: _FileJob, written: KvWritten) -> BlockWritten | TailWritten:
    if isinstance(job, _BlockJob):
        return BlockWritten(
            block=job.block,
            parent=job.payload.parent,
            index=job.index,
            file=written.name,
            size_bytes=written.size_bytes,
            is_new=written.bytes_written > 0,
            tokens=bytes(job.payload.tokens),
        )
    return TailWritten(
        kind=job.kind,
        session=job.session or "",
        parent=job.payload.parent,
        tokens=job.payload.tokens,
        hint=job.payload.hint,
        file=written.name,
        size_bytes=written.size_bytes,
    )
