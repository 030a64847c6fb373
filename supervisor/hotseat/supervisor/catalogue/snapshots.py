"""SQL of snapshots: files with the state of recurrent layers. Runs inside a catalogue transaction.

A snapshot belongs to nobody: it is addressed by its token prefix, a block and the ids behind it,
and serves every session whose ids begin with these. Must not know what is in a file.
"""

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from hotseat.protocol.ids import BlockId, ModelName, SessionName, Tag
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_orders import TailRef
from hotseat.protocol.link_reports import TailWritten
from hotseat.protocol.tokens import root_id
from hotseat.supervisor.catalogue.rows import KvFile

KEPT_PER_SESSION: Final = 8
"""The shortest (the system prompt) and the newest ones; what is between costs a longer way back."""
_TOUCH_S: Final = 60.0
_FOLLOWS: Final = """
SELECT id, 0, tag, '', ifnull(substr(tokens, 1, 1024), x'') FROM sessions
UNION ALL SELECT l.session, l.idx + 1, s.tag, l.block, substr(s.tokens, 1025 + 1024 * l.idx, 1024)
FROM session_blocks l JOIN sessions s ON s.id = l.session
WHERE l.block IN (SELECT parent FROM snapshots)
"""
"""Where a snapshot of a session may hang, and the ids of the session behind it.

Of no bytes at all `substr` makes NULL.
"""


class Owned(Struct, frozen=True):
    """A snapshot that is a prefix of a session, and how many tokens that is."""

    session: int
    file: KvFile
    position: int


def add_snapshot(db: sqlite3.Connection, tag: Tag, written: TailWritten, at: float) -> list[KvFile]:
    """Makes a written snapshot known; returned is its file again if there was one of that prefix.

    Its parent has to be stored: without the block the ids in front of it are not known.
    """
    file = KvFile(tag=tag, file=written.file, size_bytes=written.size_bytes)
    depth = _depth(db, tag, written.parent)
    if depth is None:
        return [file]
    added = db.execute(
        "INSERT INTO snapshots (tag, parent, idx, tokens, hint, file, size_bytes, written_at,"
        " used_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            tag,
            written.parent,
            depth,
            written.tokens,
            written.hint,
            written.file,
            written.size_bytes,
            at,
            at,
        ),
    ).rowcount
    known = db.execute(
        "SELECT EXISTS (SELECT 1 FROM snapshots WHERE tag = ? AND file = ?)", (tag, written.file)
    ).fetchone()[0]
    return [] if added or known else [file]


def snapshots_under(
    db: sqlite3.Connection,
    tag: Tag,
    parents: Sequence[BlockId],
    session: tuple[ModelName, SessionName] | None,
    limit: int,
    now: float,
) -> list[TailRef]:
    """Snapshots on one of `parents`: the session's own first, then deepest, then newest."""
    model, name = session if session is not None else (None, None)
    rows = db.execute(
        "SELECT n.id, n.used_at, n.file, n.parent, n.tokens, n.hint FROM snapshots n"
        " WHERE n.tag = ? AND n.parent IN (SELECT value FROM json_each(?))"
        " ORDER BY EXISTS (SELECT 1 FROM snapshot_users u WHERE u.snapshot = n.id"
        " AND u.model IS ? AND u.name IS ?) DESC, n.idx DESC, n.id DESC LIMIT ?",
        (tag, json.dumps(parents), model, name, limit),
    ).fetchall()
    stale = [(now, row[0]) for row in rows if row[1] < now - _TOUCH_S]
    db.executemany("UPDATE snapshots SET used_at = ? WHERE id = ?", stale)
    return [TailRef(file=row[2], parent=row[3], tokens=row[4], hint=row[5]) for row in rows]


def owned(db: sqlite3.Connection, session_id: int) -> list[Owned]:
    """Snapshots that a session begins with, shortest first."""
    return [
        Owned(row[0], KvFile(tag=row[1], file=row[2], size_bytes=row[3]), row[4])
        for row in db.execute(
            "SELECT session, tag, file, size_bytes, position FROM snapshot_users"
            " WHERE session = ? ORDER BY position",
            (session_id,),
        )
    ]


def all_owned(db: sqlite3.Connection) -> list[Owned]:
    """The same for every session. The view would compare each with each snapshot of its tag."""
    rows = _Placed()
    for tag, parent, index, tokens, file, size in db.execute(
        "SELECT tag, parent, idx, tokens, file, size_bytes FROM snapshots"
    ):
        rows.add(
            (tag, parent if index else ""), tokens, KvFile(tag=tag, file=file, size_bytes=size)
        )
    if not rows.places:
        return []
    found = []
    for session, index, tag, parent, follows in db.execute(_FOLLOWS):
        found += [
            Owned(session, file, BLOCK_TOKENS * index + length // 4)
            for length, file in rows.match((tag, parent), follows)
        ]
    return sorted(found, key=lambda one: one.position)


class _Placed:
    """Snapshots by the block they hang on (none: the root of a tag) and the ids behind it."""

    def __init__(self) -> None:
        self.places: dict[tuple[str, str], dict[bytes, KvFile]] = {}
        self._lengths: dict[tuple[str, str], set[int]] = {}

    def add(self, place: tuple[str, str], tokens: bytes, file: KvFile) -> None:
        self.places.setdefault(place, {})[tokens] = file
        self._lengths.setdefault(place, set()).add(len(tokens))

    def match(self, place: tuple[str, str], follows: bytes) -> list[tuple[int, KvFile]]:
        """Those that `follows` begins with, each with its length in bytes."""
        here = self.places.get(place, {})
        return [
            (length, file)
            for length in self._lengths.get(place, ())
            if length <= len(follows) and (file := here.get(follows[:length])) is not None
        ]


def thin_out(db: sqlite3.Connection, session_id: int) -> list[KvFile]:
    """Removes snapshots of a session beyond the first and the newest, unless another needs them."""
    mine = owned(db, session_id)
    surplus = mine[1 : max(1, len(mine) - KEPT_PER_SESSION + 1)]
    return _remove_unshared(db, [one.file for one in surplus], session_id)


def remove_of_session(
    db: sqlite3.Connection, session_id: int, had: Sequence[BlockId], before: Sequence[KvFile]
) -> list[KvFile]:
    """Removes what only this session begins with, and what nobody does but hangs on its blocks.

    `had` are these blocks, `before` are snapshots that it began with once.
    """
    files = [*before, *(one.file for one in owned(db, session_id))]
    files += [
        KvFile(tag=row[0], file=row[1], size_bytes=row[2])
        for row in db.execute(
            "SELECT tag, file, size_bytes FROM snapshots"
            " WHERE parent IN (SELECT value FROM json_each(?))",
            (json.dumps(had),),
        )
    ]
    return _remove_unshared(db, list(dict.fromkeys(files)), session_id)


def remove_file(db: sqlite3.Connection, tag: Tag, file: str) -> bool:
    """Removes the row of a file; False if there is none."""
    return db.execute("DELETE FROM snapshots WHERE tag = ? AND file = ?", (tag, file)).rowcount == 1


def _remove_unshared(
    db: sqlite3.Connection, files: Sequence[KvFile], session_id: int
) -> list[KvFile]:
    removed = []
    for file in files:
        is_shared = db.execute(
            "SELECT EXISTS (SELECT 1 FROM snapshot_users WHERE tag = ? AND file = ?"
            " AND session <> ?)",
            (file.tag, file.file, session_id),
        ).fetchone()[0]
        if not is_shared and remove_file(db, file.tag, file.file):
            removed.append(file)
    return removed


def _depth(db: sqlite3.Connection, tag: Tag, parent: BlockId) -> int | None:
    """Blocks in front of a snapshot; None if its parent is not stored."""
    if parent == root_id(tag):
        return 0
    found = db.execute("SELECT idx FROM blocks WHERE id = ? AND tag = ?", (parent, tag)).fetchone()
    return None if found is None else int(found[0]) + 1
