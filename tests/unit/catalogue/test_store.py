"""Opening, closing, damage, grouping of commits, journal and remembered values."""

import asyncio
import errno
import sqlite3
import stat
import threading

import pytest
from tests.support.models.records import TAG, accept_record

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import BlockId
from hotseat.protocol.tokens import root_id
from hotseat.supervisor.catalogue import journal, schema
from hotseat.supervisor.catalogue.rows import BlockRow
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.catalogue.thread import CatalogueThread


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalogue.sqlite"


async def test_reopened_catalogue_has_what_was_acknowledged(path):
    first = await Catalogue.open(path)
    await first.accept(accept_record())
    await first.close()
    second = await Catalogue.open(path)
    assert (first.opened.created, second.opened.created) == (True, False)
    assert len(await second.unfinished()) == 1
    await second.close()
    await second.close()


async def test_file_is_private_and_synced_at_every_commit(path):
    catalogue = await Catalogue.open(path)
    await catalogue.meta_set("k", "v")
    thread = catalogue._thread
    pragma = {
        name: await thread.call(lambda db, name=name: db.execute(f"PRAGMA {name}").fetchone()[0])
        for name in (
            "journal_mode",
            "synchronous",
            "fullfsync",
            "checkpoint_fullfsync",
            "foreign_keys",
            "user_version",
        )
    }
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    await catalogue.close()
    assert pragma == {
        "journal_mode": "wal",
        "synchronous": 2,
        "fullfsync": 0,
        "checkpoint_fullfsync": 1,
        "foreign_keys": 1,
        "user_version": schema.SCHEMA_VERSION,
    }
    assert modes == {0o600}


@pytest.mark.parametrize("damage", ["garbage", "torn"])
async def test_damaged_file_is_put_aside(path, damage):
    catalogue = await Catalogue.open(path)
    for number in range(200):
        await catalogue.meta_set(f"key{number}", "x" * 200)
    await catalogue.close()
    whole = path.read_bytes()
    torn = whole[:8192] + b"\xff" * 8192 + whole[16384:]
    damaged = b"no database" * 1000 if damage == "garbage" else torn
    path.write_bytes(damaged)
    fresh = await Catalogue.open(path)
    assert fresh.opened.damaged.read_bytes() == damaged
    assert fresh.opened.created
    assert fresh.opened.reason
    assert await fresh.meta_get("key1") is None
    await fresh.close()


async def test_catalogue_of_a_newer_version_is_refused_and_kept(path):
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(HotseatError, match="version 99") as caught:
        await Catalogue.open(path)
    assert caught.value.code == "version_mismatch"
    assert [file.name for file in path.parent.iterdir() if "damaged" in file.name] == []


async def test_folder_that_is_missing_is_a_typed_error(tmp_path):
    with pytest.raises(HotseatError):
        await Catalogue.open(tmp_path / "none" / "catalogue.sqlite")


async def test_waiting_calls_share_a_transaction(path):
    thread = CatalogueThread(path)
    await thread.open()
    is_held, goes_on = threading.Event(), threading.Event()

    def hold(_db):
        is_held.set()
        goes_on.wait(10)

    held = asyncio.create_task(thread.call(hold))
    await asyncio.to_thread(is_held.wait, 10)
    sizes = []
    original = thread._run_batch
    thread._run_batch = lambda db, batch: (sizes.append(len(batch)), original(db, batch))
    calls = [
        asyncio.create_task(thread.call(lambda db: db.execute("DELETE FROM meta")))
        for _ in range(10)
    ]
    await asyncio.sleep(0)  # a turn of the loop, in which the calls are made
    goes_on.set()
    await asyncio.gather(held, *calls)
    await thread.close()
    assert sizes == [10]


async def test_failing_call_leaves_its_neighbours_alone(path):
    thread = CatalogueThread(path)
    await thread.open()

    def fail(db):
        db.execute("INSERT INTO meta VALUES ('lost', 'v')")
        raise KeyError("defect")

    def write(db):
        db.execute("INSERT INTO meta VALUES ('kept', 'v')")

    results = await asyncio.gather(thread.call(fail), thread.call(write), return_exceptions=True)
    rows = await thread.call(lambda db: db.execute("SELECT key FROM meta").fetchall())
    await thread.close()
    assert isinstance(results[0], KeyError)
    assert rows == [("kept",)]


async def test_constraint_violation_is_a_typed_error(path):
    thread = CatalogueThread(path)
    await thread.open()
    with pytest.raises(HotseatError) as caught:
        await thread.call(lambda db: db.execute("INSERT INTO session_blocks VALUES (1, 0, 'none')"))
    await thread.close()
    assert caught.value.code == "internal"


async def test_full_disk_is_disk_full_and_loses_nothing_older(path):
    catalogue = await Catalogue.open(path)
    await catalogue.meta_set("old", "v")
    pages = await catalogue._thread.call(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    await catalogue._thread.call(
        lambda db: db.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone()
    )
    with pytest.raises(HotseatError) as caught:
        await catalogue.meta_set("big", "x" * 100_000)
    assert caught.value.code == "disk_full"
    assert await catalogue.meta_get("old") == "v"
    assert await catalogue.meta_get("big") is None
    await catalogue.meta_set("small", "v")
    await catalogue.close()


async def test_call_after_close_is_refused(path):
    catalogue = await Catalogue.open(path)
    await catalogue.close()
    with pytest.raises(HotseatError) as caught:
        await catalogue.unfinished()
    assert caught.value.code == "shutting_down"


async def test_cancelled_caller_disturbs_nobody(path):
    catalogue = await Catalogue.open(path)
    call = asyncio.create_task(catalogue.meta_set("a", "1"))
    await asyncio.sleep(0)  # a turn of the loop, in which the calls are made
    call.cancel()
    await catalogue.meta_set("b", "2")
    assert await catalogue.meta_get("b") == "2"
    await catalogue.close()


async def test_journal_numbers_go_on_after_reopening(path):
    catalogue = await Catalogue.open(path)
    assert await catalogue.last_seq() == 0
    assert await catalogue.journal("swap.started", {"to": "m", "n": 1}, 5.0) == 1
    await catalogue.close()
    catalogue = await Catalogue.open(path)
    assert await catalogue.journal("swap.finished", {}, 6.0) == 2
    (event,) = await catalogue.journal_since(1)
    assert (event.seq, event.at, event.name) == (2, 6.0, "swap.finished")
    assert (await catalogue.journal_since(0, limit=1))[0].facts == {"to": "m", "n": 1}
    assert await catalogue.last_seq() == 2
    await catalogue.close()


async def test_long_journal_drops_its_oldest(path, monkeypatch):
    monkeypatch.setattr(journal, "KEPT", 100)
    catalogue = await Catalogue.open(path)
    await asyncio.gather(*[catalogue.journal("a.b", {}, 0.0) for _ in range(500)])
    events = await catalogue.journal_since(0)
    await catalogue.close()
    assert (events[0].seq, len(events)) == (401, 100)


async def test_remembered_value_is_replaced(path):
    catalogue = await Catalogue.open(path)
    assert await catalogue.meta_get("k") is None
    await catalogue.meta_set("k", "1")
    await catalogue.meta_set("k", "2")
    assert await catalogue.meta_get("k") == "2"
    await catalogue.close()


class Flushes:
    """Drives that count, and fail if they are told to."""

    def __init__(self):
        self.count = 0
        self.with_files = []
        self.error = None

    def flush(self, *, with_files):
        self.count += 1
        self.with_files.append(with_files)
        if self.error is not None:
            raise self.error


async def test_only_changes_that_must_last_flush_the_drive(path):
    drives = Flushes()
    catalogue = await Catalogue.open(path, drives=drives)
    await catalogue.meta_get("k")
    await catalogue.add_blocks([block("b" * 32, "blocks/bb/b.kv")])
    assert drives.count == 0, "a look, and a row that its file can give again"
    await catalogue.meta_set("k", "v")
    assert drives.count == 1
    assert await catalogue.add_blocks([block("b" * 32, "blocks/bb/b.1.kv")])
    assert drives.count == 2, "before a file goes, the row that named it has to be gone"
    await catalogue.meta_set("k", "w")
    assert drives.with_files == [True, True, False], "files are flushed once"
    await catalogue.close()


async def test_change_that_the_drive_does_not_keep_is_told(path):
    drives = Flushes()
    catalogue = await Catalogue.open(path, drives=drives)
    drives.error = OSError(errno.EIO, "input/output error")
    with pytest.raises(HotseatError, match=r"input/output error.*see hotseat.log") as caught:
        await catalogue.meta_set("k", "v")
    assert caught.value.code == "internal"
    drives.error = None
    await catalogue.meta_set("k", "w")
    assert await catalogue.meta_get("k") == "w"
    await catalogue.close()


def block(name, file):
    return BlockRow(
        id=BlockId(name),
        tag=TAG,
        parent=root_id(TAG),
        index=0,
        file=file,
        size_bytes=1,
        written_at=0.0,
    )
