"""The tables, and opening them: pragmas, migration, damaged files put aside. Knows no meaning."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MIB
from hotseat.supervisor.catalogue.copies import drop_copies_before, keep_copy

_BUSY_MS: Final = 5_000
_CHECKED_BYTES: Final = 64 * MIB
"""Larger catalogues are not read from end to end at every start."""

_V1: Final = """
CREATE TABLE requests (
  key TEXT PRIMARY KEY,
  token TEXT NOT NULL,
  request_id TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('generate', 'swap')),
  body BLOB NOT NULL,
  body_digest TEXT NOT NULL,
  model TEXT NOT NULL,
  session TEXT,
  seed INTEGER,
  state TEXT NOT NULL CHECK (state IN ('accepted', 'done', 'error')),
  reply BLOB NOT NULL DEFAULT x'',
  created_at REAL NOT NULL,
  ended_at REAL,
  offset_tokens INTEGER NOT NULL DEFAULT 0,
  CHECK ((state = 'accepted') = (ended_at IS NULL))
) STRICT;
CREATE INDEX requests_ended ON requests (ended_at);

CREATE TABLE sessions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  model TEXT NOT NULL,
  name TEXT NOT NULL,
  tag TEXT NOT NULL,
  tokenizer_digest TEXT NOT NULL,
  turn INTEGER NOT NULL,
  closed INTEGER NOT NULL,
  clock REAL NOT NULL,
  persist INTEGER NOT NULL,
  created_at REAL NOT NULL,
  used_at REAL NOT NULL,
  hint BLOB NOT NULL,
  tokens BLOB NOT NULL,
  messages BLOB NOT NULL,
  UNIQUE (model, name)
) STRICT;

CREATE TABLE turns (
  session INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  turn INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  message_count INTEGER NOT NULL,
  at REAL NOT NULL,
  PRIMARY KEY (session, turn)
) STRICT, WITHOUT ROWID;

CREATE TABLE blocks (
  id TEXT PRIMARY KEY,
  tag TEXT NOT NULL,
  parent TEXT NOT NULL,
  idx INTEGER NOT NULL,
  file TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  written_at REAL NOT NULL,
  used_at REAL NOT NULL,
  UNIQUE (tag, file)
) STRICT, WITHOUT ROWID;
CREATE INDEX blocks_parent ON blocks (parent);

CREATE TABLE session_blocks (
  session INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  idx INTEGER NOT NULL,
  block TEXT NOT NULL REFERENCES blocks (id) ON DELETE RESTRICT,
  PRIMARY KEY (session, idx)
) STRICT, WITHOUT ROWID;
CREATE INDEX session_blocks_block ON session_blocks (block);

CREATE TABLE tails (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  session INTEGER NOT NULL UNIQUE REFERENCES sessions (id) ON DELETE CASCADE,
  tag TEXT NOT NULL,
  parent TEXT NOT NULL,
  idx INTEGER NOT NULL,
  tokens BLOB NOT NULL,
  hint BLOB NOT NULL,
  file TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  written_at REAL NOT NULL,
  UNIQUE (tag, file)
) STRICT;
CREATE INDEX tails_parent ON tails (parent);

CREATE TABLE journal (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  at REAL NOT NULL,
  name TEXT NOT NULL,
  facts TEXT NOT NULL
) STRICT;

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""

_V2: Final = """
ALTER TABLE sessions ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
CREATE TRIGGER session_changed
AFTER UPDATE OF tag, turn, tokens, messages, closed, clock, pinned ON sessions
BEGIN UPDATE sessions SET revision = revision + 1 WHERE id = NEW.id; END;
"""
"""Pins, and a number that tells a session's file from an older one of the same session."""

_V3: Final = """
ALTER TABLE turns ADD COLUMN shared_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE turns ADD COLUMN reachable INTEGER NOT NULL DEFAULT 1;
UPDATE turns SET shared_tokens = tokens
  WHERE turn = (SELECT s.turn FROM sessions s WHERE s.id = turns.session);
UPDATE turns SET reachable = 0 WHERE EXISTS (SELECT 1 FROM turns later
  WHERE later.session = turns.session AND later.turn > turns.turn
  AND later.message_count <= turns.message_count);
ALTER TABLE sessions ADD COLUMN stale INTEGER NOT NULL DEFAULT 0;
ALTER TABLE blocks ADD COLUMN tokens BLOB NOT NULL DEFAULT x'';
"""
"""Turns to go back to, and what is in a block. Of older turns only the messages are trusted."""

_V4: Final = """
CREATE TABLE snapshots (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  tag TEXT NOT NULL,
  parent TEXT NOT NULL,
  idx INTEGER NOT NULL,
  tokens BLOB NOT NULL,
  hint BLOB NOT NULL,
  file TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  written_at REAL NOT NULL,
  used_at REAL NOT NULL,
  UNIQUE (tag, parent, tokens),
  UNIQUE (tag, file)
) STRICT;
CREATE INDEX snapshots_parent ON snapshots (parent);
CREATE VIEW snapshot_users AS
SELECT n.id AS snapshot, n.tag AS tag, n.file AS file, n.size_bytes AS size_bytes,
  256 * n.idx + length(n.tokens) / 4 AS position,
  s.id AS session, s.model AS model, s.name AS name
FROM snapshots n JOIN sessions s ON s.tag = n.tag
  AND substr(s.tokens, 1 + 1024 * n.idx, length(n.tokens)) = n.tokens
  AND (n.idx = 0 OR EXISTS (SELECT 1 FROM session_blocks l
    WHERE l.session = s.id AND l.idx = n.idx - 1 AND l.block = n.parent));
"""
"""State of recurrent layers, addressed by token prefix like a block; its users begin with it."""

_V5: Final = """
CREATE TABLE left_blocks (
  session INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  block TEXT NOT NULL REFERENCES blocks (id) ON DELETE CASCADE,
  PRIMARY KEY (session, block)
) STRICT, WITHOUT ROWID;
CREATE INDEX left_blocks_block ON left_blocks (block);
CREATE TABLE left_snapshots (
  session INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  snapshot INTEGER NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE,
  PRIMARY KEY (session, snapshot)
) STRICT, WITHOUT ROWID;
CREATE INDEX left_snapshots_snapshot ON left_snapshots (snapshot);
"""
"""What a session had before its history changed: cache, until the session is removed."""

_V6: Final = """
ALTER TABLE sessions ADD COLUMN agent TEXT NOT NULL DEFAULT '';
"""
"""Whose the newest turn of a session is, so that all of an agent can be forgotten."""

_V7: Final = """
ALTER TABLE turns ADD COLUMN request TEXT NOT NULL DEFAULT '';
"""
"""Which request made a turn: after a rewind another one gets its number."""

_MIGRATIONS: Final[tuple[str, ...]] = (_V1, _V2, _V3, _V4, _V5, _V6, _V7)
"""Entry n brings a catalogue from version n to n + 1; never changed, only added to."""
SCHEMA_VERSION: Final = len(_MIGRATIONS)


class Opened(Struct, frozen=True, kw_only=True):
    """How opening went. `damaged` is where an unreadable catalogue was put, with its `reason`."""

    created: bool
    damaged: Path | None = None
    reason: str = ""


def open_catalogue(path: Path) -> tuple[sqlite3.Connection, Opened]:
    """A connection to a sound catalogue; one that cannot be read is renamed, never deleted."""
    created = not path.exists()
    try:
        return _connect(path), Opened(created=created)
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        damaged = _put_aside(path)
        opened = Opened(created=True, damaged=damaged, reason=str(error))
        return _connect(path), opened


def _connect(path: Path) -> sqlite3.Connection:
    # SQLite gives its WAL and index files the mode of the main file.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise HotseatError(
            "version_mismatch",
            f"{path} has catalogue version {version}, this hotseat reads up to {SCHEMA_VERSION};"
            " run the newer hotseat again, or go back with `hotseat kv rebuild`, which keeps this"
            " file (or move the file away): a new one is made from the files of sessions and"
            " contexts",
            file=str(path),
            version=version,
            known=SCHEMA_VERSION,
        )
    if version == 0:
        # Only takes effect while the file is still empty.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # On macOS a commit is handed to the drive, and the thread that makes it flushes: once for all
    # files. Folding the log back needs its order on the medium. Elsewhere this changes nothing.
    connection.execute("PRAGMA fullfsync = OFF")
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    connection.execute("PRAGMA foreign_keys = ON")
    if path.stat().st_size <= _CHECKED_BYTES:
        finding = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if finding != "ok":
            raise _Malformed(str(finding))
    _migrate(connection, path, version)


def _migrate(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """All steps or none; what an older hotseat reads is copied before."""
    if version == SCHEMA_VERSION:
        return
    if version:
        keep_copy(connection, path, version)
    steps = "".join(_MIGRATIONS[version:])
    try:
        connection.executescript(f"BEGIN;{steps}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    drop_copies_before(path, version)


class _Malformed(sqlite3.DatabaseError):
    """The integrity check found something."""


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    name = getattr(error, "sqlite_errorname", "") or ""
    return isinstance(error, _Malformed) or name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def _put_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = path.with_name(f"{path.name}.damaged-{stamp}")
    count = 0
    while target.exists():
        count += 1
        target = path.with_name(f"{path.name}.damaged-{stamp}-{count}")
    path.rename(target)
    # A WAL that stayed behind would be replayed into the fresh file.
    for suffix in ("-wal", "-shm"):
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.rename(target.with_name(target.name + suffix))
    return target
