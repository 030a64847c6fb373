"""Reads and verifies stored prefixes off the compute thread: a chain of blocks, then a tail.

Must not know mlx or messages. A file that does not verify cuts the chain in front of it; that is
a result, never an error.
"""

import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from hotseat.protocol.exits import EX_INTERNAL
from hotseat.protocol.ids import BlockId, RequestKey
from hotseat.protocol.limits import GIB
from hotseat.protocol.link_orders import TailRef
from hotseat.protocol.model import ModelRecord
from hotseat.worker.dying import die
from hotseat.worker.store.kv_file import block_names, read_kv
from hotseat.worker.store.kv_format import KvDamagedError, KvPayload
from hotseat.worker.store.layout import check_layout, needed_window_blocks

READ_THREADS: Final = 3
RESULTS_LIMIT_BYTES: Final = 2 * GIB
"""Bytes read and not picked up, beyond which the next restore waits."""

BlockToRead = tuple[BlockId, BlockId, bytes]
"""(block, parent, packed tokens)"""


class BadFile(Struct, frozen=True, kw_only=True):
    """A file that must not be offered again; `block` is None for a tail."""

    file: str
    reason: str
    block: BlockId | None


class RestoreResult(Struct, frozen=True, kw_only=True):
    """The longest verified prefix. `payloads` is a list so that its owner can free as it goes.

    `miss` is empty if everything asked for verified. The last `window_blocks` of `payloads` (all,
    if there are fewer) and the tail have the window parts that were stored, the others have none.
    Every part has the geometry of the model (`layout.check_layout`).
    """

    request: RequestKey
    payloads: list[KvPayload]
    tail: KvPayload | None
    miss: str
    bad_files: tuple[BadFile, ...]
    bytes_read: int


class _Restore(Struct, frozen=True, kw_only=True):
    request: RequestKey
    kv_dir: Path
    record: ModelRecord
    blocks: Sequence[BlockToRead]
    tail: TailRef | None
    window_blocks: int
    left_out: frozenset[int]


class _Progress(Struct, kw_only=True):
    """What one job has found so far."""

    payloads: list[KvPayload | None]
    windowed: set[int] = field(default_factory=set)
    """Blocks that were read with whatever window parts they have."""
    miss: str = ""
    bad_files: list[BadFile] = field(default_factory=list)
    bytes_read: int = 0


class Restorer:
    """One coordinating thread and a few reading ones; `begin`, `poll`, `cancel` on one thread.

    `on_result` is called from the coordinating thread when a result can be polled.
    """

    def __init__(
        self,
        on_result: Callable[[], None],
        *,
        threads: int = READ_THREADS,
        results_limit_bytes: int = RESULTS_LIMIT_BYTES,
    ) -> None:
        self._on_result = on_result
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self._limit_bytes = results_limit_bytes
        self._record: ModelRecord | None = None
        self._kv_dir = Path()
        self._changed = threading.Condition()
        self._jobs: deque[_Restore] = deque()
        self._results: deque[RestoreResult] = deque()
        self._current: RequestKey | None = None
        self._is_unwanted = False
        self._waiting_bytes = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="restorer", daemon=True)
        self._thread.start()

    def bind(self, kv_dir: Path, record: ModelRecord) -> None:
        """Says whose files are read from now on: folder, tag and layout."""
        self._kv_dir = kv_dir
        self._record = record

    def begin(
        self,
        request: RequestKey,
        blocks: Sequence[BlockToRead],
        tail: TailRef | None = None,
        left_out: frozenset[int] = frozenset(),
    ) -> None:
        """Queues a restore; `poll` returns its result later.

        Of blocks, not of the tail, the parts of the cache entries `left_out` stay in their files.

        Window parts are read for one block more than the widest window of the model needs, so that
        a boundary may move by a block.
        """
        record = self._record
        if record is None:
            raise RuntimeError("bind was not called")
        job = _Restore(
            request=request,
            kv_dir=self._kv_dir,
            record=record,
            blocks=blocks,
            tail=tail,
            window_blocks=needed_window_blocks(record.layers) + 1,
            left_out=left_out,
        )
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def poll(self) -> list[RestoreResult]:
        """Results since the last call, in the order of `begin`."""
        if not self._results:
            return []  # asked before every step: the thread must not be woken by that
        with self._changed:
            results = list(self._results)
            self._results.clear()
            self._waiting_bytes = 0
            self._changed.notify_all()
        return results

    def cancel(self, request: RequestKey) -> None:
        """The result of `request` is not wanted any more."""
        with self._changed:
            self._jobs = deque(job for job in self._jobs if job.request != request)
            self._results = deque(found for found in self._results if found.request != request)
            self._waiting_bytes = sum(found.bytes_read for found in self._results)
            self._is_unwanted = self._is_unwanted or self._current == request
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the threads; restores under way are dropped."""
        with self._changed:
            self._is_closed = True
            self._jobs.clear()
            self._changed.notify_all()
        self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self) -> None:
        try:
            while (job := self._take()) is not None:
                self._deliver(self._restore(job))
        except Exception:  # noqa: BLE001 - task root: requests would wait for ever
            traceback.print_exc()
            die(EX_INTERNAL, "restorer thread failed")

    def _take(self) -> _Restore | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_closed or (self._jobs and self._waiting_bytes <= self._limit_bytes)
            )
            if self._is_closed:
                return None
            job = self._jobs.popleft()
            self._current, self._is_unwanted = job.request, False
            return job

    def _deliver(self, result: RestoreResult) -> None:
        with self._changed:
            self._current = None
            if self._is_unwanted:
                return
            self._results.append(result)
            self._waiting_bytes += result.bytes_read
        self._on_result()

    def _restore(self, job: _Restore) -> RestoreResult:
        progress = _Progress(payloads=[None] * len(job.blocks))
        end = len(job.blocks)
        missing: Sequence[int] = range(end)
        while missing:
            self._read_blocks(job, progress, missing, end)
            # A cut moves the boundary, and with it the blocks whose windows are needed.
            end = next((i for i in range(end) if progress.payloads[i] is None), end)
            first_window = max(0, end - job.window_blocks)
            missing = [i for i in range(first_window, end) if i not in progress.windowed]
        tail = None
        if job.tail is not None and end == len(job.blocks):
            tail = _read_tail(job, progress)
        payloads = [payload for payload in progress.payloads[:end] if payload is not None]
        return RestoreResult(
            request=job.request,
            payloads=payloads,
            tail=tail,
            miss=progress.miss,
            bad_files=tuple(progress.bad_files),
            bytes_read=progress.bytes_read,
        )

    def _read_blocks(
        self, job: _Restore, progress: _Progress, indexes: Sequence[int], end: int
    ) -> None:
        windowed = {index for index in indexes if index >= end - job.window_blocks}
        reads = [
            self._pool.submit(_read_block, job, index, with_windows=index in windowed)
            for index in indexes
        ]
        progress.windowed |= windowed
        for index, read in zip(indexes, reads, strict=True):
            found = read.result()
            progress.payloads[index] = found.payload
            progress.bad_files += found.bad_files
            progress.bytes_read += 0 if found.payload is None else found.payload.size_bytes
            if found.payload is None and not progress.miss:
                progress.miss = f"block {index} of {len(job.blocks)}: {found.reason}"


class _Found(Struct, frozen=True, kw_only=True):
    payload: KvPayload | None = None
    reason: str = ""
    bad_files: tuple[BadFile, ...] = ()


def _read_block(job: _Restore, index: int, *, with_windows: bool) -> _Found:
    """Tries every name of the block: a damaged file does not hide a good one."""
    block, parent, tokens = job.blocks[index]
    bad_files = []
    reason = ""
    for name in block_names(block):
        if reason and not (job.kv_dir / name).exists():
            continue
        try:
            payload = _read(job, name, parent, tokens, with_windows=with_windows, is_block=True)
        except KvDamagedError as error:
            reason = reason or error.reason
            if error.is_lasting:
                bad_files.append(BadFile(file=name, reason=error.reason, block=block))
        else:
            # A good file under another name makes a missing one no news.
            worse = tuple(bad for bad in bad_files if bad.reason != "missing")
            return _Found(payload=payload, bad_files=worse)
    return _Found(reason=reason, bad_files=tuple(bad_files))


def _read_tail(job: _Restore, progress: _Progress) -> KvPayload | None:
    tail = job.tail
    if tail is None:
        return None
    try:
        payload = _read(job, tail.file, tail.parent, tail.tokens, with_windows=True, is_block=False)
    except KvDamagedError as error:
        progress.miss = f"tail: {error.reason}"
        if error.is_lasting:
            bad = BadFile(file=tail.file, reason=error.reason, block=None)
            progress.bad_files.append(bad)
        return None
    progress.bytes_read += payload.size_bytes
    return payload


def _read(
    job: _Restore, name: str, parent: BlockId, tokens: bytes, *, with_windows: bool, is_block: bool
) -> KvPayload:
    left_out = job.left_out if is_block else frozenset()
    skipped = {
        index
        for index, layer in enumerate(job.record.layers)
        if layer.kind == "window" and not with_windows
    } | left_out
    payload = read_kv(
        job.kv_dir, name, tag=job.record.tag, parent=parent, tokens=tokens, skip_entries=skipped
    )
    layers, dtype = job.record.layers, job.record.kv_dtype
    check_layout(payload, layers, dtype, is_block=is_block, skipped=left_out)
    return payload
