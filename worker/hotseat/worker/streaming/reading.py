"""Reads pieces of files straight into the memory of arrays, on threads, past the page cache.

An mlx array exports its buffer, writable (mlx's documentation of the buffer protocol), so that
nothing is copied into mlx afterwards. Knows no layers.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import mlx.core as mx

from hotseat.protocol.limits import MIB
from hotseat.worker.store.direct_io import FileReads

THREADS: Final = 4
"""Pieces of a quantised expert, of tens of KiB, need four to reach the device's rate."""
PIECE_BYTES: Final = MIB
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC

Job = Future[None]


class WeightsUnreadableError(Exception):
    """A weight file ended early or cannot be read; what was computed with it is not known."""


def bytes_of(array: mx.array) -> memoryview:
    """The memory of an array, to be written. It is evaluated and owns its buffer from here on."""
    flat: Any = array.reshape(-1).view(mx.uint8)
    mx.eval(flat)
    return memoryview(flat)


class Readers:
    """Open files of one model and the threads that read them; whoever made it closes it."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Raises OSError. Files stay open, so that one that is replaced is read as it was."""
        self._files: dict[Path, FileReads] = {}
        self._fds: list[int] = []
        for path in paths:
            fd = os.open(path, _FLAGS)
            self._fds.append(fd)
            self._files[path] = FileReads(fd, path)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="weights")
        self._lock = threading.Lock()
        self.read_bytes = 0
        self.busy_s = 0.0

    def begin(self, path: Path, offset: int, into: memoryview) -> list[Job]:
        """Reads as many bytes as `into` takes, piece by piece; `finish` waits for them."""
        return [
            self._pool.submit(self._read, path, offset + start, into[start : start + PIECE_BYTES])
            for start in range(0, len(into), PIECE_BYTES)
        ]

    def _read(self, path: Path, offset: int, into: memoryview) -> None:
        began = time.monotonic()
        into[:] = self._files[path].read(offset, len(into))
        with self._lock:
            self.read_bytes += len(into)
            self.busy_s += time.monotonic() - began

    def close(self) -> None:
        """Ends threads and closes files."""
        self._pool.shutdown(cancel_futures=True)
        for file in self._files.values():
            file.close()
        for fd in self._fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._fds.clear()


def finish(jobs: Sequence[Job]) -> None:
    """Waits for all of them, whatever becomes of one. Raises WeightsUnreadableError."""
    failed: BaseException | None = None
    for job in jobs:
        failed = job.exception() or failed
    if isinstance(failed, EOFError):
        raise WeightsUnreadableError("a weight file ended before its time") from failed
    if failed is not None:
        raise WeightsUnreadableError(str(failed)) from failed
