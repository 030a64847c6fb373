"""Fills an empty catalogue from KV files and session files. Runs inside a catalogue transaction.

What the files say is all there is: requests under way, the journal and measured costs are not in
them. A block whose chain has a gap is of no use and stays unnamed, for the sweep.
"""

import sqlite3
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from hotseat.protocol.ids import BlockId, Tag
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_reports import TailWritten
from hotseat.protocol.tokens import block_chain, block_id, root_id, unpack_tokens
from hotseat.supervisor.catalogue import blocks, snapshots
from hotseat.supervisor.catalogue.rows import BlockRow
from hotseat.supervisor.catalogue.session_files import SessionFile

_TOKEN_BYTES: Final = 4


class FoundFile(Struct, frozen=True, kw_only=True):
    """A KV file whose header verifies: `tokens` (packed ids) follow block `parent`."""

    tag: Tag
    file: str
    size_bytes: int
    parent: BlockId
    tokens: bytes
    hint: bytes
    written_at: float

    @property
    def is_block(self) -> bool:
        """True for a full block under the name of one."""
        is_full = len(self.tokens) == BLOCK_TOKENS * _TOKEN_BYTES
        return is_full and self.file.startswith("blocks/")

    @property
    def is_tail(self) -> bool:
        """True for what follows the last full block of a session."""
        return self.file.startswith("tails/")

    @property
    def is_snapshot(self) -> bool:
        """True for the state of recurrent layers."""
        return self.file.startswith("snapshots/")


class Found(Struct, frozen=True, kw_only=True):
    """What was on disk."""

    files: tuple[FoundFile, ...]
    sessions: tuple[SessionFile, ...]


class Rebuilt(Struct, frozen=True, kw_only=True):
    """What the catalogue has again. `unused_files` fit nowhere."""

    sessions: int = 0
    turns: int = 0
    replies: int = 0
    blocks: int = 0
    tails: int = 0
    snapshots: int = 0
    unused_files: int = 0
    copied_sessions: int = 0
    """Without a file of their own: from the copy of the catalogue before a migration."""
    copied_replies: int = 0
    """From the same copy."""


def rebuild(db: sqlite3.Connection, found: Found) -> Rebuilt:
    """Blocks first, then sessions with their chains, then tails and snapshots."""
    rows = _block_rows(found.files)
    for row in rows:
        blocks.add_block(db, row)
    turns = replies = 0
    for content in found.sessions:
        turns += add_session(db, content)
        replies += content.request is not None
    tails = _add_tails(db, found)
    added = _add_snapshots(db, found)
    return Rebuilt(
        sessions=len(found.sessions),
        turns=turns,
        replies=replies,
        blocks=len(rows),
        tails=tails,
        snapshots=added,
        unused_files=len(found.files) - len(rows) - tails - added,
    )


def _block_rows(files: Iterable[FoundFile]) -> list[BlockRow]:
    """Blocks that can be reached from the root of their tag, parents before children."""
    children: dict[tuple[Tag, BlockId], list[FoundFile]] = {}
    for file in files:
        if file.is_block:
            children.setdefault((file.tag, file.parent), []).append(file)
    waiting = [(tag, root_id(tag), 0) for tag in {file.tag for file in files}]
    rows: dict[BlockId, BlockRow] = {}
    while waiting:
        tag, parent, index = waiting.pop()
        for file in children.get((tag, parent), ()):
            block = block_id(tag, parent, unpack_tokens(file.tokens))
            if block in rows:
                continue
            rows[block] = BlockRow(
                id=block,
                tag=tag,
                parent=parent,
                index=index,
                file=file.file,
                size_bytes=file.size_bytes,
                written_at=file.written_at,
                tokens=file.tokens,
            )
            waiting.append((tag, block, index + 1))
    return list(rows.values())


def add_session(db: sqlite3.Connection, content: SessionFile) -> int:
    """Session, turns and last reply; how many turns it has."""
    row = msgspec.structs.asdict(content.row)
    del row["id"]
    session_id = _insert(db, "sessions", row)
    for turn in content.turns:
        _insert(db, "turns", {"session": session_id} | msgspec.structs.asdict(turn))
    if content.request is not None:
        _insert(db, "requests", msgspec.structs.asdict(content.request))
    chain = block_chain(content.row.tag, unpack_tokens(content.row.tokens))
    blocks.link_chain(db, session_id, chain)
    return len(content.turns)


def _add_tails(db: sqlite3.Connection, found: Found) -> int:
    """Gives every session the longest tail that continues what it has; how many got one."""
    by_parent: dict[tuple[Tag, BlockId], list[FoundFile]] = {}
    for file in found.files:
        if file.is_tail:
            by_parent.setdefault((file.tag, file.parent), []).append(file)
    used: set[tuple[Tag, str]] = set()
    for content in found.sessions:
        row = content.row
        chain = [root_id(row.tag), *block_chain(row.tag, unpack_tokens(row.tokens))]
        candidates = [file for parent in chain for file in by_parent.get((row.tag, parent), ())]
        candidates.sort(key=lambda file: (len(file.tokens), file.written_at), reverse=True)
        for file in candidates:
            if (row.tag, file.file) in used:
                continue
            report = TailWritten(
                session=row.name,
                parent=file.parent,
                tokens=file.tokens,
                hint=file.hint,
                file=file.file,
                size_bytes=file.size_bytes,
            )
            refused = blocks.commit_tail(db, row.tag, row.model, row.name, report, file.written_at)
            if not any(one.file == file.file for one in refused):
                used.add((row.tag, file.file))
                break
    return len(used)


def _add_snapshots(db: sqlite3.Connection, found: Found) -> int:
    """Every snapshot whose block is there; how many."""
    count = 0
    for file in found.files:
        if not file.is_snapshot:
            continue
        report = TailWritten(
            kind="snapshot",
            session="",
            parent=file.parent,
            tokens=file.tokens,
            hint=file.hint,
            file=file.file,
            size_bytes=file.size_bytes,
        )
        count += not snapshots.add_snapshot(db, file.tag, report, file.written_at)
    return count


def _insert(db: sqlite3.Connection, table: str, values: dict[str, object]) -> int:
    """Fields have the names of their columns."""
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    cursor = db.execute(
        f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608 - our own names
        tuple(values.values()),
    )
    return cursor.lastrowid or 0
