"""The supervisor's half of the KV store: leases, commits of what workers wrote, unlinking.

A worker only writes new files and reports them; nothing is used before it is in the catalogue.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog

from hotseat.protocol import failpoints
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import BlockId, ModelName, RequestKey, SessionName
from hotseat.protocol.link import (
    BlockWritten,
    Known,
    Lookup,
    Quarantined,
    TailRef,
    TailWritten,
    ToWorker,
    WriteFailed,
)
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.tokens import root_id
from hotseat.supervisor.catalogue.rows import BlockRow, KvFile
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.event_log import EventLog
from hotseat.supervisor.kv_files import unlink_files

log = structlog.get_logger()


class KvKeeper:
    """Answers lookups and commits files. Methods run on the loop; calls stay in order."""

    def __init__(self, catalogue: Catalogue, kv_dir: Path, events: EventLog) -> None:
        self._catalogue = catalogue
        self._kv_dir = kv_dir
        self._events = events
        self._leases: dict[RequestKey, tuple[BlockId, ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.bytes_written = 0
        self.commit_fault: HotseatError | None = None

    @property
    def leased(self) -> frozenset[BlockId]:
        """Blocks that must stay because a request restores from them."""
        return frozenset(block for blocks in self._leases.values() for block in blocks)

    def release(self, key: RequestKey) -> None:
        """The request ended: its blocks may go."""
        self._leases.pop(key, None)

    def release_all(self) -> None:
        """The epoch ended."""
        self._leases.clear()

    async def flush(self) -> HotseatError | None:
        """Waits until everything reported so far is committed; the first fault since last time."""
        while self._tasks:
            await asyncio.gather(*self._tasks)
        fault, self.commit_fault = self.commit_fault, None
        return fault

    def lookup(
        self,
        asked: Lookup,
        record: ModelRecord,
        session: str | None,
        send: Callable[[ToWorker], object],
    ) -> None:
        """Leases the stored prefix of a chain to the request and tells the worker."""
        self._spawn(self._answer(asked, record, session, send))

    async def _answer(
        self,
        asked: Lookup,
        record: ModelRecord,
        session: str | None,
        send: Callable[[ToWorker], object],
    ) -> None:
        # Leased before the question, so that nothing is evicted between answer and lease.
        self._leases[asked.request] = asked.blocks
        count, tails = 0, list[TailRef]()
        try:
            count = await self._catalogue.known_prefix(record.tag, asked.blocks)
            parents = (root_id(record.tag), *asked.blocks[:count])
            own = None if session is None else (record.name, SessionName(session))
            tails = await self._catalogue.tails_under(record.tag, parents, session=own)
        except HotseatError as error:
            log.warning("kv.lookup_failed", reason=error.message)
        self._leases[asked.request] = asked.blocks[:count]
        send(Known(request=asked.request, count=count, tails=tuple(tails)))

    def block_written(self, report: BlockWritten, record: ModelRecord) -> None:
        """Makes a block known."""
        self.bytes_written += report.size_bytes
        row = BlockRow(
            id=report.block,
            tag=record.tag,
            parent=report.parent,
            index=report.index,
            file=report.file,
            size_bytes=report.size_bytes,
            written_at=time.time(),
        )
        self._spawn(self._commit_block(row))

    async def _commit_block(self, row: BlockRow) -> None:
        await self._unlink(await self._catalogue.add_block(row))

    def tail_written(self, report: TailWritten, record: ModelRecord) -> None:
        """Makes a tail the tail of its session."""
        self.bytes_written += report.size_bytes
        self._spawn(self._commit_tail(report, record))

    async def _commit_tail(self, report: TailWritten, record: ModelRecord) -> None:
        name = SessionName(report.session)
        if failpoints.ARMED:
            failpoints.reach("tail.reported")
        obsolete = await self._catalogue.commit_tail(
            record.tag, (ModelName(record.name), name), report, time.time()
        )
        if failpoints.ARMED:
            failpoints.reach("tail.committed")
        self._events.publish(
            "checkpoint.published",
            model=record.name,
            session=report.session,
            tokens=len(report.tokens) // 4,
            size_bytes=report.size_bytes,
        )
        await self._unlink(obsolete)

    def quarantined(self, report: Quarantined, record: ModelRecord) -> None:
        """Forgets a damaged file and takes it away."""
        self._events.publish(
            "kv.quarantined", model=record.name, file=report.file, reason=report.reason
        )
        self._spawn(self._forget(report, record))

    async def _forget(self, report: Quarantined, record: ModelRecord) -> None:
        await self._catalogue.forget_file(record.tag, report.file)
        await self._unlink([KvFile(tag=record.tag, file=report.file, size_bytes=0)])

    def write_failed(self, report: WriteFailed) -> None:
        """Nothing was lost: what was stored before stays."""
        self._events.publish(
            "kv.write_failed", code=report.code, reason=report.message, file=report.file
        )

    async def unlink(self, files: list[KvFile]) -> None:
        """Unlinks files that no row names any more."""
        await self._unlink(files)

    async def _unlink(self, files: list[KvFile]) -> None:
        if not files:
            return
        try:
            await asyncio.to_thread(unlink_files, self._kv_dir, files)
        except OSError as error:
            log.warning("kv.unlink_failed", error=str(error))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except HotseatError as error:
            self.commit_fault = self.commit_fault or error
            self._events.publish("kv.commit_failed", code=error.code, reason=error.message)
