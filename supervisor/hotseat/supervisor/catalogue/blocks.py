"""SQL of KV files: blocks, chains of sessions, tails. Runs inside a catalogue transaction.

Invariant: the rows of `session_blocks` of a session are the stored prefix of its chain, numbered
from 0 without a gap. Files exist before their rows; files go after their rows are gone.
"""

import json
import sqlite3
import time
from collections.abc import Collection, Sequence
from typing import Final

from hotseat.protocol.ids import BlockId, ModelName, SessionName, Tag
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_orders import TailRef
from hotseat.protocol.link_reports import TailWritten
from hotseat.protocol.tokens import block_chain, root_id, unpack_tokens
from hotseat.supervisor.catalogue import superseded
from hotseat.supervisor.catalogue.rows import BlockRow, KvFile, TagTotals
from hotseat.supervisor.conversation.prompt_size import StoredUnder

_BLOCK_BYTES: Final = 4 * BLOCK_TOKENS
_TOUCH_S: Final = 60.0
"""A block that was touched more recently is not touched again: a lookup shall not cost a sync."""
MOST_TAILS: Final = 64
"""Offered for one lookup."""
_CUT_BLOCKS: Final = 4
"""More candidates would only cost the worker comparisons."""
_BEHIND: Final = """
SELECT b.id, b.file, CASE WHEN length(b.tokens) = ? THEN b.tokens ELSE
  (SELECT substr(s.tokens, 1 + b.idx * ?, ?) FROM session_blocks l
   JOIN sessions s ON s.id = l.session WHERE l.block = b.id LIMIT 1) END
FROM blocks b WHERE b.tag = ? AND b.parent = ? ORDER BY b.used_at DESC LIMIT ?
"""


def add_blocks(db: sqlite3.Connection, written: Sequence[BlockRow]) -> list[KvFile]:
    """Makes written blocks known; files that they replace are returned."""
    return [file for block in written for file in add_block(db, block)]


def add_block(db: sqlite3.Connection, block: BlockRow) -> list[KvFile]:
    """Makes a written block known; a file that it replaces is returned."""
    before = db.execute(
        "SELECT tag, file, size_bytes FROM blocks WHERE id = ?", (block.id,)
    ).fetchone()
    db.execute(
        "INSERT INTO blocks (id, tag, parent, idx, file, size_bytes, written_at, used_at, tokens)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET file = excluded.file,"
        " size_bytes = excluded.size_bytes, written_at = excluded.written_at,"
        " used_at = excluded.used_at, tokens = excluded.tokens",
        (
            block.id,
            block.tag,
            block.parent,
            block.index,
            block.file,
            block.size_bytes,
            block.written_at,
            block.written_at,
            block.tokens,
        ),
    )
    if before is None or before[1] == block.file:
        return []
    return [KvFile(tag=before[0], file=before[1], size_bytes=before[2])]


def known_prefix(
    db: sqlite3.Connection, tag: Tag, ids: Sequence[BlockId], now: float | None = None
) -> int:
    """How many of a chain of ids are stored, counted from its start; they count as used now."""
    now = time.time() if now is None else now
    wanted = json.dumps(ids)
    used = dict(
        db.execute(
            "SELECT id, used_at FROM blocks WHERE tag = ?"
            " AND id IN (SELECT value FROM json_each(?))",
            (tag, wanted),
        )
    )
    count = 0
    while count < len(ids) and ids[count] in used:
        count += 1
    if any(used[block] < now - _TOUCH_S for block in ids[:count]):
        db.execute(
            "UPDATE blocks SET used_at = ? WHERE id IN (SELECT value FROM json_each(?))",
            (now, json.dumps(ids[:count])),
        )
    return count


def link_chain(db: sqlite3.Connection, session_id: int, chain: Sequence[BlockId]) -> int:
    """Binds the stored prefix of `chain` to the session; returns how many blocks that is."""
    linked: list[BlockId] = [
        row[0]
        for row in db.execute(
            "SELECT block FROM session_blocks WHERE session = ? ORDER BY idx", (session_id,)
        )
    ]
    same = 0
    while same < min(len(linked), len(chain)) and linked[same] == chain[same]:
        same += 1
    superseded.note_blocks(db, session_id, linked[same:])
    db.execute("DELETE FROM session_blocks WHERE session = ? AND idx >= ?", (session_id, same))
    fresh = chain[same:]
    stored = {
        row[0]
        for row in db.execute(
            "SELECT id FROM blocks WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(fresh),),
        )
    }
    for block in fresh:
        if block not in stored:
            break
        db.execute(
            "INSERT INTO session_blocks (session, idx, block) VALUES (?, ?, ?)",
            (session_id, same, block),
        )
        same += 1
    return same


def drop_useless_tail(
    db: sqlite3.Connection,
    session_id: int,
    tag: Tag,
    chain: Sequence[BlockId],
    stored: int,
    tokens: bytes,
) -> list[KvFile]:
    """Removes the session's tail unless it still is a prefix of what follows its stored blocks."""
    found = db.execute(
        "SELECT tag, parent, idx, tokens FROM tails WHERE session = ?", (session_id,)
    ).fetchone()
    if found is None:
        return []
    if found[0] == tag and _extends(tag, chain, stored, tokens, found[1], found[3]):
        return []
    return remove_tail(db, session_id)


def drop_foreign_tail(
    db: sqlite3.Connection,
    session_id: int,
    tag: Tag,
    chain: Sequence[BlockId],
    stored: int,
    tokens: bytes,
) -> list[KvFile]:
    """Removes the tail of a session that was cut, unless the session ends in it."""
    found = db.execute(
        "SELECT tag, parent, tokens FROM tails WHERE session = ?", (session_id,)
    ).fetchone()
    if found is None:
        return []
    follows = tokens[stored * _BLOCK_BYTES :]
    last = chain[stored - 1] if stored else root_id(tag)
    if found[0] == tag and found[1] == last and follows and found[2].startswith(follows):
        return []
    return drop_useless_tail(db, session_id, tag, chain, stored, tokens)


def commit_tail(
    db: sqlite3.Connection,
    tag: Tag,
    model: ModelName,
    name: SessionName,
    tail: TailWritten,
    at: float,
) -> list[KvFile]:
    """Makes a written tail the tail of its session.

    Returns the files that nobody needs: the tail before it, or this one when the session is gone,
    has moved on or has a longer one.
    """
    refused = [KvFile(tag=tag, file=tail.file, size_bytes=tail.size_bytes)] if tail.file else []
    found = db.execute(
        "SELECT id, tokens FROM sessions WHERE model = ? AND name = ? AND tag = ?",
        (model, name, tag),
    ).fetchone()
    if found is None:
        return refused
    session_id, tokens = found
    chain = block_chain(tag, unpack_tokens(tokens))
    if tail.hint and tokens[len(chain) * _BLOCK_BYTES :] == tail.tokens:
        db.execute("UPDATE sessions SET hint = ? WHERE id = ?", (tail.hint, session_id))
    stored = link_chain(db, session_id, chain)
    obsolete = drop_useless_tail(db, session_id, tag, chain, stored, tokens)
    if not tail.file:
        return obsolete
    kept = db.execute(
        "SELECT file, length(tokens) FROM tails WHERE session = ?", (session_id,)
    ).fetchone()
    if kept is not None and kept[0] == tail.file:
        return obsolete
    is_longer = kept is None or len(tail.tokens) >= kept[1]
    if not (is_longer and _extends(tag, chain, stored, tokens, tail.parent, tail.tokens)):
        return obsolete + refused
    obsolete += remove_tail(db, session_id)
    db.execute(
        "INSERT INTO tails (session, tag, parent, idx, tokens, hint, file, size_bytes, written_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            session_id,
            tag,
            tail.parent,
            stored,
            tail.tokens,
            tail.hint,
            tail.file,
            tail.size_bytes,
            at,
        ),
    )
    return obsolete


def tails_under(
    db: sqlite3.Connection,
    tag: Tag,
    parents: Sequence[BlockId],
    session: tuple[ModelName, SessionName] | None,
    limit: int,
) -> list[TailRef]:
    """Tails that hang on one of `parents`: the session's own, then deepest, then newest first."""
    model, name = session if session is not None else (None, None)
    return [
        TailRef(file=found[0], parent=found[1], tokens=found[2], hint=found[3])
        for found in db.execute(
            "SELECT t.file, t.parent, t.tokens, t.hint FROM tails t"
            " JOIN sessions s ON s.id = t.session"
            " WHERE t.tag = ? AND t.parent IN (SELECT value FROM json_each(?))"
            " ORDER BY (s.model IS ? AND s.name IS ?) DESC, t.idx DESC, t.id DESC LIMIT ?",
            (tag, json.dumps(parents), model, name, limit),
        )
    ]


def blocks_behind(
    db: sqlite3.Connection, tag: Tag, parent: BlockId, limit: int = _CUT_BLOCKS
) -> list[tuple[BlockId, TailRef]]:
    """Blocks that follow `parent`, told like tails: a prompt may share the beginning of one.

    Their tokens are those of a session that they are linked to, unless the row has them itself.
    """
    size = _BLOCK_BYTES
    return [
        (BlockId(found[0]), TailRef(file=found[1], parent=parent, tokens=found[2]))
        for found in db.execute(_BEHIND, (size, size, size, tag, parent, limit))
        if len(found[2] or b"") == size
    ]


def stored_under(db: sqlite3.Connection, tag: Tag, chain: Sequence[BlockId]) -> StoredUnder:
    """What a lookup of this chain would find; nothing counts as used by it."""
    count = known_prefix(db, tag, chain, now=0.0)
    parents = (root_id(tag), *chain[:count])
    tails = tails_under(db, tag, parents, None, MOST_TAILS)
    behind = blocks_behind(db, tag, parents[-1], MOST_TAILS)
    return StoredUnder(count, (*tails, *(ref for _, ref in behind)))


def remove_tail(db: sqlite3.Connection, session_id: int) -> list[KvFile]:
    """Removes the session's tail, if it has one."""
    return [
        KvFile(tag=found[0], file=found[1], size_bytes=found[2])
        for found in db.execute(
            "DELETE FROM tails WHERE session = ? RETURNING tag, file, size_bytes", (session_id,)
        ).fetchall()
    ]


def remove_unused(
    db: sqlite3.Connection, candidates: Sequence[BlockId], leased: Collection[BlockId]
) -> list[KvFile]:
    """Removes blocks that nobody needs, last first; pass parents before what hangs on them."""
    files: list[KvFile] = []
    for block in reversed(candidates):
        is_needed = db.execute(
            "SELECT EXISTS (SELECT 1 FROM session_blocks WHERE block = ?1)"
            " OR EXISTS (SELECT 1 FROM blocks WHERE parent = ?1)"
            " OR EXISTS (SELECT 1 FROM tails WHERE parent = ?1)"
            " OR EXISTS (SELECT 1 FROM snapshots WHERE parent = ?1)",
            (block,),
        ).fetchone()[0]
        if not (is_needed or block in leased):
            files += _remove_block(db, block)
    return files


def forget_file(db: sqlite3.Connection, tag: Tag, file: str) -> bool:
    """Removes a damaged file's row; chains that used it end before it. False if unknown."""
    tail = db.execute("DELETE FROM tails WHERE tag = ? AND file = ?", (tag, file)).rowcount
    tail += db.execute("DELETE FROM snapshots WHERE tag = ? AND file = ?", (tag, file)).rowcount
    found = db.execute("SELECT id FROM blocks WHERE tag = ? AND file = ?", (tag, file)).fetchone()
    if found is None:
        return tail == 1
    users = db.execute("SELECT session, idx FROM session_blocks WHERE block = ?", found).fetchall()
    for session_id, index in users:
        superseded.note_blocks(db, session_id, _linked_from(db, session_id, index + 1))
    db.executemany("DELETE FROM session_blocks WHERE session = ? AND idx >= ?", users)
    db.execute("DELETE FROM blocks WHERE id = ?", found)
    return True


def files(db: sqlite3.Connection, tag: Tag) -> set[str]:
    """Names of all files of a tag that are in use or kept as cache."""
    return {
        found[0]
        for found in db.execute(
            "SELECT file FROM blocks WHERE tag = ?1"
            " UNION ALL SELECT file FROM tails WHERE tag = ?1"
            " UNION ALL SELECT file FROM snapshots WHERE tag = ?1",
            (tag,),
        )
    }


def totals(db: sqlite3.Connection) -> list[TagTotals]:
    """Bytes and files per tag, largest first."""
    return [
        TagTotals(
            tag=found[0],
            size_bytes=found[1],
            blocks=found[2],
            tails=found[3],
            snapshots=found[4],
        )
        for found in db.execute(
            "SELECT tag, SUM(size_bytes) AS bytes, SUM(kind = 'block'), SUM(kind = 'tail'),"
            " SUM(kind = 'snapshot') FROM (SELECT tag, size_bytes, 'block' AS kind FROM blocks"
            " UNION ALL SELECT tag, size_bytes, 'tail' FROM tails"
            " UNION ALL SELECT tag, size_bytes, 'snapshot' FROM snapshots)"
            " GROUP BY tag ORDER BY bytes DESC, tag"
        )
    ]


def _linked_from(db: sqlite3.Connection, session_id: int, index: int) -> list[BlockId]:
    return [
        row[0]
        for row in db.execute(
            "SELECT block FROM session_blocks WHERE session = ? AND idx >= ?", (session_id, index)
        )
    ]


def _remove_block(db: sqlite3.Connection, block: BlockId) -> list[KvFile]:
    return [
        KvFile(tag=found[0], file=found[1], size_bytes=found[2])
        for found in db.execute(
            "DELETE FROM blocks WHERE id = ? RETURNING tag, file, size_bytes", (block,)
        ).fetchall()
    ]


def _extends(
    tag: Tag,
    chain: Sequence[BlockId],
    stored: int,
    tokens: bytes,
    parent: BlockId,
    tail_tokens: bytes,
) -> bool:
    """True if a tail continues the stored blocks of a session with ids the session has there."""
    last = chain[stored - 1] if stored else root_id(tag)
    follows = tokens[stored * _BLOCK_BYTES : (stored + 1) * _BLOCK_BYTES]
    return parent == last and bool(tail_tokens) and follows.startswith(tail_tokens)
