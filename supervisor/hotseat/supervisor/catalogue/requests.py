"""SQL of accepted requests and their replies. Runs inside a transaction of the catalogue thread."""

import hashlib
import sqlite3
from typing import Final, Literal

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ModelName, RequestKey, SessionName
from hotseat.supervisor.catalogue.rows import Acceptance, AcceptRecord, RequestRow

_SELECT: Final = (
    "SELECT key, token, request_id, kind, body, body_digest, model, session, seed, state, reply,"
    " created_at, ended_at, offset_tokens FROM requests"
)


def body_digest(body: bytes) -> str:
    """Tells whether a re-sent id carries the request it was accepted with."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def accept(db: sqlite3.Connection, record: AcceptRecord) -> Acceptance:
    """Inserts the request, or finds the one that has its key already."""
    digest = body_digest(record.body)
    inserted = db.execute(
        "INSERT INTO requests (key, token, request_id, kind, body, body_digest, model, session,"
        " seed, state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'accepted', ?)"
        " ON CONFLICT (key) DO NOTHING",
        (
            record.key,
            record.token,
            record.request_id,
            record.kind,
            record.body,
            digest,
            record.model,
            record.session,
            record.seed,
            record.created_at,
        ),
    ).rowcount
    row = request(db, record.key)
    if row is None:
        raise HotseatError("internal", f"request {record.request_id} vanished while accepted")
    return Acceptance(row=row, is_new=inserted == 1, same_body=row.body_digest == digest)


def reject(db: sqlite3.Connection, key: RequestKey) -> bool:
    """Forgets a request that was refused before any work; one that ended stays."""
    return (
        db.execute("DELETE FROM requests WHERE key = ? AND state = 'accepted'", (key,)).rowcount
        == 1
    )


def forget_session(db: sqlite3.Connection, model: ModelName, name: SessionName) -> None:
    """Forgets the replies of a session that is removed."""
    db.execute(
        "DELETE FROM requests WHERE model = ? AND session = ? AND state <> 'accepted'",
        (model, name),
    )


def finish(
    db: sqlite3.Connection,
    key: RequestKey,
    kind: Literal["done", "error"],
    reply: bytes,
    at: float,
) -> bool:
    """Stores how a request ended; False when it is unknown or had ended before."""
    return (
        db.execute(
            "UPDATE requests SET state = ?, reply = ?, ended_at = ?, body = x''"
            " WHERE key = ? AND state = 'accepted'",
            (kind, reply, at, key),
        ).rowcount
        == 1
    )


def note_offset(db: sqlite3.Connection, key: RequestKey, offset_tokens: int) -> None:
    """Remembers how many completion tokens of a running request are durable."""
    db.execute(
        "UPDATE requests SET offset_tokens = ? WHERE key = ? AND state = 'accepted'",
        (offset_tokens, key),
    )


def request(db: sqlite3.Connection, key: RequestKey) -> RequestRow | None:
    """The request of that key, running or ended."""
    found = db.execute(_SELECT + " WHERE key = ?", (key,)).fetchone()
    return None if found is None else _row(found)


def unfinished(db: sqlite3.Connection) -> list[RequestRow]:
    """Requests that were accepted and have not ended, oldest first."""
    return [
        _row(found)
        for found in db.execute(_SELECT + " WHERE state = 'accepted' ORDER BY created_at, rowid")
    ]


def last_of_session(
    db: sqlite3.Connection, model: ModelName, name: SessionName
) -> RequestRow | None:
    """The request of that session that ended last and whose reply is still stored."""
    found = db.execute(
        _SELECT + " WHERE model = ? AND session = ? AND ended_at IS NOT NULL"
        " ORDER BY ended_at DESC LIMIT 1",
        (model, name),
    ).fetchone()
    return None if found is None else _row(found)


def prune_replies(db: sqlite3.Connection, now: float, keep_s: float, keep_bytes: int) -> int:
    """Forgets ended requests that are too old, then the oldest beyond `keep_bytes`."""
    removed = db.execute("DELETE FROM requests WHERE ended_at < ?", (now - keep_s,)).rowcount
    removed += db.execute(
        "DELETE FROM requests WHERE key IN (SELECT key FROM (SELECT key,"
        " SUM(length(reply)) OVER (ORDER BY ended_at DESC, key) AS kept_bytes"
        " FROM requests WHERE ended_at IS NOT NULL) WHERE kept_bytes > ?)",
        (keep_bytes,),
    ).rowcount
    return removed


def _row(found: tuple[object, ...]) -> RequestRow:
    return RequestRow(**dict(zip(RequestRow.__struct_fields__, found, strict=True)))  # type: ignore[arg-type]
