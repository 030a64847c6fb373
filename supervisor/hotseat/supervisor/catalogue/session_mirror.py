"""Keeps the session files in step with the catalogue: written before a commit, dropped after it.

Runs on the catalogue's thread. Triggers note which sessions a transaction touched, so that whoever
changes a session needs to know nothing of files. Hidden sessions (suspended requests) have none.
"""

import sqlite3
from collections import deque
from pathlib import Path
from typing import Final

import structlog

from hotseat.protocol.ids import ModelName, SessionName
from hotseat.supervisor.catalogue import requests, sessions
from hotseat.supervisor.catalogue.session_files import (
    SessionFile,
    file_name,
    list_revisions,
    session_digest,
    sync_folder,
    write_session,
)

_TRIGGERS: Final = """
CREATE TEMP TABLE touched (model TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (model, name));
CREATE TEMP TRIGGER session_made AFTER INSERT ON main.sessions
BEGIN INSERT OR IGNORE INTO touched VALUES (NEW.model, NEW.name); END;
CREATE TEMP TRIGGER session_revised AFTER UPDATE OF revision ON main.sessions
BEGIN INSERT OR IGNORE INTO touched VALUES (NEW.model, NEW.name); END;
CREATE TEMP TRIGGER session_moved AFTER UPDATE OF model ON main.sessions
BEGIN INSERT OR IGNORE INTO touched VALUES (OLD.model, OLD.name), (NEW.model, NEW.name); END;
CREATE TEMP TRIGGER session_gone AFTER DELETE ON main.sessions
BEGIN INSERT OR IGNORE INTO touched VALUES (OLD.model, OLD.name); END;
"""
_STEP: Final = 8
"""Files written at once when a whole home has none yet."""
log = structlog.get_logger()
Key = tuple[ModelName, SessionName]


class SessionMirror:
    """One file per session, in `folder`. A file that cannot be written is tried again later."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, set[int]] = {}
        self._stale: deque[Key] = deque()
        self._current: dict[str, int | None] = {}
        """Of the sessions of this transaction: the revision to keep, None for none."""

    def open(self, connection: sqlite3.Connection) -> None:
        """Learns what is there; changes no file."""
        connection.executescript(_TRIGGERS)
        self._known = list_revisions(self._folder)

    def reconcile(self, connection: sqlite3.Connection) -> int:
        """Drops files of no session and notes sessions without a file; how many those are."""
        wanted: dict[str, int] = {}
        for model, name, revision in connection.execute(
            "SELECT model, name, revision FROM sessions WHERE substr(name, 1, 1) <> '.'"
        ):
            digest = session_digest(model, name)
            wanted[digest] = revision
            if revision not in self._known.get(digest, ()):
                self._stale.append((model, name))
        for digest in tuple(self._known):
            self._keep_only(digest, wanted.get(digest))
        return len(self._stale)

    def catch_up(self, connection: sqlite3.Connection) -> int:
        """Writes a few of the files that are missing; how many are left."""
        for _ in range(min(_STEP, len(self._stale))):
            self._touch(connection, self._stale.popleft())
        return len(self._stale)

    def before_commit(self, connection: sqlite3.Connection) -> None:
        """Writes the file of every session that the transaction made or changed."""
        touched = connection.execute("SELECT model, name FROM touched").fetchall()
        if not touched:
            return
        connection.execute("DELETE FROM touched")
        self._current = {}
        try:
            if sum([self._write(connection, key) for key in touched]):
                sync_folder(self._folder)
        except OSError as error:
            # The catalogue has it; only a second fault could lose it.
            log.warning("session.file_failed", reason=str(error))
            self._stale.extend(key for key in touched if key not in self._stale)
            self._current = {}

    def after_commit(self) -> None:
        """Drops the files that the commit made obsolete."""
        current, self._current = self._current, {}
        for digest, revision in current.items():
            self._keep_only(digest, revision)

    def after_rollback(self) -> None:
        """What was written for it stays until the revision is written again."""
        self._current = {}

    def _write(self, connection: sqlite3.Connection, key: Key) -> bool:
        """True if a file was written."""
        digest = session_digest(*key)
        row = sessions.session(connection, *key)
        if row is None or row.name.startswith("."):
            self._current[digest] = None
            return False
        content = SessionFile(
            row=row,
            turns=tuple(sessions.turns(connection, *key)),
            request=requests.last_of_session(connection, *key),
        )
        write_session(self._folder, content)
        self._known.setdefault(digest, set()).add(row.revision)
        self._current[digest] = row.revision
        return True

    def _keep_only(self, digest: str, revision: int | None) -> None:
        revisions = self._known.pop(digest, set())
        for old in revisions - {revision}:
            try:
                (self._folder / file_name(digest, old)).unlink(missing_ok=True)
            except OSError as error:
                log.warning("session.file_stays", reason=str(error))
        if revision is not None and revision in revisions:
            self._known[digest] = {revision}

    def _touch(self, connection: sqlite3.Connection, key: Key) -> None:
        connection.execute("INSERT OR IGNORE INTO temp.touched VALUES (?, ?)", key)
