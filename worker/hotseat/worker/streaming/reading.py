"""Reads pieces of files into given memory, on threads, past the page cache.

An mlx array exports its buffer, writable (mlx's documentation of the buffer protocol), so that
nothing is copied into mlx afterwards. Knows no layers and no mlx.
"""

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from hotseat.protocol.limits import MIB
from hotseat.worker.dying import WeightsLostError
from hotseat.worker.store.direct_io import ALIGNMENT, FileReads, aligned_memory

THREADS: Final = 4
"""Pieces of a quantised expert, of tens of KiB, need four to reach the device's rate."""
PIECE_BYTES: Final = MIB
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC

Job = Future[None]


class _Bounce(threading.local):
    """Where a thread reads what cannot be read straight to where it is used, to be copied then."""

    def __init__(self) -> None:
        self.memory = aligned_memory(PIECE_BYTES + 2 * ALIGNMENT)


class _WeightFile:
    """One open file. What is written into it after it was opened is not taken for its weights."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, _FLAGS)
        self._reads = FileReads(self._fd, is_past_cache=True)
        self._was = self._is()

    def read(self, offset: int, into: memoryview, bounce: memoryview) -> None:
        """Fills `into`. Raises WeightsLostError."""
        try:
            self._reads.read_into(offset, into, bounce)
        except EOFError as error:
            raise WeightsLostError(
                f"{self._path} ended before byte {offset + len(into)}, of {self._was[0]} bytes when"
                " it was opened"
            ) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise WeightsLostError(f"{self._path} failed at byte {offset} ({reason})") from error
        if self._is() != self._was:
            raise WeightsLostError(f"{self._path} was changed while it was in use")

    def close(self) -> None:
        """Nothing reads it any more."""
        self._reads.close()
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def _is(self) -> tuple[int, int]:
        found = os.fstat(self._fd)
        return found.st_size, found.st_mtime_ns


class Meter:
    """Counts what threads read, and the time in which any of them did; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_bytes = 0
        self._busy_s = 0.0
        self._under_way = 0
        self._since = 0.0

    def enter(self) -> None:
        """A read begins."""
        with self._lock:
            if not self._under_way:
                self._since = time.monotonic()
            self._under_way += 1

    def leave(self, size: int) -> None:
        """A read ended, with so many bytes."""
        with self._lock:
            self._read_bytes += size
            self._under_way -= 1
            if not self._under_way:
                self._busy_s += time.monotonic() - self._since

    @property
    def figures(self) -> tuple[int, float]:
        """Bytes that were read, and seconds in which anything was being read."""
        with self._lock:
            return self._read_bytes, self._busy_s


class Readers:
    """Open files of one model and the threads that read them; whoever made it closes it."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Raises OSError. Files stay open, so that one that is replaced is read as it was."""
        self._files = {path: _WeightFile(path) for path in paths}
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="weights")
        self._bounce = _Bounce()
        self.meter = Meter()

    def begin(self, path: Path, offset: int, into: memoryview) -> list[Job]:
        """Reads as many bytes as `into` takes, piece by piece; `finish` waits for them."""
        # Pieces end where blocks of the file do: only the first and the last have ragged edges.
        starts = [0, *range(PIECE_BYTES - offset % ALIGNMENT, len(into), PIECE_BYTES)]
        return [
            self._pool.submit(self._read, path, offset + start, into[start:end])
            for start, end in itertools.pairwise([*starts, len(into)])
        ]

    def _read(self, path: Path, offset: int, into: memoryview) -> None:
        self.meter.enter()
        done = 0
        try:
            self._files[path].read(offset, into, self._bounce.memory)
            done = len(into)
        finally:
            self.meter.leave(done)

    @property
    def figures(self) -> tuple[int, float]:
        """Bytes that were read, and seconds in which anything was being read; from any thread."""
        return self.meter.figures

    def close(self) -> None:
        """Ends threads and closes files."""
        self._pool.shutdown(cancel_futures=True)
        for file in self._files.values():
            file.close()


def finish(jobs: Sequence[Job]) -> None:
    """Waits for all of them, whatever becomes of one. Raises WeightsLostError."""
    failed: BaseException | None = None
    for job in jobs:
        failed = job.exception() or failed
    if failed is not None:
        raise failed
