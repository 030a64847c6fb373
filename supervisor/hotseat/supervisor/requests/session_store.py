"""Sessions as requests see them: the stored ones, and those that must not touch the disk."""

import time
from collections.abc import Mapping
from typing import Final

from msgspec import structs

from hotseat.protocol.ids import BlockId, ModelName, SessionName, Tag
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.views import SessionView
from hotseat.supervisor.catalogue.rows import (
    KvFile,
    SessionRow,
    SessionSummary,
    TurnCommit,
    TurnCommitted,
)
from hotseat.supervisor.catalogue.session_verbs import Change, taken
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.conversation.cuts import (
    TOKEN_BYTES,
    SessionTurns,
    TurnRow,
    most_with_kv,
    shared_prefix,
    told_anew,
)
from hotseat.supervisor.conversation.history import Stored, decode_history

CHANGES_KEPT: Final = 4096
"""Sessions whose last change is known; of all others the newest is assumed that was forgotten."""


class SessionStore:
    """Loads, commits and deletes sessions. `persist=False` ones live in this object only."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._volatile: dict[tuple[str, str], SessionRow] = {}
        self._volatile_turns: dict[tuple[str, str], tuple[TurnRow, ...]] = {}
        self._changes: dict[tuple[str, str], int] = {}
        self._newest = self._forgotten = 0

    def change_of(self, model: str, name: str) -> int:
        """A number that is another one after every change of the session."""
        return self._changes.get((model, name), self._forgotten)

    def note_change(self, model: str, name: str) -> None:
        """The session is not what it was; its tail counts too."""
        self._newest += 1
        self._changes.pop((model, name), None)
        self._changes[model, name] = self._newest
        if len(self._changes) > CHANGES_KEPT:
            # Whoever asks for one that is forgotten gets a newer number than any it had.
            self._changes.pop(next(iter(self._changes)))
            self._forgotten = self._newest

    async def load(self, model: str, name: str) -> SessionRow | None:
        """The session of a model, or None."""
        kept = self._volatile.get((model, name))
        if kept is not None:
            return kept
        return await self._catalogue.session(ModelName(model), SessionName(name))

    def is_volatile(self, model: str, name: str) -> bool:
        """True for a session that is kept off the disk."""
        return (model, name) in self._volatile

    async def commit(self, commit: TurnCommit) -> TurnCommitted:
        """Makes a turn durable with the reply of its request."""
        try:
            if not commit.persist:
                self._commit_volatile(commit)
                return TurnCommitted(turn=commit.turn or 1)
            return await self._catalogue.commit_turn(commit)
        finally:
            self.note_change(commit.model, commit.session)

    def _commit_volatile(self, commit: TurnCommit) -> None:
        key = (commit.model, commit.session)
        before = self._volatile.get(key)
        self._volatile[key] = SessionRow(
            id=-1,
            model=commit.model,
            name=commit.session,
            tag=commit.tag,
            tokenizer_digest=commit.tokenizer_digest,
            turn=commit.turn or 1,
            tokens=commit.tokens,
            messages=commit.messages,
            hint=commit.hint,
            closed=commit.closed,
            clock=commit.clock,
            persist=False,
            created_at=before.created_at if before else commit.at,
            used_at=commit.at,
            agent=commit.agent,
        )
        marks = self._volatile_turns.get(key, ())
        shared = shared_prefix(before.tokens, commit.tokens) if before else 0
        kept = not commit.starts_over
        self._volatile_turns[key] = (
            *(
                structs.replace(
                    mark,
                    shared_tokens=min(mark.shared_tokens, shared),
                    reachable=mark.reachable and kept,
                )
                for mark in marks
            ),
            TurnRow(
                turn=commit.turn or 1,
                tokens=len(commit.tokens) // TOKEN_BYTES,
                message_count=commit.message_count,
                at=commit.at,
                shared_tokens=len(commit.tokens) // TOKEN_BYTES,
                request=commit.request,
            ),
        )

    async def held(self, model: str, name: str) -> SessionTurns | None:
        """What of a session can be cut; None without one."""
        row = await self.load(model, name)
        if row is None:
            return None
        if row is self._volatile.get((model, name)):
            return row.held(self._volatile_turns[model, name])
        return row.held(await self._catalogue.turns(ModelName(model), SessionName(name)))

    async def fork(self, model: str, name: str, to: str, change: Change) -> SessionRow:
        """`change` of a session as session `to`."""
        try:
            return await self._fork(model, name, to, change)
        finally:
            self.note_change(model, to)

    async def _fork(self, model: str, name: str, to: str, change: Change) -> SessionRow:
        kept = self._volatile.get((model, name))
        if kept is None:
            if (model, to) in self._volatile:
                raise taken(model, to)
            return await self._catalogue.fork_session(
                ModelName(model), SessionName(name), SessionName(to), change, time.time()
            )
        if await self.exists(model, to):
            raise taken(model, to)
        return self._change_volatile(kept, SessionName(to), change)

    async def copy(self, row: SessionRow, to: ModelRecord, name: str, at: float) -> SessionRow:
        """The conversation of a session as session `name` of model `to`; kept where that one is."""
        held = told_anew(decode_history(row.messages), at)
        origin = SessionRow(
            id=-1,
            model=ModelName(to.name),
            name=SessionName(name),
            tag=to.tag,
            tokenizer_digest=tokenizer_digest(to),
            turn=held.turn,
            tokens=held.tokens,
            messages=held.messages,
            hint=held.hint,
            closed=held.closed,
            clock=at,
            persist=row.persist,
            created_at=at,
            used_at=at,
            stale=held.stale,
            agent=row.agent,
        )
        try:
            if row.persist:
                if (to.name, name) in self._volatile:
                    raise taken(to.name, name)
                return await self._catalogue.insert_session(origin, held)
            if await self.exists(to.name, name):
                raise taken(to.name, name)
            self._volatile[to.name, name] = origin
            self._volatile_turns[to.name, name] = held.turns
            return origin
        finally:
            self.note_change(to.name, name)

    async def change(
        self, model: str, name: str, change: Change
    ) -> tuple[SessionRow, list[KvFile]]:
        """`change` of a session in its place; files that nobody needs now."""
        kept = self._volatile.get((model, name))
        try:
            if kept is not None:
                return self._change_volatile(kept, kept.name, change), []
            return await self._catalogue.change_session(
                ModelName(model), SessionName(name), change, time.time()
            )
        finally:
            self.note_change(model, name)

    def _change_volatile(self, row: SessionRow, to: SessionName, change: Change) -> SessionRow:
        held = change(row.held(self._volatile_turns[row.model, row.name]))
        self._volatile_turns[row.model, to] = held.turns
        changed = self._volatile[row.model, to] = structs.replace(
            row,
            name=to,
            turn=held.turn,
            tokens=held.tokens,
            messages=held.messages,
            hint=held.hint,
            closed=held.closed,
            stale=held.stale,
            used_at=time.time(),
        )
        return changed

    async def adopt(self, row: SessionRow, tag: Tag) -> list[KvFile]:
        """Binds a session to KV of its tokens under another tag; files that nobody needs now."""
        try:
            return await self._catalogue.adopt_tag(row.model, row.name, tag, row.tokens)
        finally:
            self.note_change(row.model, row.name)

    async def delete(self, model: str, name: str, leased: frozenset[BlockId]) -> list[KvFile]:
        """Removes a session and what only it used; the files to unlink."""
        self._volatile.pop((model, name), None)
        self._volatile_turns.pop((model, name), None)
        found = ModelName(model), SessionName(name)
        try:
            return await self._catalogue.delete_session(*found, leased) or []
        finally:
            self.note_change(model, name)

    async def exists(self, model: str, name: str) -> bool:
        """True when there is such a session."""
        return await self.load(model, name) is not None

    async def views(
        self,
        model: str | None,
        live: frozenset[str],
        seated: str | None,
        running: set[str],
        tags: Mapping[str, Tag],
    ) -> list[SessionView]:
        """All sessions, newest use first. `live` and `running` are names on the seated model.

        `tags` are those of the registered models: what has another one needs a prefill.
        """
        stored = await self._catalogue.session_summaries(ModelName(model) if model else None)
        views = [
            _view(entry, live, seated, running, tags)
            for entry in stored
            if not entry.name.startswith(".")  # of suspended requests
            and (entry.model, entry.name) not in self._volatile
        ]
        views += [
            _volatile_view(row, live, seated)
            for key, row in self._volatile.items()
            if model in (None, key[0])
        ]
        return sorted(views, key=lambda view: -view.used_at)


def as_stored(row: SessionRow | None, record: ModelRecord) -> Stored | None:
    """What intake needs of a session. A changed model makes its KV useless, not its messages."""
    if row is None:
        return None
    same_tag = row.tag == record.tag
    return Stored(
        turn=row.turn,
        context=row.tokens,
        hint=row.hint if same_tag else b"",
        history=decode_history(row.messages),
        same_tokenizer=row.tokenizer_digest == tokenizer_digest(record),
        stale=row.stale,
    )


def tokenizer_digest(record: ModelRecord) -> str:
    """Identity of what turns messages into ids."""
    return f"{record.tag_parts.tokenizer}:{record.tag_parts.template}"


def clock_of(row: SessionRow | None) -> float:
    """The date a chat template sees: when the session was created."""
    return row.clock if row is not None else time.time()


def _view(
    entry: SessionSummary,
    live: frozenset[str],
    seated: str | None,
    running: set[str],
    tags: Mapping[str, Tag],
) -> SessionView:
    here = entry.model == seated
    state = "running" if here and entry.name in running else "cold"
    if state == "cold" and here and entry.name in live:
        state = "live"
    is_usable = tags.get(entry.model, entry.tag) == entry.tag
    durable_tokens = entry.durable_tokens if is_usable else 0
    lost = most_with_kv(entry.tokens, closed=entry.closed) - durable_tokens
    return SessionView(
        model=entry.model,
        session=entry.name,
        turn=entry.turn,
        tokens=entry.tokens,
        durable_tokens=durable_tokens,
        prefill_tokens=max(0, lost) if state == "cold" else 0,
        state=state,  # type: ignore[arg-type]
        bytes_on_disk=entry.bytes_on_disk,
        created_at=entry.created_at,
        used_at=entry.used_at,
        pinned=entry.pinned,
        agent=entry.agent,
    )


def _volatile_view(row: SessionRow, live: frozenset[str], seated: str | None) -> SessionView:
    is_live = row.model == seated and row.name in live
    tokens = len(row.tokens) // TOKEN_BYTES
    return SessionView(
        model=row.model,
        session=row.name,
        turn=row.turn,
        tokens=tokens,
        durable_tokens=0,
        prefill_tokens=0 if is_live else most_with_kv(tokens, closed=row.closed),
        persist=False,
        state="live" if is_live else "cold",
        bytes_on_disk=0,
        created_at=row.created_at,
        used_at=row.used_at,
        agent=row.agent,
    )
