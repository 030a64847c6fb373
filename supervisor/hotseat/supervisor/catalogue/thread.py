"""Runs catalogue work on one thread and commits what waits together. Knows no table."""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import Struct

from hotseat.protocol import failpoints
from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.catalogue.schema import Opened, open_catalogue
from hotseat.supervisor.catalogue.session_mirror import SessionMirror
from hotseat.supervisor.machine.drives import Drives

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
_BATCH: Final = 64
"""Most calls in one transaction: bounds how long the first of them waits."""
_FULL: Final = ("SQLITE_FULL", "SQLITE_IOERR")


def always(_result: object) -> bool:
    """What nothing else could tell again."""
    return True


class Lasting(Struct, frozen=True):
    """What a change needs of the drives before anybody is told of it."""

    is_due: Callable[[Any], bool] = always
    """Tells from a result whether it has to be on the medium; else a later change sees to it."""
    has_files: bool = False
    """A worker wrote files for it."""


ALWAYS: Final = Lasting()


class _Call:
    """One call with the future that waits for it."""

    __slots__ = ("error", "future", "is_change", "lasting", "result", "work")

    def __init__(self, work: Work[Any], future: "asyncio.Future[Any]", lasting: Lasting) -> None:
        self.work = work
        self.future = future
        self.lasting = lasting
        self.is_change = False
        self.result: Any = None
        self.error: Exception | None = None


class CatalogueThread:
    """Owns the connection. A call resolves after its transaction is durable.

    One that need not last is only handed to the drive, unless others of its transaction must.

    Calls run in the order in which they were made. A call that fails changes nothing and does not
    disturb the others of its transaction. Cancelling the waiting task does not undo the call.
    """

    def __init__(
        self, path: Path, mirror: SessionMirror | None = None, drives: Drives | None = None
    ) -> None:
        self._path = path
        self._mirror = mirror
        self._drives = drives or Drives(path.parent)
        self._has_files = False
        """Rows were committed whose files no flush covers yet."""
        self._jobs: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False

    async def open(self) -> Opened:
        """Starts the thread; raises what opening the file raised."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[Opened] = self._loop.create_future()
        # A daemon thread: a supervisor that dies must not wait for it, durable is durable.
        self._thread = threading.Thread(
            target=self._run, args=(opened,), name="catalogue", daemon=True
        )
        self._thread.start()
        return await opened

    async def call(self, work: Work[T], lasting: Lasting = ALWAYS) -> T:
        """Runs `work` inside a transaction and returns after the commit."""
        if self._loop is None or self._closing:
            raise HotseatError("shutting_down", "the catalogue is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Call(work, future, lasting))
        return await future

    async def close(self) -> None:
        """Finishes what was asked for, folds the log into the file and ends the thread."""
        thread = self._thread
        if thread is None:
            return
        if not self._closing:
            self._closing = True
            self._jobs.put(None)
        await asyncio.to_thread(thread.join)

    def _run(self, opened: "asyncio.Future[Opened]") -> None:
        try:
            connection, how = open_catalogue(self._path)
            if self._mirror is not None:
                self._mirror.open(connection)
        except Exception as error:  # noqa: BLE001  root of the thread: the opener is told
            failure = as_hotseat_error(error, self._path)
            self._on_loop(lambda: _settle(opened, None, failure))
            return
        self._on_loop(lambda: _settle(opened, how, None))
        try:
            while True:
                batch, is_last = self._take_batch()
                if batch:
                    self._run_batch(connection, batch)
                    self._on_loop(partial(_resolve_all, batch))
                if is_last:
                    break
        finally:
            _fold_log(connection)
            connection.close()

    def _take_batch(self) -> tuple[list[_Call], bool]:
        """Waits for one call, then takes along those that already wait behind it."""
        batch: list[_Call] = []
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            if len(batch) >= _BATCH:
                return batch, False
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _run_batch(self, connection: sqlite3.Connection, batch: list[_Call]) -> None:
        try:
            connection.execute("BEGIN")
            for job in batch:
                self._run_job(connection, job)
            # Files first: what is acknowledged is in both, and the commit is what counts.
            if self._mirror is not None:
                self._mirror.before_commit(connection)
            if failpoints.ARMED:
                failpoints.reach("catalogue.committing")
            connection.execute("COMMIT")
            self._flush_for([job for job in batch if job.is_change])
            if self._mirror is not None:
                self._mirror.after_commit()
            if failpoints.ARMED:
                failpoints.reach("catalogue.committed")
        except (sqlite3.Error, OSError) as error:
            # Nothing of this transaction is durable, also not what seemed to succeed.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            if self._mirror is not None:
                self._mirror.after_rollback()
            failure = as_hotseat_error(error, self._path)
            for job in batch:
                job.error = failure

    def _run_job(self, connection: sqlite3.Connection, job: _Call) -> None:
        connection.execute("SAVEPOINT call")
        changes = connection.total_changes
        try:
            job.result = job.work(connection)
            job.is_change = connection.total_changes > changes
        except Exception as error:
            # Root of the call: its caller gets whatever went wrong.
            if not connection.in_transaction and isinstance(error, sqlite3.Error):
                raise  # SQLite rolled the whole transaction back by itself
            connection.execute("ROLLBACK TO call")
            job.error = as_hotseat_error(error, self._path)
        connection.execute("RELEASE call")

    def _flush_for(self, changes: list[_Call]) -> None:
        self._has_files |= any(job.lasting.has_files for job in changes)
        if any(job.lasting.is_due(job.result) for job in changes):
            self._drives.flush(with_files=self._has_files)
            self._has_files = False

    def _on_loop(self, action: Callable[[], object]) -> None:
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(action)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more


def _resolve_all(batch: list[_Call]) -> None:
    for job in batch:
        _settle(job.future, job.result, job.error)


def _settle(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    """Runs on the loop; a caller that was cancelled is not told."""
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def as_hotseat_error(error: Exception, path: Path) -> Exception:
    """SQLite's errors as errors of the table; all others as they are."""
    if not isinstance(error, sqlite3.Error | OSError):
        return error
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    if name.startswith(_FULL):
        wrapped = HotseatError(
            "disk_full",
            f"catalogue {path} cannot be written ({name}: {error}); free space on its disk",
            file=str(path),
            reason=name,
        )
    else:
        wrapped = HotseatError(
            "internal",
            f"catalogue {path} failed ({name}: {error}); see hotseat.log",
            file=str(path),
            reason=name,
        )
    wrapped.__cause__ = error
    return wrapped


def _fold_log(connection: sqlite3.Connection) -> None:
    # No PRAGMA optimize: statistics of a small catalogue make SQLite scan where it has an index,
    # and with ten thousand sessions the next start took seconds.
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error:
        return  # the log is replayed at the next open
