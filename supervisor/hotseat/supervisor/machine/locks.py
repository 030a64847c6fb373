"""Two locks held by the kernel: one daemon per home, one seat per machine.

Both are `flock` on a file that stays; what the file says is for people, only the lock counts.
"""

import fcntl
import os
import pwd
import stat
import time
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hotseat.protocol.errors import HotseatError

DEFAULT_SEAT_LOCK: Final = Path("/tmp/hotseat-seat.lock")  # noqa: S108
"""The same for every user; `tempfile` would give each user of a Mac a folder of their own."""
_CONTENT_BYTES: Final = 4096
_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_ATTEMPTS: Final = 10
_PAUSE_S: Final = 0.004
"""Together they stay below what a step of the supervisor may take."""
S = TypeVar("S", bound=Struct)


class DaemonNote(Struct, frozen=True, kw_only=True):
    """What the holder of a home says about itself."""

    pid: int
    since: float


class SeatNote(Struct, frozen=True, kw_only=True):
    """What the holder of the seat says about itself."""

    pid: int
    user: str
    model: str
    size_bytes: int
    since: float


class InstanceLock:
    """Keeps a second daemon off a home; take it before anything is bound or opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Raises `HotseatError` (already_running) naming the pid, within a second."""
        fd = os.open(self._path, _OPEN | os.O_CREAT, 0o600)
        if not _try_lock(fd):
            note = _read_note(fd, DaemonNote)
            os.close(fd)
            pid = note.pid if note else None
            raise HotseatError(
                "already_running",
                f"a daemon is running on {self._path.parent.parent} (pid {pid or 'unknown'});"
                " end it with `hotseat stop`, or set HOTSEAT_HOME to another folder",
                pid=pid,
                lock=str(self._path),
            )
        _write_note(fd, DaemonNote(pid=os.getpid(), since=time.time()))
        self._fd = fd

    def release(self) -> None:
        """Lets the next daemon in; the file stays, so that nobody locks a deleted one."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None


class SeatLock:
    """The machine's one seat. Held while a worker has weights.

    The worker inherits `fileno()` (`pass_fds`): it shares the open file description, so the seat
    stays taken while an orphaned worker lives, whatever happened to the supervisor.
    """

    def __init__(self, path: Path = DEFAULT_SEAT_LOCK) -> None:
        self._path = path
        self._fd: int | None = None
        self._is_held = False

    @property
    def is_held(self) -> bool:
        """True between `acquire` and `release`."""
        return self._is_held

    def fileno(self) -> int:
        """Descriptor to hand to a worker; the same one until `close`. Opens the file if needed."""
        if self._fd is None:
            self._fd = _open_shared(self._path)
        return self._fd

    def acquire(self, model: str, size_bytes: int) -> None:
        """Takes the seat, or renames its use if it is ours already.

        Raises `HotseatError`: seat_taken with {user, pid, model, bytes} of the holder.
        """
        if not self._is_held:
            self._lock()
        note = SeatNote(
            pid=os.getpid(), user=_user(), model=model, size_bytes=size_bytes, since=time.time()
        )
        _write_note(self.fileno(), note)

    def refresh(self) -> bool:
        """Marks the file as used, for folders that are tidied; False if it was replaced."""
        if self._fd is None:
            return False
        os.utime(self._fd)
        return _is_at(self._path, self._fd)

    def release(self) -> None:
        """Gives the seat up. Only for when no worker lives: this frees it for orphans too."""
        if self._fd is None or not self._is_held:
            return
        os.ftruncate(self._fd, 0)
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._is_held = False

    def close(self) -> None:
        """Closes our descriptor. A worker that inherited a held lock keeps the seat taken."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None
        self._is_held = False

    def _lock(self) -> None:
        for _ in range(_ATTEMPTS):
            fd = self.fileno()
            if not _try_lock(fd):
                raise _seat_taken(self._path, _read_note(fd, SeatNote))
            if _is_at(self._path, fd):
                self._is_held = True
                return
            # Somebody tidied the file away after we opened it: our lock would guard nothing.
            self.close()
        raise _unsafe(self._path, "keeps being replaced")


def read_holder(path: Path) -> SeatNote | None:
    """What the holder of the seat wrote, if it lives. Never locks: a daemon may be about to."""
    try:
        note = msgspec.json.decode(path.read_bytes()[:_CONTENT_BYTES], type=SeatNote)
        os.kill(note.pid, 0)
    except PermissionError:  # lives, and belongs to somebody else
        pass
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return replace(note, user=_printable(note.user), model=_printable(note.model))


def _seat_taken(path: Path, note: SeatNote | None) -> HotseatError:
    if note is None:
        return HotseatError(
            "seat_taken",
            f"another hotseat on this machine holds the seat ({path}); wait for it to release",
            user=None,
            pid=None,
            model=None,
            bytes=None,
            lock=str(path),
        )
    model, user = _printable(note.model), _printable(note.user)
    return HotseatError(
        "seat_taken",
        f"user {user} holds this machine's seat with model {model}"
        f" ({note.size_bytes} bytes, pid {note.pid}); wait for it, or end it there with"
        " `hotseat release` or `hotseat stop`",
        user=user,
        pid=note.pid,
        model=model,
        bytes=note.size_bytes,
        lock=str(path),
    )


def _open_shared(path: Path) -> int:
    """Opens or makes a file that every user may lock, and nothing but that file."""
    refusal: OSError | None = None
    for _ in range(_ATTEMPTS):
        try:
            # Without O_CREAT first: kernels refuse O_CREAT on other users' files in /tmp.
            fd = os.open(path, _OPEN)
        except FileNotFoundError:
            try:
                fd = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                continue
            except OSError as error:
                raise _unsafe(path, f"cannot be made ({error.strerror})") from error
            os.fchmod(fd, 0o666)  # the umask took bits away
        except PermissionError as error:
            # Its maker may be between making it and opening it up to others.
            time.sleep(_PAUSE_S)
            refusal = error
            continue
        except OSError as error:
            raise _unsafe(path, f"cannot be opened ({error.strerror})") from error
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
            return fd
        os.close(fd)
        if found.st_nlink == 0:
            continue
        raise _unsafe(path, "is no ordinary file of its own")
    raise _unsafe(path, "may not be opened by this user") from refusal


def _unsafe(path: Path, what: str) -> HotseatError:
    return HotseatError(
        "invalid_config",
        f"seat lock {path} {what}; remove it, or set [seat] lock_path to the same file for all"
        " users of this machine",
        lock=str(path),
    )


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, fd: int) -> bool:
    """True if the path still leads to the open file."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _write_note(fd: int, note: Struct) -> None:
    data = msgspec.json.encode(note)
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)


def _read_note(fd: int, kind: type[S]) -> S | None:
    """What the holder wrote; it may be about to, so this waits a little. None: unreadable."""
    for _ in range(_ATTEMPTS):
        try:
            return msgspec.json.decode(os.pread(fd, _CONTENT_BYTES, 0), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            time.sleep(_PAUSE_S)
    return None


def _printable(text: str) -> str:
    """Other users write this text: no control characters into our terminal."""
    return "".join(letter for letter in text[:128] if letter.isprintable())


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
