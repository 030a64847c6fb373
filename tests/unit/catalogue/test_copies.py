"""A migration leaves one copy of what an older version reads, and a home goes back with it."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
from tests.support.models.records import accept_record, turn_commit

from hotseat.protocol.errors import HotseatError
from hotseat.supervisor.catalogue import copies, schema
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.kv.rebuild import rebuild_home
from hotseat.supervisor.settings.home import Home

OWN = schema.SCHEMA_VERSION
NEXT = "ALTER TABLE sessions ADD COLUMN mood TEXT NOT NULL DEFAULT 'fine';"


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "h")
    made.create()
    return made


@pytest.fixture
def upgrade(monkeypatch):
    """The next versions of hotseat; a call goes to the version after that many more steps."""
    own = schema._MIGRATIONS

    def go(*steps):
        monkeypatch.setattr(schema, "_MIGRATIONS", (*own, *steps))
        monkeypatch.setattr(schema, "SCHEMA_VERSION", len(own) + len(steps))

    return go


def version_of(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


async def with_catalogue(home, work, mirrors=True):
    catalogue = await Catalogue.open(home.catalogue, home.sessions_dir if mirrors else None)
    try:
        return await work(catalogue)
    finally:
        await catalogue.close()


async def say(home, name, tokens, mirrors=True):
    commit = turn_commit(tokens, name, messages=name.encode())
    await with_catalogue(home, lambda catalogue: catalogue.commit_turn(commit), mirrors)


async def names(home):
    rows = await with_catalogue(home, lambda catalogue: catalogue.session_summaries())
    return sorted((row.name, row.turn) for row in rows)


async def test_fresh_and_current_catalogues_leave_no_copy(home):
    await say(home, "s", [1, 2])
    await say(home, "s", [1, 2, 3])
    assert list(home.root.glob("catalogue.sqlite.v*")) == []


async def test_migration_leaves_a_private_copy_that_the_older_version_opens(home, upgrade):
    await say(home, "s", [1, 2])
    upgrade(NEXT)
    assert await names(home) == [("s", 1)]
    copy = copies.copy_of(home.catalogue, OWN)
    assert (version_of(copy), version_of(home.catalogue)) == (OWN, OWN + 1)
    assert copy.stat().st_mode & 0o077 == 0
    upgrade()
    home.catalogue.unlink()
    copy.rename(home.catalogue)
    assert await names(home) == [("s", 1)]


async def test_copies_of_older_versions_go_with_the_next_migration(home, upgrade):
    await say(home, "s", [1, 2])
    upgrade(NEXT)
    await names(home)
    upgrade(NEXT, "CREATE TABLE more (x INTEGER) STRICT;")
    await names(home)
    assert [path.name for path in home.root.glob("*.v*")] == [f"catalogue.sqlite.v{OWN + 1}"]


async def test_migration_that_fails_changes_nothing_and_keeps_the_older_copy(home, upgrade):
    await say(home, "s", [1, 2])
    upgrade(NEXT)
    await names(home)
    upgrade(NEXT, "CREATE TABLE more (x INTEGER) STRICT;", "no SQL at all;")
    with pytest.raises(HotseatError):
        await names(home)
    assert version_of(home.catalogue) == OWN + 1
    with closing(sqlite3.connect(home.catalogue)) as db:
        assert db.execute("SELECT name FROM sqlite_master WHERE name = 'more'").fetchall() == []
    assert copies.copy_of(home.catalogue, OWN).exists()
    upgrade(NEXT)
    assert await names(home) == [("s", 1)]


async def test_copy_that_cannot_be_written_stops_the_migration(home, upgrade, monkeypatch):
    await say(home, "s", [1, 2])
    upgrade(NEXT)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copies, "sync_folder", full)
    with pytest.raises(HotseatError) as caught:
        await names(home)
    assert str(home.catalogue) in caught.value.message
    assert version_of(home.catalogue) == OWN


async def test_way_back_is_named_and_brings_back_all_that_was_said_since(home, upgrade):
    await with_catalogue(home, lambda catalogue: catalogue.accept(accept_record(session="kept")))
    ended = turn_commit([1, 2], "kept", key=accept_record().key, reply=b"answer", messages=b"m")
    await with_catalogue(home, lambda catalogue: catalogue.commit_turn(ended))
    await with_catalogue(home, lambda catalogue: catalogue.meta_set("figure", "7"))
    await say(home, "removed", [5])
    upgrade(NEXT)
    await say(home, "kept", [1, 2, 3])
    await say(home, "new", [4])
    await with_catalogue(home, lambda catalogue: catalogue.delete_session("m", "removed"))
    upgrade()
    with pytest.raises(HotseatError) as caught:
        await names(home)
    assert caught.value.code == "version_mismatch"
    assert "`hotseat kv rebuild`" in caught.value.message
    rebuilt, aside = await rebuild_home(home)
    assert rebuilt.sessions == 2 and version_of(aside) == OWN + 1
    assert await names(home) == [("kept", 2), ("new", 1)]
    assert version_of(home.catalogue) == OWN

    async def look(catalogue):
        return await catalogue.request(accept_record().key), await catalogue.meta_get("figure")

    request, figure = await with_catalogue(home, look)
    assert (request.reply, figure) == (b"answer", "7")


async def test_way_back_keeps_a_session_that_has_no_file_yet(home, upgrade):
    await say(home, "old", [1, 2], mirrors=False)
    upgrade(NEXT)
    await names(home)
    upgrade()
    rebuilt, _ = await rebuild_home(home)
    assert rebuilt.copied_sessions == 1
    assert await names(home) == [("old", 1)]


async def test_way_back_does_not_take_up_requests_that_may_have_ended_since(home, upgrade):
    await with_catalogue(home, lambda catalogue: catalogue.accept(accept_record(session="s")))
    upgrade(NEXT)
    await names(home)
    upgrade()
    await rebuild_home(home)
    assert await with_catalogue(home, lambda catalogue: catalogue.unfinished()) == []


def test_copy_is_whole_while_the_log_is_not_folded(tmp_path):
    """What was committed and lies in the WAL alone is in the copy."""
    path = tmp_path / "catalogue.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(schema._V1 + "PRAGMA user_version = 1;")
        db.execute("INSERT INTO meta VALUES ('a', 'b')")
        copies.keep_copy(db, path, 1)
        with closing(sqlite3.connect(copies.copy_of(path, 1))) as copy:
            assert copy.execute("SELECT * FROM meta").fetchall() == [("a", "b")]
    assert asyncio.run(_opens(path))


async def _opens(path):
    catalogue = await Catalogue.open(path)
    await catalogue.close()
    return copies.copy_of(path, 1).exists()
