"""Folders that hold KV files: private, and kept out of backups. Must not know the file format."""

import ctypes
import os
import plistlib
import sys
from pathlib import Path
from typing import Final

from hotseat.worker.store.sync import sync_file, sync_folder

CACHE_TAG_FILE: Final = "CACHEDIR.TAG"
_CACHE_TAG: Final = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# Key/value caches of language models, written by hotseat. Safe to delete while no hotseat\n"
    b"# runs: contexts are then computed again.\n"
)
_EXCLUSION_NAME: Final = b"com.apple.metadata:com_apple_backup_excludeItem"


def prepare_kv_dir(kv_dir: Path) -> None:
    """Creates `kv_dir` (one tag) and its parent (the KV root), 0700 each. Raises OSError.

    The root gets a CACHEDIR.TAG, which backup programs honour, and on macOS the attribute that
    Time Machine honours.
    """
    make_folder(kv_dir)
    root = kv_dir.parent
    try:
        fd = os.open(root / CACHE_TAG_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    try:
        os.write(fd, _CACHE_TAG)
        sync_file(fd)
    finally:
        os.close(fd)
    exclude_from_time_machine(root)


def make_folder(folder: Path) -> None:
    """Creates `folder` and missing parents, 0700, with their names synced. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    sync_folder(folder.parent)


def exclude_from_time_machine(folder: Path) -> bool:
    """Sets the attribute that `tmutil addexclusion` sets; False where there is none.

    A failure is harmless (larger backups), so it is not raised.
    """
    if sys.platform != "darwin":
        return False
    value = plistlib.dumps("com.apple.backupd", fmt=plistlib.FMT_BINARY)
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.setxattr(os.fsencode(folder), _EXCLUSION_NAME, value, len(value), 0, 0)
    return bool(result == 0)
