"""The operating system's file calls, recorded, or made to fail at the k-th of them.

Only calls that concern files below a folder count. `CrashStates` is what may be on the disk after
a power cut: each prefix of the recorded calls with any part of what was not synced yet.
"""

import contextlib
import itertools
import os
import random
from pathlib import Path

CALLS = (
    "open",
    "fstatvfs",
    "write",
    "writev",
    "fsync",
    "link",
    "rename",
    "unlink",
    "mkdir",
    "close",
)
F_FULLFSYNC = 51
MOST_STATES = 100
"""Looked at for one moment of a Mac: its drive may keep any part of many files."""
CUTS = (0.0, 0.5, 1.0)
"""Nothing, a torn half or all of a write."""
SECTOR_BYTES = 512
"""What a direct write that is cut short still keeps to."""


class FaultyOs:
    """While active, counts the calls below `folder`; `fail(name, k)` may raise or shorten one."""

    def __init__(self, monkeypatch, folder, fail=None):
        self.folder = os.fspath(folder)
        self.calls = []
        self.synced_after_failure = 0
        self._fail = fail or (lambda _name, _k: None)
        self._paths = {}
        self._failed_syncs = set()
        self._monkeypatch = monkeypatch
        self._real = {name: getattr(os, name) for name in CALLS}

    @contextlib.contextmanager
    def active(self):
        with self._monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, getattr(self, name))
            yield self

    def _is_ours(self, target):
        if isinstance(target, int):
            return target in self._paths
        return os.fspath(target).startswith(self.folder)

    def _count(self, name):
        self.calls.append(name)
        return self._fail(name, len(self.calls) - 1)

    def open(self, path, flags, mode=0o777, **options):
        if not self._is_ours(path):
            return self._real["open"](path, flags, mode, **options)
        self._count("open")
        fd = self._real["open"](path, flags, mode, **options)
        self._paths[fd] = os.fspath(path)
        self.opened(fd, os.fspath(path), flags)
        return fd

    def write(self, fd, data):
        if not self._is_ours(fd):
            return self._real["write"](fd, data)
        size = len(data)
        if self._count("write") == "short":
            third = max(1, size // 3)
            size = third - third % SECTOR_BYTES or min(size, SECTOR_BYTES)
        count = self._real["write"](fd, data[:size])  # its own memory: a direct write needs that
        self.wrote(fd, bytes(data[:count]))
        return count

    def writev(self, fd, pieces):
        if not self._is_ours(fd):
            return self._real["writev"](fd, pieces)
        data = b"".join(pieces)
        if self._count("writev") == "short":
            data = data[: max(1, len(data) // 3)]
        count = self._real["writev"](fd, [data])
        self.wrote(fd, data[:count])
        return count

    def fsync(self, fd):
        if self._is_ours(fd):
            self.synced_after_failure += fd in self._failed_syncs
            try:
                self._count("fsync")
            except OSError:
                self._failed_syncs.add(fd)
                raise
            self.synced(fd, self._paths[fd])
        return self._real["fsync"](fd)

    def fstatvfs(self, fd):
        if self._is_ours(fd):
            self._count("fstatvfs")
        return self._real["fstatvfs"](fd)

    def link(self, source, target, **options):
        if self._is_ours(target):
            self._count("link")
            self._real["link"](source, target, **options)
            self.linked(os.fspath(source), os.fspath(target))
            return
        self._real["link"](source, target, **options)

    def rename(self, source, target, **options):
        if self._is_ours(target):
            self._count("rename")
        self._real["rename"](source, target, **options)

    def unlink(self, path, **options):
        if self._is_ours(path):
            self._count("unlink")
        self._real["unlink"](path, **options)
        if self._is_ours(path):
            self.unlinked(os.fspath(path))

    def mkdir(self, path, *args, **options):
        if self._is_ours(path):
            self._count("mkdir")
        self._real["mkdir"](path, *args, **options)
        if self._is_ours(path):
            self.made(os.fspath(path))

    def close(self, fd):
        if fd in self._paths:
            del self._paths[fd]
            self._failed_syncs.discard(fd)
            self._real["close"](fd)  # the descriptor goes whatever close answers
            self._count("close")
            return
        self._real["close"](fd)

    # what a recorder wants to know
    def opened(self, fd, path, flags):
        pass

    def wrote(self, fd, data):
        pass

    def synced(self, fd, path):
        pass

    def linked(self, source, target):
        pass

    def unlinked(self, path):
        pass

    def made(self, path):
        pass


class Recorder(FaultyOs):
    """Records what changes files and names, and what was synced or acknowledged in between."""

    def __init__(self, monkeypatch, folder):
        super().__init__(monkeypatch, folder)
        self.log = []
        self._inodes = itertools.count()
        self._of_fd = {}
        self._names = {}

    def opened(self, fd, path, flags):
        if flags & os.O_CREAT and path not in self._names:
            self._names[path] = next(self._inodes)
            self.log.append(("name", path, self._names[path]))
        self._of_fd[fd] = self._names.get(path)

    def wrote(self, fd, data):
        self.log.append(("write", self._of_fd[fd], data))

    def synced(self, fd, path):
        inode = self._of_fd.get(fd)
        self.log.append(("sync_folder", path) if inode is None else ("sync", inode))

    def linked(self, source, target):
        self._names[target] = self._names[source]
        self.log.append(("name", target, self._names[source]))

    def unlinked(self, path):
        self._names.pop(path, None)
        self.log.append(("gone", path))

    def made(self, path):
        self.log.append(("name", path, None))

    def control(self, _fd, command):
        """The `fcntl` of a Mac whose drive has a cache: see `Drives`."""
        assert command == F_FULLFSYNC
        self.log.append(("flush",))

    def acknowledge(self, what):
        """From here on `what` has to survive."""
        self.log.append(("ack", what))


class CrashStates:
    """Iterates (acknowledged so far, {path: bytes}) over every state a power cut may leave.

    With `drive_caches` a sync hands over to the drive, and only a flush makes durable what was
    handed over: macOS. There are too many such states: drawn ones stand for them.
    """

    def __init__(self, log, folder, *, drive_caches=False):
        self._log = log
        self._folder = os.fspath(folder)
        self._drive_caches = drive_caches

    def __iter__(self):
        for end in range(len(self._log) + 1):
            yield from self._states_of(self._log[:end])

    def _states_of(self, log):
        acknowledged = []
        names, folders = {}, {self._folder}
        pending = []
        """Changes of names that no sync of their folder followed, in order."""
        safe, unsafe = {}, {}
        handed, handed_names = {}, []
        for entry in log:
            match entry:
                case ("ack", what):
                    acknowledged.append(what)
                case ("name" | "gone", *_):
                    pending.append(entry)
                case ("write", inode, data):
                    unsafe[inode] = unsafe.get(inode, b"") + data
                case ("sync", inode) if self._drive_caches:
                    handed[inode] = handed.get(inode, b"") + unsafe.pop(inode, b"")
                case ("sync_folder", folder) if self._drive_caches:
                    handed_names += _below(pending, folder)
                    pending = [one for one in pending if one not in handed_names]
                case ("flush",):
                    for inode, data in handed.items():
                        safe[inode] = safe.get(inode, b"") + data
                    _apply(handed_names, names, folders)
                    handed, handed_names = {}, []
                case ("sync", inode):
                    safe[inode] = safe.get(inode, b"") + unsafe.pop(inode, b"")
                case ("sync_folder", folder):
                    mine = _below(pending, folder)
                    pending = [one for one in pending if one not in mine]
                    _apply(mine, names, folders)
        pending = handed_names + pending
        unsafe = {
            inode: handed.get(inode, b"") + unsafe.get(inode, b"") for inode in handed | unsafe
        }
        for chosen, cuts in self._choices(len(pending), len(unsafe)):
            now, places = dict(names), set(folders)
            kept = [one for one, is_kept in zip(pending, chosen, strict=True) if is_kept]
            _apply(kept, now, places)
            yield acknowledged, _with_data(now, places, safe, unsafe, cuts, self._folder)

    def _choices(self, names, writes):
        """Which changes of names are kept, and how much of each write that is not durable."""
        if not self._drive_caches:
            kept = itertools.product((False, True), repeat=names)
            return itertools.product(kept, itertools.product(CUTS, repeat=writes))
        draw = random.Random(names * 1000 + writes)
        drawn = [
            (draw.choices((False, True), k=names), draw.choices(CUTS, k=writes))
            for _ in range(MOST_STATES)
        ]
        return [([kept] * names, [cut] * writes) for kept in (False, True) for cut in CUTS] + drawn


def _below(changes, folder):
    return [one for one in changes if Path(one[1]).parent == Path(folder)]


def _apply(changes, names, folders):
    for change in changes:
        match change:
            case ("name", path, None):
                folders.add(path)
            case ("name", path, inode):
                names[path] = inode
            case ("gone", path):
                names.pop(path, None)


def _with_data(names, folders, safe, unsafe, cuts, root):
    """What the names stand for: of each write that is not durable, as much as its cut says."""
    content = dict(safe)
    for inode, cut in zip(sorted(unsafe), cuts, strict=True):
        torn = unsafe[inode][: int(len(unsafe[inode]) * cut)]
        content[inode] = content.get(inode, b"") + torn
    return {
        path: content.get(inode, b"")
        for path, inode in names.items()
        if _is_reachable(path, folders, root)
    }


def _is_reachable(path, folders, root):
    folder = Path(path).parent
    while os.fspath(folder) != root:
        if os.fspath(folder) not in folders:
            return False
        folder = folder.parent
    return True
