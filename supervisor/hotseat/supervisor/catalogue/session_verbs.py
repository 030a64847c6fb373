"""SQL of fork, copy, rewind and replace. Runs inside a transaction of the catalogue thread.

What a session is after a verb is decided by `conversation/cuts.py`; here it is read and stored.
"""

import sqlite3
from collections.abc import Callable

from msgspec import structs

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, SessionName
from hotseat.protocol.tokens import block_chain, unpack_tokens
from hotseat.supervisor.catalogue import blocks, snapshots, superseded
from hotseat.supervisor.catalogue.rows import KvFile, SessionRow
from hotseat.supervisor.catalogue.sessions import session, turns
from hotseat.supervisor.conversation.cuts import SessionTurns, TurnRow

Change = Callable[[SessionTurns], SessionTurns]


def missing(model: str, name: str) -> HotseatError:
    """No session of this name on this model."""
    return HotseatError(
        "session_missing",
        f"no session {name!r} on model {model!r}; `hotseat sessions` lists them",
        model=model,
        session=name,
    )


def taken(model: str, name: str) -> HotseatError:
    """A fork does not write over a session."""
    return HotseatError(
        "session_conflict",
        f"session {name!r} of model {model!r} exists; choose another name, or remove it first",
        model=model,
        session=name,
    )


def fork(
    db: sqlite3.Connection,
    model: ModelName,
    name: SessionName,
    to: SessionName,
    change: Change,
    now: float,
) -> SessionRow:
    """Stores `change` of a session under another name, sharing its blocks.

    Raises session_missing, session_conflict when `to` exists, or what `change` raises.
    """
    row = _existing(db, model, name)
    if session(db, model, to) is not None:
        raise taken(model, to)
    held = change(row.held(turns(db, model, name)))
    origin = structs.replace(row, name=to, created_at=now)
    return _insert(db, origin, held)


def insert(db: sqlite3.Connection, origin: SessionRow, held: SessionTurns) -> SessionRow:
    """Stores a new session. Raises session_conflict when there is one of its name."""
    if session(db, origin.model, origin.name) is not None:
        raise taken(origin.model, origin.name)
    return _insert(db, origin, held)


def change_session(
    db: sqlite3.Connection, model: ModelName, name: SessionName, change: Change, now: float
) -> tuple[SessionRow, list[KvFile]]:
    """Stores `change` of a session in its place; files that nobody needs now.

    Blocks it does not use any more stay as cache. Its tail stays while the session ends in it: a
    tail may be cut when it is read. Raises session_missing, or what `change` raises.
    """
    row = _existing(db, model, name)
    held = change(row.held(turns(db, model, name)))
    begun = snapshots.owned(db, row.id)
    db.execute(
        "UPDATE sessions SET turn = ?, tokens = ?, messages = ?, hint = ?, closed = ?, stale = ?,"
        " used_at = ? WHERE id = ?",
        (
            held.turn,
            held.tokens,
            held.messages,
            held.hint,
            held.closed,
            held.stale,
            now,
            row.id,
        ),
    )
    db.execute("DELETE FROM turns WHERE session = ?", (row.id,))
    _store_turns(db, row.id, held.turns)
    chain = block_chain(row.tag, unpack_tokens(held.tokens))
    stored = blocks.link_chain(db, row.id, chain)
    superseded.note_snapshots(db, row.id, begun)
    files = blocks.drop_foreign_tail(db, row.id, row.tag, chain, stored, held.tokens)
    return _existing(db, model, name), files


def _insert(db: sqlite3.Connection, origin: SessionRow, held: SessionTurns) -> SessionRow:
    """Stores `held` as a session with names, tag and clock of `origin`."""
    found = db.execute(
        "INSERT INTO sessions (model, name, tag, tokenizer_digest, turn, tokens, messages, hint,"
        " closed, clock, persist, created_at, used_at, stale, agent)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            origin.model,
            origin.name,
            origin.tag,
            origin.tokenizer_digest,
            held.turn,
            held.tokens,
            held.messages,
            held.hint,
            held.closed,
            origin.clock,
            origin.persist,
            origin.created_at,
            origin.created_at,
            held.stale,
            origin.agent,
        ),
    ).fetchone()
    _store_turns(db, int(found[0]), held.turns)
    blocks.link_chain(db, int(found[0]), block_chain(origin.tag, unpack_tokens(held.tokens)))
    return _existing(db, origin.model, origin.name)


def _existing(db: sqlite3.Connection, model: ModelName, name: SessionName) -> SessionRow:
    row = session(db, model, name)
    if row is None:
        raise missing(model, name)
    return row


def _store_turns(db: sqlite3.Connection, session_id: int, entries: tuple[TurnRow, ...]) -> None:
    db.executemany(
        "INSERT INTO turns (session, turn, tokens, message_count, at, shared_tokens, reachable,"
        " request) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                session_id,
                entry.turn,
                entry.tokens,
                entry.message_count,
                entry.at,
                entry.shared_tokens,
                entry.reachable,
                entry.request,
            )
            for entry in entries
        ],
    )
