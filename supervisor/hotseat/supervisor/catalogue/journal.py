"""SQL of the journal and of remembered values. Runs inside a transaction of the thread."""

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from hotseat.protocol.replies import Event

KEPT: Final = 20_000
"""Entries that stay readable; older ones are dropped now and then."""
_TRIM_EVERY: Final = 500
_PAGE: Final = 1_000


def append(db: sqlite3.Connection, name: str, facts: Mapping[str, Any], at: float) -> int:
    """Adds an entry and returns its number; numbers are never used twice."""
    seq = db.execute(
        "INSERT INTO journal (at, name, facts) VALUES (?, ?, ?)",
        (at, name, msgspec.json.encode(facts).decode()),
    ).lastrowid
    if seq is None:
        raise sqlite3.InternalError("an insert gave no row number")
    if seq % _TRIM_EVERY == 0:
        db.execute("DELETE FROM journal WHERE seq <= ?", (seq - KEPT,))
    return seq


def since(db: sqlite3.Connection, seq: int, limit: int = _PAGE) -> list[Event]:
    """Entries after number `seq`, oldest first."""
    return [
        Event(seq=found[0], at=found[1], name=found[2], facts=msgspec.json.decode(found[3]))
        for found in db.execute(
            "SELECT seq, at, name, facts FROM journal WHERE seq > ? ORDER BY seq LIMIT ?",
            (seq, limit),
        )
    ]


def last_seq(db: sqlite3.Connection) -> int:
    """Number of the newest entry ever made, 0 if there was none."""
    found = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'journal'").fetchone()
    return 0 if found is None else int(found[0])


def meta_get(db: sqlite3.Connection, key: str) -> str | None:
    """A remembered value."""
    found = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if found is None else str(found[0])


def meta_set(db: sqlite3.Connection, key: str, value: str) -> None:
    """Remembers a value under a key."""
    db.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )
