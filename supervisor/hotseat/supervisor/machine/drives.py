"""Has drives write down what they were handed. Must not know what it was.

macOS: fsync hands data to the drive, which may keep it in a cache of its own. F_FULLFSYNC empties
that cache, whichever file it is asked through, and takes 4 to 20 ms. So files and folders are only
synced, by whatever process, and who acknowledges flushes once for all of them. Elsewhere each
fsync went that far.
"""

import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

_F_FULLFSYNC: Final = 51
Control = Callable[[int, int], object]
"""`fcntl`: a descriptor, a command."""
log = structlog.get_logger()


def system_control() -> Control | None:
    """What a full flush takes here; None where a sync is one."""
    return fcntl.fcntl if sys.platform == "darwin" else None


class Drives:
    """The drive that holds `folder`, and the one of `files`, where that is another."""

    def __init__(
        self, folder: Path, files: Path | None = None, control: Control | None = None
    ) -> None:
        self._folder = folder
        self._files = files
        self._control = control or system_control()

    def flush(self, *, with_files: bool) -> None:
        """Everything synced before is on the medium when this returns. Raises OSError.

        The drive of `files` only `with_files`: it may be away, or stand behind a question. If it
        fails nothing is lost but what can be computed again, so that is only logged.
        """
        if self._control is None:
            return
        device = _flush(self._control, self._folder, None)
        if with_files and self._files is not None:
            try:
                _flush(self._control, self._files, device)
            except OSError as error:
                log.warning("kv.flush_failed", folder=str(self._files), reason=str(error))


def _flush(control: Control, folder: Path, flushed: int | None) -> int:
    """Flushes the volume of `folder` unless it is the one that was; which it is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        device = os.fstat(descriptor).st_dev
        if device != flushed:
            try:
                control(descriptor, _F_FULLFSYNC)
            except OSError:
                # A file system that does not know it, or a drive that fails: this tells which.
                os.fsync(descriptor)
        return device
    finally:
        os.close(descriptor)
