"""KV files on disk: written once under a new name, believed only when verified.

Must not know sessions, epochs' meaning or mlx; `kv_format` knows the bytes.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from msgspec import Struct

from hotseat.protocol import failpoints
from hotseat.protocol.ids import BlockId, Epoch, Tag
from hotseat.worker.store.direct_io import DIRECT_FROM_BYTES, FileReads, write_directly
from hotseat.worker.store.folders import make_folder
from hotseat.worker.store.kv_format import (
    PREFIX_BYTES,
    Buffer,
    KvDamagedError,
    KvHeader,
    KvPayload,
    LayerPart,
    PartHeader,
    StatePart,
    check_identity,
    encode_file,
    parse_header,
    parse_prefix,
    read_part,
    read_state,
)
from hotseat.worker.store.sync import sync_file, sync_folder

TailKind = Literal["tail", "snapshot"]
TEMPORARY_SUFFIX: Final = ".tmp"
BLOCK_VARIANTS: Final = 4
"""Names a block can have: more than one only after a damaged file was found under another."""
_MAX_PIECES: Final = 512
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PASSING: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EINTR}
_NO_LINKS: Final = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_READ_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class KvWriteError(Exception):
    """A KV file could not be written; nothing that was stored before is touched."""

    def __init__(self, code: Literal["disk_full", "internal"], message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class KvWritten(Struct, frozen=True, kw_only=True):
    """`name` is where the payload is now; `bytes_written` is 0 if it was there already."""

    name: str
    size_bytes: int
    bytes_written: int


def block_file(block: BlockId, variant: int = 0) -> str:
    """Name of a block relative to the KV folder, fanned out over 256 folders."""
    suffix = f".{variant}" if variant else ""
    return f"blocks/{block[:2]}/{block}{suffix}.kv"


def block_names(block: BlockId) -> list[str]:
    """All names under which a block may lie, in the order to try them."""
    return [block_file(block, variant) for variant in range(BLOCK_VARIANTS)]


def tail_file(kind: TailKind, epoch: Epoch, sequence: int) -> str:
    """A name that no tail or snapshot ever had."""
    return f"{kind}s/{epoch}-{sequence}-{secrets.token_hex(6)}.kv"


def write_block(
    kv_dir: Path, block: BlockId, payload: KvPayload, *, floor_bytes: int = 0
) -> KvWritten:
    """Makes `payload` durable as `block`; an equal file that verifies counts as written."""
    for name in block_names(block):
        if not os.path.lexists(kv_dir / name):
            return write_kv(kv_dir, name, payload, floor_bytes=floor_bytes)
        with contextlib.suppress(KvDamagedError):
            read_kv(kv_dir, name, tag=payload.tag, parent=payload.parent, tokens=payload.tokens)
            return _adopt(kv_dir, name)
    raise KvWriteError(
        "internal",
        f"block {block} has {BLOCK_VARIANTS} damaged files; remove {kv_dir / block_file(block)} "
        "and its neighbours of the same name",
    )


def write_kv(kv_dir: Path, name: str, payload: KvPayload, *, floor_bytes: int = 0) -> KvWritten:
    """Writes a file that must not exist yet; when this returns, the drive has it (`sync`).

    `floor_bytes` of the volume stay free. Raises
    KvWriteError; the temporary file is gone then.
    """
    path = kv_dir / name
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        pieces = encode_file(payload)
    except ValueError as error:
        raise KvWriteError("internal", f"{name}: {error}") from error
    size = sum(len(piece) for piece in pieces)
    try:
        make_folder(path.parent)
        _write_temporary(temporary, pieces, size, floor_bytes)
        if failpoints.ARMED:
            failpoints.reach("kv.synced")
        _publish(temporary, path)
        if failpoints.ARMED:
            failpoints.reach("kv.published")
        sync_folder(path.parent)
    except OSError as error:
        raise _as_write_error(name, size, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return KvWritten(name=name, size_bytes=size, bytes_written=size)


def read_header(kv_dir: Path, name: str) -> KvHeader:
    """Header of a file, verified; its parts are not. Raises KvDamagedError."""
    with contextlib.closing(OpenedKv(kv_dir, name)) as opened:
        return opened.header


def read_kv(
    kv_dir: Path,
    name: str,
    *,
    tag: Tag,
    parent: BlockId | None,
    tokens: bytes | None,
    skip_entries: Collection[int] = (),
) -> KvPayload:
    """The payload over one allocation, everything in it verified; raises KvDamagedError.

    Parts of `skip_entries` are neither read nor verified and are missing from the result.
    """
    with contextlib.closing(OpenedKv(kv_dir, name)) as opened:
        check_identity(opened.header, tag, parent, tokens)
        parts = opened.read_parts(skip_entries)
        states = opened.read_states()
    return KvPayload(
        tag=opened.header.tag,
        parent=opened.header.parent,
        tokens=opened.header.tokens,
        hint=opened.header.hint,
        parts=parts,
        states=states,
    )


class OpenedKv:
    """A file whose prefix and header are verified. Raises KvDamagedError."""

    def __init__(self, kv_dir: Path, name: str, *, is_past_cache: bool = False) -> None:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise KvDamagedError(f"{name!r} leaves the KV folder")
        with _reasons():
            self._fd = os.open(kv_dir / name, _READ_FLAGS)
        self._reads = FileReads(self._fd, is_past_cache=is_past_cache)
        try:
            with _reasons():
                size = os.fstat(self._fd).st_size
                self._prefix = parse_prefix(os.pread(self._fd, PREFIX_BYTES, 0), size)
                self.header = parse_header(
                    self._prefix,
                    self._read(self._prefix.payload_offset - PREFIX_BYTES, PREFIX_BYTES),
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the file back."""
        # What was read is verified by then: a disk that fails now must not end the worker.
        self._reads.close()
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def stamp(self) -> tuple[int, int]:
        """Size and time of the file as it is now. Raises KvDamagedError."""
        with _reasons():
            found = os.fstat(self._fd)
        return found.st_size, found.st_mtime_ns

    def places(self) -> dict[int, tuple[PartHeader, int]]:
        """Each part by its cache entry, with where it starts."""
        found, offset = {}, self._prefix.payload_offset
        for part in self.header.parts:
            found[part.entry] = (part, offset)
            offset += part.size_bytes
        return found

    def read(self, size: int, position: int, memory: memoryview) -> memoryview:
        """Bytes of the file in `memory`, as `FileReads.read` takes it. Raises KvDamagedError."""
        return self._read(size, position, memory)

    def read_parts(self, skip_entries: Collection[int]) -> tuple[LayerPart, ...]:
        """All parts but those of some entries, verified."""
        parts = []
        for run, start in self._runs(skip_entries):
            left = self._read(sum(part.size_bytes for part in run), start)
            for part in run:
                parts.append(read_part(part, left[: part.size_bytes]))
                left = left[part.size_bytes :]
        return tuple(parts)

    def _runs(self, skip_entries: Collection[int]) -> Iterator[tuple[list[PartHeader], int]]:
        """Parts that are wanted and lie one behind the other, with where they start."""
        run: list[PartHeader] = []
        start = offset = self._prefix.payload_offset
        for part in self.header.parts:
            if part.entry in skip_entries:
                if run:
                    yield run, start
                run, start = [], offset + part.size_bytes
            else:
                run.append(part)
            offset += part.size_bytes
        if run:
            yield run, start

    def read_states(self) -> tuple[StatePart, ...]:
        """All states, verified."""
        position = self._prefix.payload_offset + sum(part.size_bytes for part in self.header.parts)
        states = []
        for header in self.header.states:
            states.append(read_state(header, self._read(header.size_bytes, position)))
            position += header.size_bytes
        return tuple(states)

    def _read(self, size: int, position: int, memory: memoryview | None = None) -> memoryview:
        with _reasons():
            try:
                return self._reads.read(position, size, memory)
            except EOFError as error:
                raise KvDamagedError("truncated while it was read") from error


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """Turns what the operating system says into KvDamagedError."""
    try:
        yield
    except FileNotFoundError as error:
        raise KvDamagedError("missing") from error
    except OSError as error:
        reason = f"cannot be read: {errno.errorcode.get(error.errno or 0, 'unknown error')}"
        raise KvDamagedError(reason, is_lasting=error.errno not in _PASSING) from error


def _write_temporary(path: Path, pieces: Sequence[Buffer], size: int, floor_bytes: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o600)
    try:
        volume = os.fstatvfs(fd)
        free = volume.f_bavail * volume.f_frsize
        if free - size < floor_bytes:
            raise OSError(errno.ENOSPC, f"{free} bytes free, {floor_bytes} must stay free")
        if failpoints.ARMED:
            failpoints.reach("kv.writing")
            _write_torn(fd, pieces)
        if size >= DIRECT_FROM_BYTES:
            write_directly(fd, (memoryview(piece) for piece in pieces))
        else:
            _write_all(fd, pieces)
        sync_file(fd)
    finally:
        os.close(fd)


def _write_torn(fd: int, pieces: Sequence[Buffer]) -> None:
    """For tests: a part of the file, then the end of the process."""
    size = failpoints.torn_bytes("kv.writing")
    if size is not None:
        os.write(fd, b"".join(pieces)[:size])
        failpoints.die()


def _write_all(fd: int, pieces: Sequence[Buffer]) -> None:
    left = [memoryview(piece) for piece in pieces]
    first = 0
    while first < len(left):
        count = os.writev(fd, left[first : first + _MAX_PIECES])
        while first < len(left) and count >= len(left[first]):
            count -= len(left[first])
            first += 1
        if count:
            left[first] = left[first][count:]


def _publish(temporary: Path, path: Path) -> None:
    """Gives the file its name; FileExistsError if somebody else has it.

    A link instead of a rename, because a rename would replace in silence.
    """
    try:
        os.link(temporary, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "file exists", str(path)) from error
        temporary.rename(path)


def _adopt(kv_dir: Path, name: str) -> KvWritten:
    """A file that an earlier process left may not have been synced."""
    path = kv_dir / name
    try:
        fd = os.open(path, _READ_FLAGS)
        try:
            size = os.fstat(fd).st_size
            sync_file(fd)
        finally:
            os.close(fd)
        sync_folder(path.parent)
    except OSError as error:
        raise _as_write_error(name, 0, error) from error
    return KvWritten(name=name, size_bytes=size, bytes_written=0)


def _as_write_error(name: str, size: int, error: OSError) -> KvWriteError:
    if error.errno in _FULL:
        return KvWriteError(
            "disk_full",
            f"no space for {name} ({size} bytes): {error.strerror}; free space or lower the "
            "disk budget",
        )
    return KvWriteError("internal", f"{name} ({size} bytes) could not be written: {error.strerror}")
