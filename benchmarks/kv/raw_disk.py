"""What the disk itself gives: reads and writes past the page cache, several under way at once.

Must not know KV.
"""

import mmap
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.measure import MIB

DEPTH = 8
PIECE_BYTES = 4 * MIB


def write_directly(path: Path, size: int) -> float:
    """Seconds to write `size` bytes (a multiple of the piece) into a new file and sync it."""
    source = _aligned(PIECE_BYTES)
    source[:] = os.urandom(PIECE_BYTES)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_DIRECT)
    try:
        started = time.monotonic()
        _each_piece(size, lambda _buffer, offset: os.pwritev(fd, [source], offset))
        os.fsync(fd)
        return time.monotonic() - started
    finally:
        os.close(fd)


def read_directly(path: Path, size: int) -> float:
    """Seconds to read the first `size` bytes of a file."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        started = time.monotonic()
        _each_piece(size, lambda buffer, offset: os.preadv(fd, [buffer], offset))
        return time.monotonic() - started
    finally:
        os.close(fd)


def _each_piece(size: int, move: Callable[[mmap.mmap, int], int]) -> None:
    """One thread a place in the queue, each with a buffer of its own."""
    assert size % PIECE_BYTES == 0
    offsets = list(range(0, size, PIECE_BYTES))

    def work(first: int) -> None:
        buffer = _aligned(PIECE_BYTES)
        for offset in offsets[first::DEPTH]:
            assert move(buffer, offset) == PIECE_BYTES

    with ThreadPoolExecutor(DEPTH) as pool:
        list(pool.map(work, range(DEPTH)))


def _aligned(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size)
