"""The catalogue: what is durable, and the only way to it. Knows nothing of sockets or workers.

Every method returns after its change is durable. What is known of blocks follows from their files:
on macOS it becomes durable with the next change of another kind. Cancelling the task that waits
does not undo the change. Files that a method returns are named by no row any more: unlink them
afterwards.
"""

import functools
import sqlite3
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from hotseat.protocol.ids import BlockId, ModelName, SessionName, Tag
from hotseat.protocol.link_orders import TailRef
from hotseat.protocol.link_reports import TailWritten
from hotseat.supervisor.catalogue import (
    blocks,
    eviction,
    rebuilding,
    requests,
    session_verbs,
    sessions,
    snapshots,
)
from hotseat.supervisor.catalogue import journal as entries
from hotseat.supervisor.catalogue.rows import KvFile
from hotseat.supervisor.catalogue.schema import Opened
from hotseat.supervisor.catalogue.session_mirror import SessionMirror
from hotseat.supervisor.catalogue.thread import ALWAYS, CatalogueThread, Lasting
from hotseat.supervisor.machine.drives import Drives

P = ParamSpec("P")
T = TypeVar("T")


def on_thread(
    work: Callable[Concatenate[sqlite3.Connection, P], T], lasting: Lasting = ALWAYS
) -> Callable[Concatenate["Catalogue", P], Coroutine[Any, Any, T]]:
    """The method that runs `work` on the catalogue's thread, with its parameters and words."""

    @functools.wraps(work)
    async def method(self: "Catalogue", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.call(lambda db: work(db, *args, **kwargs), lasting)

    return method


def _tails_under(
    db: sqlite3.Connection,
    tag: Tag,
    parents: Sequence[BlockId],
    *,
    session: tuple[ModelName, SessionName] | None = None,
    limit: int = blocks.MOST_TAILS,
) -> list[TailRef]:
    """Tails and snapshots on one of `parents` (pass the root too).

    Of each the session's own first, then the deepest.
    """
    return [
        *blocks.tails_under(db, tag, parents, session, limit),
        *snapshots.snapshots_under(db, tag, parents, session, limit, time.time()),
    ]


def _commit_tail(
    db: sqlite3.Connection,
    tag: Tag,
    session: tuple[ModelName, SessionName],
    tail: TailWritten,
    at: float,
) -> list[KvFile]:
    """Makes a written tail the tail of its session; returns files nobody needs.

    The new file itself is among them when the session is gone or has moved on. A snapshot
    belongs to its tokens, not to the session.
    """
    if tail.kind == "snapshot":
        return snapshots.add_snapshot(db, tag, tail, at)
    return blocks.commit_tail(db, tag, *session, tail, at)


class Catalogue:
    """Typed asynchronous access to the catalogue of one home. Raises `HotseatError` only.

    Attributes:
        opened: how opening went; log it when `damaged` is set.
    """

    def __init__(self, thread: CatalogueThread, opened: Opened) -> None:
        self._thread = thread
        self._mirror: SessionMirror | None = None
        self.opened = opened

    @classmethod
    async def open(
        cls, path: Path, sessions_dir: Path | None = None, drives: Drives | None = None
    ) -> "Catalogue":
        """Opens or creates the file; a damaged one is put aside and a fresh one begun.

        With `sessions_dir`, every session is kept there as a file too. `drives` hold what the
        rows speak of; by default that of the file alone is flushed.
        """
        mirror = None if sessions_dir is None else SessionMirror(sessions_dir)
        thread = CatalogueThread(path, mirror, drives)
        catalogue = cls(thread, await thread.open())
        catalogue._mirror = mirror
        return catalogue

    async def reconcile_files(self) -> int:
        """Drops files of sessions that are gone; how many sessions have none yet."""
        mirror = self._mirror
        return 0 if mirror is None else await self.call(mirror.reconcile)

    async def catch_up_files(self) -> int:
        """Writes a few session files that are missing; how many are left."""
        mirror = self._mirror
        return 0 if mirror is None else await self.call(mirror.catch_up)

    async def call(self, work: Callable[[sqlite3.Connection], T], lasting: Lasting = ALWAYS) -> T:
        """Runs `work` inside a transaction and returns after the commit."""
        return await self._thread.call(work, lasting)

    async def close(self) -> None:
        """Finishes what was asked for and closes the file; calling it again does nothing."""
        await self._thread.close()

    # Each runs one function on the catalogue's thread, with its parameters behind the connection.

    rebuild = on_thread(rebuilding.rebuild)

    accept = on_thread(requests.accept)
    reject = on_thread(requests.reject)
    finish = on_thread(requests.finish)
    note_offset = on_thread(requests.note_offset)
    request = on_thread(requests.request)
    unfinished = on_thread(requests.unfinished)
    prune_replies = on_thread(requests.prune_replies)

    session = on_thread(sessions.session)
    session_summaries = on_thread(sessions.session_summaries)
    hidden_sessions = on_thread(sessions.hidden_sessions)
    turns = on_thread(sessions.turns)
    commit_turn = on_thread(sessions.commit_turn)
    rename_model = on_thread(sessions.rename_model)
    adopt_tag = on_thread(sessions.adopt_tag)
    delete_session = on_thread(sessions.delete_session)
    fork_session = on_thread(session_verbs.fork)
    insert_session = on_thread(session_verbs.insert)
    change_session = on_thread(session_verbs.change_session)

    # Before a file goes that a row named, that row must be gone for good.
    add_blocks = on_thread(blocks.add_blocks, Lasting(is_due=bool, has_files=True))
    # When blocks were used need not last: eviction may be wrong about that.
    known_prefix = on_thread(blocks.known_prefix, Lasting(is_due=lambda _count: False))
    stored_under = on_thread(blocks.stored_under)
    blocks_behind = on_thread(blocks.blocks_behind)
    forget_file = on_thread(blocks.forget_file)
    files = on_thread(blocks.files)
    totals = on_thread(blocks.totals)
    tails_under = on_thread(_tails_under)
    commit_tail = on_thread(_commit_tail, Lasting(has_files=True))

    evict = on_thread(eviction.evict)
    usage = on_thread(eviction.usage)
    pin = on_thread(eviction.pin)

    journal = on_thread(entries.append)
    journal_since = on_thread(entries.since)
    last_seq = on_thread(entries.last_seq)
    meta_get = on_thread(entries.meta_get)
    meta_set = on_thread(entries.meta_set)
