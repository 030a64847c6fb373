"""SQL of sessions and their turns. Runs inside a transaction of the catalogue thread."""

import sqlite3
from collections.abc import Collection
from typing import Final

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import BlockId, ModelName, SessionName, Tag
from hotseat.protocol.tokens import block_chain, unpack_tokens
from hotseat.supervisor.catalogue import blocks, requests, snapshots, superseded
from hotseat.supervisor.catalogue.rows import (
    KvFile,
    SessionRow,
    SessionSummary,
    TurnCommit,
    TurnCommitted,
)
from hotseat.supervisor.conversation.cuts import TurnRow, shared_prefix

_TOKEN_BYTES: Final = 4
_SESSION: Final = (
    "SELECT id, model, name, tag, tokenizer_digest, turn, tokens, messages, hint, closed, clock,"
    " persist, created_at, used_at, pinned, revision, stale, agent FROM sessions"
    " WHERE model = ? AND name = ?"
)
_SUMMARIES: Final = """
SELECT s.id, s.model, s.name, s.tag, s.turn, length(s.tokens) / 4,
  256 * COUNT(b.id) + CASE WHEN t.idx = COUNT(b.id) THEN length(t.tokens) / 4 ELSE 0 END,
  TOTAL(b.size_bytes) + COALESCE(t.size_bytes, 0),
  s.closed, s.persist, s.created_at, s.used_at, s.pinned, s.agent
FROM sessions s
LEFT JOIN session_blocks l ON l.session = s.id
LEFT JOIN blocks b ON b.id = l.block
LEFT JOIN tails t ON t.session = s.id
WHERE ?1 IS NULL OR s.model = ?1
GROUP BY s.id ORDER BY s.used_at DESC, s.id DESC
"""


def session(db: sqlite3.Connection, model: ModelName, name: SessionName) -> SessionRow | None:
    """The session of that model and name, with its contents."""
    found = db.execute(_SESSION, (model, name)).fetchone()
    if found is None:
        return None
    fields = dict(zip(SessionRow.__struct_fields__, found, strict=True))
    fields["closed"] = bool(fields["closed"])
    fields["persist"] = bool(fields["persist"])
    fields["pinned"] = bool(fields["pinned"])
    fields["stale"] = bool(fields["stale"])
    return SessionRow(**fields)


def session_summaries(
    db: sqlite3.Connection, model: ModelName | None = None
) -> list[SessionSummary]:
    """All sessions, or those of a model; the one used last comes first."""
    ends: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for one in snapshots.all_owned(db):
        ends[one.session] = max(one.position, ends.get(one.session, 0))
        sizes[one.session] = sizes.get(one.session, 0) + one.file.size_bytes
    return [
        SessionSummary(
            id=found[0],
            model=found[1],
            name=found[2],
            tag=found[3],
            turn=found[4],
            tokens=found[5],
            durable_tokens=min(found[5], max(found[6], ends.get(found[0], 0))),
            bytes_on_disk=int(found[7]) + sizes.get(found[0], 0),
            closed=bool(found[8]),
            persist=bool(found[9]),
            created_at=found[10],
            used_at=found[11],
            pinned=bool(found[12]),
            agent=found[13],
        )
        for found in db.execute(_SUMMARIES, (model,))
    ]


def count_sessions(db: sqlite3.Connection, model: ModelName) -> int:
    """Sessions of a model that have a name of their own."""
    found = db.execute(
        "SELECT COUNT(*) FROM sessions WHERE model = ? AND substr(name, 1, 1) <> '.'", (model,)
    ).fetchone()
    return int(found[0])


def rename_model(db: sqlite3.Connection, old: ModelName, new: ModelName) -> int:
    """Gives all sessions and kept replies of a model to another name; how many sessions.

    Raises session_conflict where sessions of that name are left from another model. Where `old` has
    none they are its own, of a renaming that was killed.
    """
    moved = count_sessions(db, old)
    if moved and count_sessions(db, new):
        raise HotseatError(
            "session_conflict",
            f"there are sessions of a model {new!r} that is gone; remove them with "
            f"`hotseat sessions rm {new} SESSION`, or choose another name",
            model=new,
        )
    db.execute("UPDATE sessions SET model = ? WHERE model = ?", (new, old))
    db.execute("UPDATE requests SET model = ? WHERE model = ?", (new, old))
    return moved


def hidden_sessions(db: sqlite3.Connection) -> list[tuple[ModelName, SessionName]]:
    """Those whose names begin with a dot, which no client can give."""
    return db.execute("SELECT model, name FROM sessions WHERE substr(name, 1, 1) = '.'").fetchall()


def turns(db: sqlite3.Connection, model: ModelName, name: SessionName) -> list[TurnRow]:
    """The turns of a session, first to last."""
    return [
        TurnRow(
            turn=found[0],
            tokens=found[1],
            message_count=found[2],
            at=found[3],
            shared_tokens=found[4],
            reachable=bool(found[5]),
            request=found[6],
        )
        for found in db.execute(
            "SELECT t.turn, t.tokens, t.message_count, t.at, t.shared_tokens, t.reachable,"
            " t.request FROM turns t JOIN sessions s ON s.id = t.session"
            " WHERE s.model = ? AND s.name = ? ORDER BY t.turn",
            (model, name),
        )
    ]


def commit_turn(db: sqlite3.Connection, commit: TurnCommit) -> TurnCommitted:
    """Session, turn, links to stored blocks and the reply: all of it or nothing.

    Raises session_conflict when `commit.turn` does not follow the stored one, and internal when
    the request had ended before; the session is unchanged then.
    """
    before = db.execute(
        "SELECT id, turn, tokens FROM sessions WHERE model = ? AND name = ?",
        (commit.model, commit.session),
    ).fetchone()
    expected = 1 if before is None else before[1] + 1
    turn = expected if commit.turn is None else commit.turn
    if turn != expected:
        raise HotseatError(
            "session_conflict",
            f"session {commit.session!r} on {commit.model!r} is at turn {expected - 1};"
            f" turn {turn} does not follow it",
            turn=expected - 1,
        )
    begun = [] if before is None else snapshots.owned(db, before[0])
    session_id = _write_session(db, commit, turn)
    if before is not None:
        db.execute(
            "UPDATE turns SET shared_tokens = MIN(shared_tokens, ?), reachable = reachable AND ?"
            " WHERE session = ?",
            (shared_prefix(before[2], commit.tokens), not commit.starts_over, session_id),
        )
    count = len(commit.tokens) // _TOKEN_BYTES
    db.execute(
        "INSERT INTO turns (session, turn, tokens, message_count, at, shared_tokens, request)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (session_id, turn, count, commit.message_count, commit.at, count, commit.request),
    )
    chain = block_chain(commit.tag, unpack_tokens(commit.tokens))
    stored = blocks.link_chain(db, session_id, chain)
    obsolete = blocks.drop_useless_tail(db, session_id, commit.tag, chain, stored, commit.tokens)
    superseded.note_snapshots(db, session_id, begun)
    obsolete += snapshots.thin_out(db, session_id)
    if commit.key is not None:
        _end_request(db, commit)
    missing = chain[stored] if stored < len(chain) else None
    return TurnCommitted(turn=turn, obsolete_files=tuple(obsolete), missing=missing)


def adopt_tag(
    db: sqlite3.Connection, model: ModelName, name: SessionName, tag: Tag, tokens: bytes
) -> list[KvFile]:
    """Binds a session to the blocks of its tokens under another tag; files that nobody needs.

    Turns, messages and its last use stay. Nothing happens to one that holds other tokens by now.
    """
    row = session(db, model, name)
    if row is None or row.tokens != tokens or row.tag == tag:
        return []
    begun = snapshots.owned(db, row.id)
    # In which steps the tail was computed says nothing of blocks that came of whole chunks.
    db.execute("UPDATE sessions SET tag = ?, hint = x'' WHERE id = ?", (tag, row.id))
    chain = block_chain(tag, unpack_tokens(tokens))
    stored = blocks.link_chain(db, row.id, chain)
    obsolete = blocks.drop_useless_tail(db, row.id, tag, chain, stored, tokens)
    superseded.note_snapshots(db, row.id, begun)
    return [*obsolete, *snapshots.thin_out(db, row.id)]


def delete_session(
    db: sqlite3.Connection,
    model: ModelName,
    name: SessionName,
    leased: Collection[BlockId] = (),
) -> list[KvFile] | None:
    """Removes a session, its tail, its replies, and the blocks that nobody else uses.

    None if unknown.
    """
    found = db.execute(
        "SELECT id FROM sessions WHERE model = ? AND name = ?", (model, name)
    ).fetchone()
    if found is None:
        return None
    session_id = found[0]
    had = superseded.had_blocks(db, session_id)
    files = blocks.remove_tail(db, session_id)
    files += snapshots.remove_of_session(
        db, session_id, had, superseded.had_snapshots(db, session_id)
    )
    db.execute("DELETE FROM sessions WHERE id = ?", (session_id,))
    requests.forget_session(db, model, name)
    files += blocks.remove_unused(db, had, frozenset(leased))
    return files


def _write_session(db: sqlite3.Connection, commit: TurnCommit, turn: int) -> int:
    row = db.execute(
        "INSERT INTO sessions (model, name, tag, tokenizer_digest, turn, tokens, messages, hint,"
        " closed, clock, persist, created_at, used_at, agent)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (model, name) DO UPDATE SET tag = excluded.tag,"
        " tokenizer_digest = excluded.tokenizer_digest, turn = excluded.turn,"
        " tokens = excluded.tokens, messages = excluded.messages, hint = excluded.hint,"
        " closed = excluded.closed, persist = excluded.persist, used_at = excluded.used_at,"
        " agent = excluded.agent, stale = 0"
        " RETURNING id",
        (
            commit.model,
            commit.session,
            commit.tag,
            commit.tokenizer_digest,
            turn,
            commit.tokens,
            commit.messages,
            commit.hint,
            commit.closed,
            commit.clock,
            commit.persist,
            commit.at,
            commit.at,
            commit.agent,
        ),
    ).fetchone()
    return int(row[0])


def _end_request(db: sqlite3.Connection, commit: TurnCommit) -> None:
    if commit.key is None or commit.reply is None:
        raise HotseatError("internal", "a turn was committed for a request without its reply")
    if not requests.finish(db, commit.key, "done", commit.reply, commit.at):
        # A second end would be a second answer: the turn must not count either.
        raise HotseatError(
            "internal",
            f"request of turn on session {commit.session!r} is unknown or has ended already",
        )
