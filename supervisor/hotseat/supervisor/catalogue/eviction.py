"""SQL of the disk tier's size: the files as a tree, what is taken out of it, figures per tag.

Rows become nodes here and chosen nodes lose their rows; `rules/eviction_order.py` chooses.
"""

import sqlite3
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct

from hotseat.protocol.ids import BlockId, ModelName, SessionName, Tag
from hotseat.supervisor.catalogue.rows import KvFile
from hotseat.supervisor.catalogue.rules.eviction_order import KvNode, Worth, files_to_evict
from hotseat.supervisor.catalogue.snapshots import all_owned, remove_file

_TAIL: Final = "tail:"
_SNAPSHOT: Final = "snapshot:"
_HIDDEN: Final = "."


class Kept(Struct, frozen=True, kw_only=True):
    """What eviction must not touch, and which tags are still of use (None: all).

    `sessions`: (model, name) of those that run or are live. Files written at or after
    `young_since` may belong to a turn that is not committed yet.
    """

    blocks: frozenset[BlockId] = frozenset()
    tails: frozenset[str] = frozenset()
    sessions: frozenset[tuple[ModelName, SessionName]] = frozenset()
    young_since: float = float("inf")
    usable_tags: frozenset[Tag] | None = None


class Evicted(Struct, frozen=True, kw_only=True):
    """Files that no row names any more, and the sessions that have to compute again."""

    files: tuple[KvFile, ...] = ()
    sessions: tuple[tuple[ModelName, SessionName], ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of the files."""
        return sum(file.size_bytes for file in self.files)


class TagUsage(Struct, frozen=True, kw_only=True):
    """KV on disk of one tag. `models` have sessions under it; `is_usable`: one has it now."""

    tag: Tag
    is_usable: bool
    models: tuple[str, ...]
    size_bytes: int
    pinned_bytes: int
    unreferenced_bytes: int
    blocks: int
    tails: int
    sessions: int
    snapshots: int = 0


class _Owner(Struct, frozen=True):
    """A session that needs files."""

    key: tuple[ModelName, SessionName]
    used_at: float
    is_kept: bool


class _FileRow(Struct, frozen=True):
    """A row of either table."""

    node: str
    parent: str
    tag: Tag
    file: str
    size_bytes: int
    depth: int
    used_at: float
    written_at: float


def evict(
    db: sqlite3.Connection,
    wanted_bytes: float,
    kept: Kept,
    most: Worth = Worth.SESSION,
    *,
    dry_run: bool = False,
) -> Evicted:
    """Takes files out of the catalogue until `wanted_bytes` went; they may be unlinked then."""
    owners = _owners(db, kept)
    users = _users(db)
    chosen = files_to_evict(_nodes(db, kept, owners, users), wanted_bytes, most)
    lost: set[int] = set()
    for node in chosen:
        lost.update(users.get(node.node, ()))
    if not dry_run:
        _remove(db, chosen)
    return Evicted(
        files=tuple(KvFile(tag=n.tag, file=n.file, size_bytes=n.size_bytes) for n in chosen),
        sessions=tuple(sorted(owners[session].key for session in lost)),
    )


def usage(db: sqlite3.Connection, usable: frozenset[Tag]) -> list[TagUsage]:
    """Figures per tag, largest first; a block shared by pinned and other sessions is pinned."""
    kept = Kept(usable_tags=usable)
    owners, users = _owners(db, kept), _users(db)
    pinned = {row[0] for row in db.execute("SELECT id FROM sessions WHERE pinned")}
    found: dict[Tag, _Tally] = {}
    for node in _nodes(db, kept, owners, users):
        tally = found.setdefault(node.tag, _Tally())
        tally.add(node, users.get(node.node, ()), pinned)
    for tag, model, count in db.execute(
        "SELECT tag, model, COUNT(*) FROM sessions WHERE substr(name, 1, 1) <> '.'"
        " GROUP BY tag, model"
    ):
        tally = found.setdefault(tag, _Tally())
        tally.sessions += count
        tally.models.add(model)
    rows = [tally.row(tag, is_usable=tag in usable) for tag, tally in found.items()]
    return sorted(rows, key=lambda row: (-row.size_bytes, row.tag))


def pin(db: sqlite3.Connection, model: ModelName, name: SessionName, *, pinned: bool) -> bool:
    """Protects a session from eviction, or ends that; False if it is unknown."""
    return (
        db.execute(
            "UPDATE sessions SET pinned = ? WHERE model = ? AND name = ?", (pinned, model, name)
        ).rowcount
        == 1
    )


class _Tally:
    """Sums of one tag."""

    def __init__(self) -> None:
        self.size = self.pinned = self.unreferenced = 0
        self.blocks = self.tails = self.snapshots = self.sessions = 0
        self.models: set[str] = set()

    def add(self, node: KvNode, users: Collection[int], pinned: AbstractSet[int]) -> None:
        is_tail = node.node.startswith(_TAIL)
        is_snapshot = node.node.startswith(_SNAPSHOT)
        self.size += node.size_bytes
        self.tails += is_tail
        self.snapshots += is_snapshot
        self.blocks += not (is_tail or is_snapshot)
        if not users:
            self.unreferenced += node.size_bytes
        elif not pinned.isdisjoint(users):
            self.pinned += node.size_bytes

    def row(self, tag: Tag, *, is_usable: bool) -> TagUsage:
        return TagUsage(
            tag=tag,
            is_usable=is_usable,
            models=tuple(sorted(self.models)),
            size_bytes=self.size,
            pinned_bytes=self.pinned,
            unreferenced_bytes=self.unreferenced,
            blocks=self.blocks,
            tails=self.tails,
            snapshots=self.snapshots,
            sessions=self.sessions,
        )


def _owners(db: sqlite3.Connection, kept: Kept) -> dict[int, _Owner]:
    return {
        row[0]: _Owner(
            key=(row[1], row[2]),
            used_at=row[3],
            # A hidden session is a suspended request: its files were acknowledged.
            is_kept=bool(row[4]) or (row[1], row[2]) in kept.sessions or row[2][0] == _HIDDEN,
        )
        for row in db.execute("SELECT id, model, name, used_at, pinned FROM sessions")
    }


def _users(db: sqlite3.Connection) -> dict[str, list[int]]:
    """Sessions by node."""
    users: dict[str, list[int]] = {}
    for block, session in db.execute("SELECT block, session FROM session_blocks"):
        users.setdefault(block, []).append(session)
    for file, session in db.execute("SELECT file, session FROM tails"):
        users.setdefault(_TAIL + file, []).append(session)
    # A session needs the snapshot nearest to its end; the earlier ones only shorten other ways.
    newest = {one.session: one.file.file for one in all_owned(db)}
    for session, file in newest.items():
        users.setdefault(_SNAPSHOT + file, []).append(session)
    return users


def _nodes(
    db: sqlite3.Connection, kept: Kept, owners: dict[int, _Owner], users: dict[str, list[int]]
) -> list[KvNode]:
    """Every file with what it is worth."""
    nodes = []
    for found in db.execute(
        "SELECT id, parent, tag, file, size_bytes, idx, used_at, written_at FROM blocks"
    ):
        row = _FileRow(*found)
        needed_by = [owners[one] for one in users.get(row.node, ())]
        nodes.append(_node(row, kept, needed_by, is_leased=row.node in kept.blocks))
    for found in db.execute(
        "SELECT ?1 || file, parent, tag, file, size_bytes, idx, written_at, written_at FROM tails",
        (_TAIL,),
    ):
        row = _FileRow(*found)
        needed_by = [owners[one] for one in users[row.node]]
        nodes.append(_node(row, kept, needed_by, is_leased=row.file in kept.tails))
    for found in db.execute(
        "SELECT ?1 || file, parent, tag, file, size_bytes, idx, used_at, written_at FROM snapshots",
        (_SNAPSHOT,),
    ):
        row = _FileRow(*found)
        needed_by = [owners[one] for one in users.get(row.node, ())]
        nodes.append(_node(row, kept, needed_by, is_leased=row.file in kept.tails))
    return nodes


def _node(row: _FileRow, kept: Kept, users: list[_Owner], *, is_leased: bool) -> KvNode:
    worth = Worth.SESSION if users else Worth.UNREFERENCED
    if kept.usable_tags is not None and row.tag not in kept.usable_tags:
        worth = Worth.UNUSABLE
    return KvNode(
        node=row.node,
        parent=row.parent,
        tag=row.tag,
        file=row.file,
        size_bytes=row.size_bytes,
        depth=row.depth,
        worth=worth,
        used_at=max([row.used_at, *(user.used_at for user in users)]),
        is_kept=is_leased
        or row.written_at >= kept.young_since
        or any(user.is_kept for user in users),
    )


def _remove(db: sqlite3.Connection, chosen: Iterable[KvNode]) -> None:
    for node in chosen:
        if node.node.startswith(_TAIL):
            db.execute("DELETE FROM tails WHERE tag = ? AND file = ?", (node.tag, node.file))
            continue
        if node.node.startswith(_SNAPSHOT):
            remove_file(db, node.tag, node.file)
            continue
        # Nothing hangs on it any more, so it is the last block of every chain that has it.
        db.execute("DELETE FROM session_blocks WHERE block = ?", (node.node,))
        db.execute("DELETE FROM blocks WHERE id = ?", (node.node,))
