"""The catalogue: what is durable, and the only way to it. Knows nothing of sockets or workers.

Every method returns after its change is durable. Cancelling the task that waits does not undo the
change. Files that a method returns are named by no row any more: unlink them afterwards.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from hotseat.protocol.ids import BlockId, ModelName, RequestKey, SessionName, Tag
from hotseat.protocol.link import TailRef, TailWritten
from hotseat.protocol.replies import Event
from hotseat.supervisor.catalogue import (
    blocks,
    eviction,
    journal,
    rebuilding,
    requests,
    session_verbs,
    sessions,
    snapshots,
)
from hotseat.supervisor.catalogue.eviction import Evicted, Kept, TagUsage
from hotseat.supervisor.catalogue.rebuilding import Found, Rebuilt
from hotseat.supervisor.catalogue.rows import (
    Acceptance,
    AcceptRecord,
    BlockRow,
    KvFile,
    RequestRow,
    SessionRow,
    SessionSummary,
    TagTotals,
    TurnCommit,
    TurnCommitted,
)
from hotseat.supervisor.catalogue.rules.eviction_order import Worth
from hotseat.supervisor.catalogue.schema import Opened
from hotseat.supervisor.catalogue.session_mirror import SessionMirror
from hotseat.supervisor.catalogue.session_verbs import Change
from hotseat.supervisor.catalogue.thread import CatalogueThread
from hotseat.supervisor.conversation.cuts import TurnRow
from hotseat.supervisor.conversation.prompt_size import StoredUnder

_CUT_BLOCKS: Final = 4
"""More candidates would only cost the worker comparisons."""
_TAILS: Final = 64
"""Most tails offered for one lookup."""
_JOURNAL_PAGE: Final = 1_000


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
    async def open(cls, path: Path, sessions_dir: Path | None = None) -> "Catalogue":
        """Opens or creates the file; a damaged one is put aside and a fresh one begun.

        With `sessions_dir`, every session is kept there as a file too.
        """
        mirror = None if sessions_dir is None else SessionMirror(sessions_dir)
        thread = CatalogueThread(path, mirror)
        catalogue = cls(thread, await thread.open())
        catalogue._mirror = mirror
        return catalogue

    async def reconcile_files(self) -> int:
        """Drops files of sessions that are gone; how many sessions have none yet."""
        mirror = self._mirror
        return 0 if mirror is None else await self._thread.call(mirror.reconcile)

    async def catch_up_files(self) -> int:
        """Writes a few session files that are missing; how many are left."""
        mirror = self._mirror
        return 0 if mirror is None else await self._thread.call(mirror.catch_up)

    async def rebuild(self, found: Found) -> Rebuilt:
        """Fills an empty catalogue with what files say."""
        return await self._thread.call(lambda db: rebuilding.rebuild(db, found))

    async def close(self) -> None:
        """Finishes what was asked for and closes the file; calling it again does nothing."""
        await self._thread.close()

    # Requests

    async def accept(self, record: AcceptRecord) -> Acceptance:
        """Stores a request before it is answered; a known key gives back what is stored."""
        return await self._thread.call(lambda db: requests.accept(db, record))

    async def reject(self, key: RequestKey) -> bool:
        """Forgets a request that was refused before any work."""
        return await self._thread.call(lambda db: requests.reject(db, key))

    async def finish(
        self, key: RequestKey, kind: Literal["done", "error"], reply: bytes, at: float
    ) -> bool:
        """Stores how a request ended; False when it is unknown or had ended before."""
        return await self._thread.call(lambda db: requests.finish(db, key, kind, reply, at))

    async def note_offset(self, key: RequestKey, offset_tokens: int) -> None:
        """Remembers how many completion tokens of a running request are durable."""
        await self._thread.call(lambda db: requests.note_offset(db, key, offset_tokens))

    async def request(self, key: RequestKey) -> RequestRow | None:
        """The request of that key, running or ended."""
        return await self._thread.call(lambda db: requests.request(db, key))

    async def unfinished(self) -> list[RequestRow]:
        """Requests that were accepted and have not ended, oldest first."""
        return await self._thread.call(requests.unfinished)

    async def prune_replies(self, now: float, keep_s: float, keep_bytes: int) -> int:
        """Forgets replies older than `keep_s`, then the oldest beyond `keep_bytes`."""
        return await self._thread.call(
            lambda db: requests.prune_replies(db, now, keep_s, keep_bytes)
        )

    # Sessions

    async def session(self, model: ModelName, name: SessionName) -> SessionRow | None:
        """The session of that model and name, with its contents."""
        return await self._thread.call(lambda db: sessions.session(db, model, name))

    async def session_summaries(self, model: ModelName | None = None) -> list[SessionSummary]:
        """All sessions, or those of a model, without contents; last used first."""
        return await self._thread.call(lambda db: sessions.session_summaries(db, model))

    async def hidden_sessions(self) -> list[tuple[ModelName, SessionName]]:
        """Sessions of suspended requests."""
        return await self._thread.call(sessions.hidden_sessions)

    async def turns(self, model: ModelName, name: SessionName) -> list[TurnRow]:
        """The turns of a session, first to last."""
        return await self._thread.call(lambda db: sessions.turns(db, model, name))

    async def commit_turn(self, commit: TurnCommit) -> TurnCommitted:
        """Session, turn, block links and reply in one transaction.

        Raises session_conflict when `commit.turn` does not follow the stored one, and internal
        when the request had ended before; the session is unchanged then.
        """
        return await self._thread.call(lambda db: sessions.commit_turn(db, commit))

    async def fork_session(
        self, model: ModelName, name: SessionName, to: SessionName, change: Change, at: float
    ) -> SessionRow:
        """Stores `change` of a session as session `to`; they share blocks.

        Raises session_missing, or session_conflict when `to` exists, or what `change` raises.
        """
        return await self._thread.call(
            lambda db: session_verbs.fork(db, model, name, to, change, at)
        )

    async def change_session(
        self, model: ModelName, name: SessionName, change: Change, at: float
    ) -> tuple[SessionRow, list[KvFile]]:
        """Stores `change` of a session in its place; also the files that nobody needs now.

        Raises session_missing, or what `change` raises.
        """
        return await self._thread.call(
            lambda db: session_verbs.change_session(db, model, name, change, at)
        )

    async def delete_session(
        self, model: ModelName, name: SessionName, leased: Collection[BlockId] = ()
    ) -> list[KvFile] | None:
        """Removes a session; returns the files nobody needs now, None if it is unknown."""
        kept = frozenset(leased)
        return await self._thread.call(lambda db: sessions.delete_session(db, model, name, kept))

    # KV files

    async def add_block(self, block: BlockRow) -> list[KvFile]:
        """Makes a written block known; a file it replaces is returned."""
        return await self._thread.call(lambda db: blocks.add_block(db, block))

    async def known_prefix(self, tag: Tag, ids: Sequence[BlockId], now: float | None = None) -> int:
        """How many of a chain of ids are stored, from its start; they count as used."""
        at = time.time() if now is None else now
        return await self._thread.call(lambda db: blocks.known_prefix(db, tag, ids, at))

    async def tails_under(
        self,
        tag: Tag,
        parents: Sequence[BlockId],
        *,
        session: tuple[ModelName, SessionName] | None = None,
        limit: int = _TAILS,
    ) -> list[TailRef]:
        """Tails and snapshots on one of `parents` (pass the root too).

        Of each the session's own first, then the deepest.
        """
        now = time.time()
        return await self._thread.call(
            lambda db: [
                *blocks.tails_under(db, tag, parents, session, limit),
                *snapshots.snapshots_under(db, tag, parents, session, limit, now),
            ]
        )

    async def stored_under(self, tag: Tag, chain: Sequence[BlockId]) -> StoredUnder:
        """What of a chain is stored, tails and beginnings of blocks included; touches nothing."""
        return await self._thread.call(lambda db: blocks.stored_under(db, tag, chain, _TAILS))

    async def blocks_behind(
        self, tag: Tag, parent: BlockId, limit: int = _CUT_BLOCKS
    ) -> list[tuple[BlockId, TailRef]]:
        """Blocks behind `parent` to read the beginning of, the one used last first."""
        return await self._thread.call(lambda db: blocks.blocks_behind(db, tag, parent, limit))

    async def commit_tail(
        self, tag: Tag, session: tuple[ModelName, SessionName], tail: TailWritten, at: float
    ) -> list[KvFile]:
        """Makes a written tail the tail of its session; returns files nobody needs.

        The new file itself is among them when the session is gone or has moved on. A snapshot
        belongs to its tokens, not to the session.
        """
        model, name = session
        if tail.kind == "snapshot":
            return await self._thread.call(lambda db: snapshots.add_snapshot(db, tag, tail, at))
        return await self._thread.call(
            lambda db: blocks.commit_tail(db, tag, model, name, tail, at)
        )

    async def forget_file(self, tag: Tag, file: str) -> bool:
        """Never offers a damaged file again; False if no row named it."""
        return await self._thread.call(lambda db: blocks.forget_file(db, tag, file))

    async def files(self, tag: Tag) -> set[str]:
        """Names of all files of a tag that rows name."""
        return await self._thread.call(lambda db: blocks.files(db, tag))

    async def totals(self) -> list[TagTotals]:
        """Bytes, blocks and tails per tag, largest first."""
        return await self._thread.call(blocks.totals)

    async def evict(
        self,
        wanted_bytes: float,
        kept: Kept,
        most: Worth = Worth.SESSION,
        *,
        dry_run: bool = False,
    ) -> Evicted:
        """Forgets files worth at most `most` until `wanted_bytes` went; leaves first."""
        return await self._thread.call(
            lambda db: eviction.evict(db, wanted_bytes, kept, most, dry_run=dry_run)
        )

    async def usage(self, usable: frozenset[Tag]) -> list[TagUsage]:
        """Figures of the disk tier per tag, largest first."""
        return await self._thread.call(lambda db: eviction.usage(db, usable))

    async def pin(self, model: ModelName, name: SessionName, *, pinned: bool) -> bool:
        """Protects a session's files from eviction, or ends that; False if it is unknown."""
        return await self._thread.call(lambda db: eviction.pin(db, model, name, pinned=pinned))

    # Journal and remembered values

    async def journal(self, name: str, facts: Mapping[str, Any], at: float) -> int:
        """Adds a lifecycle event; returns its sequence number."""
        return await self._thread.call(lambda db: journal.append(db, name, facts, at))

    async def journal_since(self, seq: int, limit: int = _JOURNAL_PAGE) -> list[Event]:
        """Events after number `seq`, oldest first."""
        return await self._thread.call(lambda db: journal.since(db, seq, limit))

    async def last_seq(self) -> int:
        """Number of the newest event ever made, 0 if there was none."""
        return await self._thread.call(journal.last_seq)

    async def meta_get(self, key: str) -> str | None:
        """A remembered value, for instance a measured overhead."""
        return await self._thread.call(lambda db: journal.meta_get(db, key))

    async def meta_set(self, key: str, value: str) -> None:
        """Remembers a value under a key."""
        await self._thread.call(lambda db: journal.meta_set(db, key, value))
