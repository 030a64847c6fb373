"""Has drives write down what they were handed. Must not know what it was.

macOS: fsync hands data to the drive, which may keep it in a cache of its own. F_FULLFSYNC empties
that cache, whichever file it is asked through, and takes 4 to 20 ms. So files and folders are only
synced, by whatever process, and who acknowledges flushes once for all of them. Elsewhere each
fsync went that far.
"""

import contextlib
import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

_F_FULLFSYNC: Final = 51
Control = Callable[[int, int], object]
"""`fcntl`: a descriptor, a command."""


def system_control() -> Control | None:
    """What a full flush takes here; None where a sync is one."""
    return fcntl.fcntl if sys.platform == "darwin" else None


class Drives:
    """Those that hold `folders`. Folders of one volume are flushed at once."""

    def __init__(self, *folders: Path, control: Control | None = None) -> None:
        self._folders = folders
        self._control = control or system_control()

    def flush(self) -> None:
        """Everything synced before is on the medium when this returns. Raises OSError."""
        if self._control is None:
            return
        flushed: set[int] = set()
        for folder in self._folders:
            with contextlib.suppress(FileNotFoundError):  # nothing was ever put there
                self._flush_volume(self._control, folder, flushed)

    @staticmethod
    def _flush_volume(control: Control, folder: Path, flushed: set[int]) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            device = os.fstat(descriptor).st_dev
            if device in flushed:
                return
            try:
                control(descriptor, _F_FULLFSYNC)
            except OSError:
                # A file system that does not know it, or a drive that fails: this tells which.
                os.fsync(descriptor)
            flushed.add(device)
        finally:
            os.close(descriptor)
