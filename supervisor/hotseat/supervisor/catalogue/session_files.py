r"""Sessions as files, so that a catalogue that cannot be read can be made anew. Knows no SQL.

    "HOTSESS\n", digest of the rest (blake2b, 16 bytes), MessagePack of `SessionFile`

One file per session and revision, `DIGEST-REVISION.session`. No file is ever replaced: the next
revision gets a name of its own, and the one before goes after the commit.
"""

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from hotseat.supervisor.catalogue.rows import RequestRow, SessionRow
from hotseat.supervisor.conversation.cuts import TurnRow

_MAGIC: Final = b"HOTSESS\n"
_DIGEST_BYTES: Final = 16
_NAME: Final = re.compile(r"([0-9a-f]{32})-(\d+)\.session")
_ENCODER: Final = msgspec.msgpack.Encoder()


class SessionFile(Struct, frozen=True, kw_only=True):
    """A session with its turns, and the last answer that a client may ask for again."""

    version: int = 1
    row: SessionRow
    turns: tuple[TurnRow, ...] = ()
    request: RequestRow | None = None


_DECODER: Final[msgspec.msgpack.Decoder[SessionFile]] = msgspec.msgpack.Decoder(SessionFile)


class SessionDamagedError(Exception):
    """A session file that does not verify."""


def session_digest(model: str, name: str) -> str:
    """What the files of a session begin with."""
    return hashlib.blake2b(f"{model}\n{name}".encode(), digest_size=_DIGEST_BYTES).hexdigest()


def file_name(digest: str, revision: int) -> str:
    """Name of a revision."""
    return f"{digest}-{revision}.session"


def list_revisions(folder: Path) -> dict[str, set[int]]:
    """Revisions by digest, from names alone; leftovers of a killed write go."""
    found: dict[str, set[int]] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as listing:
        for item in listing:
            name = _NAME.fullmatch(item.name)
            if name is not None:
                found.setdefault(name[1], set()).add(int(name[2]))
            elif item.name.endswith(".tmp"):
                os.unlink(item.path)  # noqa: PTH108 - as scandir gives it
    return found


def write_session(folder: Path, content: SessionFile) -> None:
    """The file of that revision, synced; its name needs a `sync_folder`. Raises OSError."""
    body = _ENCODER.encode(content)
    digest = hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()
    row = content.row
    target = folder / file_name(session_digest(row.model, row.name), row.revision)
    temporary = folder / f".{target.name}.{secrets.token_hex(4)}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(_MAGIC + digest)
            stream.write(body)
            stream.flush()
            os.fsync(stream.fileno())
        # A file of this revision that lies there was written before a commit that never came.
        temporary.rename(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Makes names in `folder` durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_session(path: Path) -> SessionFile:
    """Raises SessionDamagedError unless every byte is as it was written."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SessionDamagedError(str(error)) from error
    start = len(_MAGIC) + _DIGEST_BYTES
    body = data[start:]
    digest = hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()
    if data[:start] != _MAGIC + digest:
        raise SessionDamagedError(f"{path.name} does not verify")
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SessionDamagedError(f"{path.name} does not decode: {error}") from error


def newest_sessions(folder: Path) -> Iterator[SessionFile | SessionDamagedError]:
    """The newest sound revision of every session, and what did not verify on the way to it."""
    for digest, revisions in sorted(list_revisions(folder).items()):
        found = []
        for revision in revisions:
            try:
                found.append(read_session(folder / file_name(digest, revision)))
            except SessionDamagedError as error:
                yield error
        if found:
            # A session that was removed and made again counts its revisions from the start.
            yield max(found, key=lambda entry: (entry.row.created_at, entry.row.revision))
