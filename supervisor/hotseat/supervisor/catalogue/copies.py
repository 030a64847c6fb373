"""Copies of the catalogue as it was before a migration: one beside it, named by its version.

For going back: a catalogue that is made anew from files takes from the copy what files do not hold.
"""

import os
import re
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Final

from msgspec import Struct

from hotseat.protocol.ids import ModelName, SessionName
from hotseat.supervisor.catalogue import sessions
from hotseat.supervisor.catalogue.rebuilding import add_session
from hotseat.supervisor.catalogue.session_files import SessionFile, sync_folder

_TABLES: Final = ("journal", "meta")
Key = tuple[ModelName, SessionName]


class Adopted(Struct, frozen=True, kw_only=True):
    """What a new catalogue took from a copy."""

    sessions: int = 0
    requests: int = 0


def copy_of(path: Path, version: int) -> Path:
    """Where the copy of that version of the catalogue lies, if there is one."""
    return path.with_name(f"{path.name}.v{version}")


def keep_copy(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """The copy is durable and whole, or there is none. Raises sqlite3.Error and OSError."""
    target = copy_of(path, version)
    draft = target.with_name(f"{target.name}.tmp")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with closing(sqlite3.connect(draft, isolation_level=None)) as sink:
            sink.execute("PRAGMA synchronous = FULL")
            sink.execute("PRAGMA fullfsync = ON")
            connection.backup(sink)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def drop_copies_before(path: Path, version: int) -> None:
    """The way back leads one migration back: copies of older versions go."""
    name = re.compile(re.escape(path.name) + r"\.v(\d+)")
    for entry in path.parent.iterdir():
        found = name.fullmatch(entry.name)
        if found is not None and int(found[1]) < version:
            entry.unlink(missing_ok=True)


def known_sessions(path: Path) -> frozenset[Key] | None:
    """Names in a catalogue of any version; None if they cannot be read."""
    try:
        with closing(_read_only(path)) as db:
            return frozenset(db.execute("SELECT model, name FROM sessions"))
    except sqlite3.Error:
        return None


def adopt(db: sqlite3.Connection, copy: Path, kept: Collection[Key] | None) -> Adopted:
    """Takes answers, journal, figures, and sessions without a file.

    `kept`: sessions that were still there when the copy was left behind, None if unknown; others
    were removed since. Requests under way are left out: a newer version may have ended them.
    Runs inside a transaction.
    """
    with closing(_read_only(copy, "&immutable=1")) as old:
        for table in _TABLES:
            _take(db, old, table)
        before = db.total_changes
        _take(db, old, "requests", "WHERE state <> 'accepted'")
        taken = db.total_changes - before
        here = set(db.execute("SELECT model, name FROM sessions"))
        missing = [
            key
            for key in old.execute("SELECT model, name FROM sessions WHERE name NOT LIKE '.%'")
            if key not in here and (kept is None or key in kept)
        ]
        for key in missing:
            _take_session(db, old, key)
    return Adopted(sessions=len(missing), requests=taken)


def _take(db: sqlite3.Connection, old: sqlite3.Connection, table: str, condition: str = "") -> None:
    """Rows that are not there yet."""
    found = old.execute(f"SELECT * FROM {table} {condition}")  # noqa: S608 - our own names
    marks = ", ".join("?" * len(found.description))
    db.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", found)  # noqa: S608 - same


def _take_session(db: sqlite3.Connection, old: sqlite3.Connection, key: Key) -> None:
    row = sessions.session(old, *key)
    if row is not None:
        # Its request is among those that were taken.
        add_session(db, SessionFile(row=row, turns=tuple(sessions.turns(old, *key))))


def _read_only(path: Path, options: str = "") -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{options}", uri=True)
