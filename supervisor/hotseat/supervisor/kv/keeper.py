"""The supervisor's half of the KV store: leases, commits of what workers wrote, unlinking.

A worker only writes new files and reports them; nothing is used before it is in the catalogue.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from msgspec import Struct

from hotseat.protocol import failpoints
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import BlockId, ModelName, RequestKey, SessionName, Tag
from hotseat.protocol.link_orders import Known, Rewrite, TailRef, ToWorker
from hotseat.protocol.link_reports import (
    BlockWritten,
    Lookup,
    Quarantined,
    TailWritten,
    WriteFailed,
)
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.tokens import root_id
from hotseat.supervisor.catalogue.rows import BlockRow, KvFile
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.kv.daily_writing import DailyWriting
from hotseat.supervisor.kv.files import sweep_drafts, unlink_files
from hotseat.supervisor.kv.quarantine import Quarantine
from hotseat.supervisor.loop.tasks import TaskSet

UNLINKED_S: Final = 60.0
log = structlog.get_logger()


class _Lease(Struct, frozen=True):
    """What a request may be reading."""

    blocks: tuple[BlockId, ...]
    tails: tuple[str, ...] = ()


class KvKeeper:
    """Answers lookups and commits files. Methods run on the loop; calls stay in order."""

    def __init__(
        self,
        catalogue: Catalogue,
        kv_dir: Path,
        events: EventLog,
        send: Callable[[ToWorker], object],
        tail_committed: Callable[[str, str], None],
    ) -> None:
        """`send` reaches the seated worker, if there is one.

        `tail_committed` is told model and session whose tail is another one now.
        """
        self._send = send
        self._tail_committed = tail_committed
        self._catalogue = catalogue
        self._kv_dir = kv_dir
        self._events = events
        self.quarantine = Quarantine(kv_dir.with_name("quarantine"))
        self.changed = asyncio.Event()
        """Set when files were written or could not be: the disk tier looks again."""
        self._leases: dict[RequestKey, _Lease] = {}
        self._written: list[BlockRow] = []
        """Reported in this turn of the loop: one commit for all."""
        self._waiting: list[KvFile] = []
        """Tails that no row names and that a request may still be reading."""
        self._unlinked: dict[tuple[Tag, str], float] = {}
        self._unlinking = asyncio.Lock()
        self._tasks = TaskSet("kv.commit_defect", self._note_fault)
        self._sweeps = TaskSet("kv.sweep_defect", _not_swept)
        self.bytes_written = 0
        self.days = DailyWriting()
        self.files_unlinked = 0
        self.commit_fault: HotseatError | None = None

    @property
    def leased(self) -> frozenset[BlockId]:
        """Blocks that must stay because a request restores from them."""
        return frozenset(block for lease in self._leases.values() for block in lease.blocks)

    @property
    def leased_tails(self) -> frozenset[str]:
        """Tails that a request may restore from."""
        return frozenset(file for lease in self._leases.values() for file in lease.tails)

    def release(self, key: RequestKey) -> None:
        """The request ended: its files may go."""
        if self._leases.pop(key, None) is not None:
            self._unlink_waiting()

    def release_all(self) -> None:
        """The epoch ended."""
        self._leases.clear()
        self._unlink_waiting()

    def _unlink_waiting(self) -> None:
        leased = self.leased_tails
        free = [file for file in self._waiting if file.file not in leased]
        if free:
            self._waiting = [file for file in self._waiting if file.file in leased]
            self._tasks.spawn(self._unlink(free))

    async def flush(self) -> HotseatError | None:
        """Waits until everything reported so far is committed; the first fault since last time."""
        await self._tasks.settle()
        fault, self.commit_fault = self.commit_fault, None
        return fault

    def lookup(self, asked: Lookup, record: ModelRecord, session: str | None) -> None:
        """Leases the stored prefix of a chain to the request and tells the worker."""
        self._tasks.spawn(self._answer(asked, record, session))

    async def _answer(self, asked: Lookup, record: ModelRecord, session: str | None) -> None:
        # Leased before the question, so that nothing is evicted between answer and lease.
        self._leases[asked.request] = _Lease(asked.blocks)
        count, tails = 0, list[TailRef]()
        leased: tuple[BlockId, ...] = ()
        try:
            count = await self._catalogue.known_prefix(record.tag, asked.blocks)
            parents = (root_id(record.tag), *asked.blocks[:count])
            own = None if session is None else (record.name, SessionName(session))
            tails = await self._catalogue.tails_under(record.tag, parents, session=own)
            if all(layer.kind == "full" for layer in record.layers):
                # Where a prompt leaves a stored one, the beginning of a block is still of use.
                cut = await self._catalogue.blocks_behind(record.tag, parents[-1])
                leased = tuple(block for block, _ in cut)
                tails.extend(ref for _, ref in cut)
        except HotseatError as error:
            log.warning("kv.lookup_failed", reason=error.message)
        except Exception:  # the worker waits for an answer: none would look like a stall
            log.exception("kv.lookup_defect")
            count, tails, leased = 0, [], ()
        files = tuple(tail.file for tail in tails)
        self._leases[asked.request] = _Lease((*asked.blocks[:count], *leased), files)
        self._send(Known(request=asked.request, count=count, tails=tuple(tails)))

    def block_written(self, report: BlockWritten, record: ModelRecord) -> None:
        """Makes a block known. One that was on disk already cost no writing."""
        if report.is_new:
            self._note_written(report.size_bytes)
        row = BlockRow(
            id=report.block,
            tag=record.tag,
            parent=report.parent,
            index=report.index,
            file=report.file,
            size_bytes=report.size_bytes,
            written_at=time.time(),
            tokens=report.tokens,
        )
        self._written.append(row)
        if len(self._written) == 1:
            self._tasks.spawn(self._commit_blocks(self._written))

    async def _commit_blocks(self, rows: list[BlockRow]) -> None:
        if self._written is rows:
            self._written = []
        await self._unlink(await self._catalogue.add_blocks(rows))
        self.changed.set()
        for row in rows:
            # Evicted a moment ago: the worker may have found the file just before it went.
            if (row.tag, row.file) in self._unlinked:
                await self._forget_if_gone(row)

    async def _forget_if_gone(self, row: BlockRow) -> None:
        async with self._unlinking:
            exists = await asyncio.to_thread((self._kv_dir / row.tag / row.file).exists)
        if not exists:
            await self._catalogue.forget_file(row.tag, row.file)
            self.rewrite(row.id)

    def rewrite(self, block: BlockId) -> None:
        """A block that is needed is not on disk: the worker writes it if it has it whole."""
        self._send(Rewrite(block=block))

    def tail_written(self, report: TailWritten, record: ModelRecord) -> None:
        """Makes a tail the tail of its session."""
        self._note_written(report.size_bytes)
        self._tasks.spawn(self._commit_tail(report, record))

    async def _commit_tail(self, report: TailWritten, record: ModelRecord) -> None:
        name = SessionName(report.session)
        if failpoints.ARMED:
            failpoints.reach("tail.reported")
        obsolete = await self._catalogue.commit_tail(
            record.tag, (ModelName(record.name), name), report, time.time()
        )
        if failpoints.ARMED:
            failpoints.reach("tail.committed")
        self._tail_committed(record.name, report.session)
        is_snapshot = report.kind == "snapshot"
        self._events.publish(
            "snapshot.published" if is_snapshot else "checkpoint.published",
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
        self._written = []  # what is reported after this is committed after this
        self._tasks.spawn(self._forget(report, record))

    async def _forget(self, report: Quarantined, record: ModelRecord) -> None:
        await self.put_aside([KvFile(tag=record.tag, file=report.file, size_bytes=0)])

    async def put_aside(self, files: list[KvFile]) -> None:
        """Damaged files are offered to nobody any more; they are kept for a look, up to a cap."""
        for file in files:
            await self._catalogue.forget_file(file.tag, file.file)
            try:
                take = self.quarantine.take
                await asyncio.to_thread(take, self._kv_dir, file.tag, file.file)
            except OSError as error:
                log.warning("kv.quarantine_failed", error=str(error))
                await self._unlink([file])

    def write_failed(self, report: WriteFailed) -> None:
        """Nothing was lost: what was stored before stays."""
        self.changed.set()
        self._events.publish(
            "kv.write_failed", code=report.code, reason=report.message, file=report.file
        )

    async def unlink(self, files: list[KvFile]) -> None:
        """Unlinks files that no row names any more."""
        await self._unlink(files)

    def worker_died(self, died_at: float) -> None:
        """Takes away what it had begun to write; `died_at` is Unix time."""
        self._sweeps.spawn(self._sweep_drafts(died_at))

    async def settle(self) -> None:
        """Returns when no files are being swept; commits are waited for by `flush`."""
        await self._sweeps.settle()

    async def _sweep_drafts(self, died_at: float) -> None:
        try:
            freed = await asyncio.to_thread(sweep_drafts, self._kv_dir, died_at)
        except OSError as error:
            log.warning("kv.sweep_failed", error=str(error))
            return
        if freed:
            log.info("kv.drafts_removed", freed_bytes=freed)

    async def _unlink(self, files: list[KvFile]) -> None:
        leased = self.leased_tails
        self._waiting += [file for file in files if file.file in leased]
        now = [file for file in files if file.file not in leased]
        if not now:
            return
        self._note_unlinked(now)
        self.files_unlinked += len(now)
        async with self._unlinking:
            try:
                await asyncio.to_thread(unlink_files, self._kv_dir, now)
            except OSError as error:
                log.warning("kv.unlink_failed", error=str(error))

    def _note_written(self, size_bytes: int) -> None:
        self.bytes_written += size_bytes
        self.days.add(size_bytes)

    def _note_unlinked(self, files: list[KvFile]) -> None:
        """Remembered as long as a worker may be about to report one of them as there."""
        now = time.monotonic()
        recent = {file: at for file, at in self._unlinked.items() if now - at < UNLINKED_S}
        self._unlinked = recent | {(file.tag, file.file): now for file in files}

    def _note_fault(self, error: HotseatError) -> None:
        self.commit_fault = self.commit_fault or error
        self._events.publish("kv.commit_failed", code=error.code, reason=error.message)


def _not_swept(error: HotseatError) -> None:
    log.warning("kv.sweep_failed", error=error.message)
