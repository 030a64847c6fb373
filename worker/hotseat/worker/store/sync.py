"""The three ways of asking an operating system to keep what was written. Nothing else.

Linux: fsync everywhere. macOS: fsync leaves data in the drive's cache, F_BARRIERFSYNC orders it,
F_FULLFSYNC empties the cache and takes milliseconds, so it is issued once per checkpoint.
A failed sync is reported and never repeated on the same descriptor: the kernel may have dropped
the pages, and a second call would lie.
"""

import errno
import fcntl
import os
import sys
from pathlib import Path
from typing import Final

_F_FULLFSYNC: Final = 51
_F_BARRIERFSYNC: Final = 85
_UNSUPPORTED: Final = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY}


def sync_file(fd: int) -> None:
    """Data and size of `fd` before anything that is written later. Raises OSError."""
    if sys.platform != "darwin" or not _control(fd, _F_BARRIERFSYNC):
        os.fsync(fd)


def sync_folder(folder: Path) -> None:
    """Names in `folder`. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


def full_sync(folder: Path) -> None:
    """Everything synced before, on the medium, on the volume of `folder`. Raises OSError.

    On Linux each sync went that far already.
    """
    if sys.platform == "darwin":
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not _control(fd, _F_FULLFSYNC):
                os.fsync(fd)
        finally:
            os.close(fd)


def _control(fd: int, command: int) -> bool:
    """False if the filesystem does not know the command."""
    try:
        fcntl.fcntl(fd, command)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True
