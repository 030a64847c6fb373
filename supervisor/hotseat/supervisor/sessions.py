"""Sessions as requests see them: the stored ones, and those that must not touch the disk."""

import time

from hotseat.protocol.ids import BlockId, ModelName, SessionName
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.views import SessionView
from hotseat.supervisor.catalogue.rows import KvFile, SessionRow, SessionSummary, TurnCommit
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.core.intake import Stored, decode_history


class Sessions:
    """Loads, commits and deletes sessions. `persist=False` ones live in this object only."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._volatile: dict[tuple[str, str], SessionRow] = {}

    async def load(self, model: str, name: str) -> SessionRow | None:
        """The session of a model, or None."""
        kept = self._volatile.get((model, name))
        if kept is not None:
            return kept
        return await self._catalogue.session(ModelName(model), SessionName(name))

    def is_volatile(self, model: str, name: str) -> bool:
        """True for a session that is kept off the disk."""
        return (model, name) in self._volatile

    async def commit(self, commit: TurnCommit) -> tuple[KvFile, ...]:
        """Makes a turn durable with the reply of its request; files that became obsolete."""
        if not commit.persist:
            self._commit_volatile(commit)
            return ()
        return (await self._catalogue.commit_turn(commit)).obsolete_files

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
        )

    async def delete(self, model: str, name: str, leased: frozenset[BlockId]) -> list[KvFile]:
        """Removes a session and what only it used; the files to unlink."""
        self._volatile.pop((model, name), None)
        files = await self._catalogue.delete_session(ModelName(model), SessionName(name), leased)
        return files or []

    async def exists(self, model: str, name: str) -> bool:
        """True when there is such a session."""
        return await self.load(model, name) is not None

    async def views(
        self, model: str | None, live: frozenset[str], seated: str | None, running: set[str]
    ) -> list[SessionView]:
        """All sessions, newest use first. `live` and `running` are names on the seated model."""
        stored = await self._catalogue.session_summaries(ModelName(model) if model else None)
        views = [
            _view(entry, live, seated, running)
            for entry in stored
            if not entry.name.startswith(".")  # of suspended requests
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
    )


def tokenizer_digest(record: ModelRecord) -> str:
    """Identity of what turns messages into ids."""
    return f"{record.tag_parts.tokenizer}:{record.tag_parts.template}"


def clock_of(row: SessionRow | None) -> float:
    """The date a chat template sees: when the session was created."""
    return row.clock if row is not None else time.time()


def _view(
    entry: SessionSummary, live: frozenset[str], seated: str | None, running: set[str]
) -> SessionView:
    here = entry.model == seated
    state = "running" if here and entry.name in running else "cold"
    if state == "cold" and here and entry.name in live:
        state = "live"
    return SessionView(
        model=entry.model,
        session=entry.name,
        turn=entry.turn,
        tokens=entry.tokens,
        durable_tokens=entry.durable_tokens,
        state=state,  # type: ignore[arg-type]
        bytes_on_disk=entry.bytes_on_disk,
        created_at=entry.created_at,
        used_at=entry.used_at,
    )


def _volatile_view(row: SessionRow, live: frozenset[str], seated: str | None) -> SessionView:
    return SessionView(
        model=row.model,
        session=row.name,
        turn=row.turn,
        tokens=len(row.tokens) // 4,
        durable_tokens=0,
        state="live" if row.model == seated and row.name in live else "cold",
        bytes_on_disk=0,
        created_at=row.created_at,
        used_at=row.used_at,
    )
