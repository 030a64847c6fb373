"""SQL of what a session had before and has not now: it stays as cache, and goes with the session.

A history that is replaced, rendered anew or cut leaves blocks and snapshots that the session's ids
do not lead to any more. Runs inside a transaction of the catalogue thread.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from hotseat.protocol.ids import BlockId
from hotseat.supervisor.catalogue.rows import KvFile
from hotseat.supervisor.catalogue.snapshots import Owned, owned

_HAD: Final = """
WITH RECURSIVE
own(id) AS (SELECT block FROM session_blocks WHERE session = ?1
  UNION SELECT block FROM left_blocks WHERE session = ?1),
behind(id) AS (SELECT id FROM own WHERE NOT EXISTS
  (SELECT 1 FROM session_blocks WHERE block = own.id AND session <> ?1)
  UNION SELECT b.id FROM behind JOIN blocks b ON b.parent = behind.id)
SELECT id FROM blocks WHERE id IN (SELECT id FROM own UNION SELECT id FROM behind)
ORDER BY idx
"""


def note_blocks(db: sqlite3.Connection, session_id: int, superseded: Iterable[BlockId]) -> None:
    """The session is not bound to these blocks any more."""
    db.executemany(
        "INSERT OR IGNORE INTO left_blocks (session, block) VALUES (?, ?)",
        [(session_id, block) for block in superseded],
    )


def note_snapshots(db: sqlite3.Connection, session_id: int, before: Sequence[Owned]) -> None:
    """Of the snapshots it began with `before`, the session may begin with fewer now."""
    if not before:
        return
    now = {one.file for one in owned(db, session_id)}
    db.executemany(
        "INSERT OR IGNORE INTO left_snapshots (session, snapshot)"
        " SELECT ?, id FROM snapshots WHERE tag = ? AND file = ?",
        [(session_id, one.file.tag, one.file.file) for one in before if one.file not in now],
    )


def had_blocks(db: sqlite3.Connection, session_id: int) -> list[BlockId]:
    """Blocks the session has or had, and what hangs on those it shares with none; parents first.

    What hangs there and is no session's was written by turns that did not come to their end.
    """
    return [row[0] for row in db.execute(_HAD, (session_id,))]


def had_snapshots(db: sqlite3.Connection, session_id: int) -> list[KvFile]:
    """Snapshots that the session began with once."""
    return [
        KvFile(tag=row[0], file=row[1], size_bytes=row[2])
        for row in db.execute(
            "SELECT n.tag, n.file, n.size_bytes FROM left_snapshots l"
            " JOIN snapshots n ON n.id = l.snapshot WHERE l.session = ?",
            (session_id,),
        )
    ]
