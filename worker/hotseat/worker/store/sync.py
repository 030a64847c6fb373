"""Hands what was written to the drive. Nothing else.

On Linux that is durable. On macOS the drive may keep it in a cache of its own until the supervisor
has it emptied, once for all files, before it acknowledges anything (`machine/drives.py` there).
A failed sync is reported and never repeated on the same descriptor: the kernel may have dropped
the pages, and a second call would lie.
"""

import os
from pathlib import Path


def sync_file(fd: int) -> None:
    """Data and size of `fd`. Raises OSError."""
    os.fsync(fd)


def sync_folder(folder: Path) -> None:
    """Names in `folder`. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file(fd)
    finally:
        os.close(fd)
