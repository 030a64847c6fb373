"""Reads files ahead into the system's page cache, within limits. Must not know models or seats.

The page cache is not memory of this process, and the system takes it back when it needs it; the
floor keeps the reading from pushing others' pages out.
"""

import fcntl
import functools
import itertools
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import psutil
from msgspec import Struct

from hotseat.protocol.control_groups import ProcessBounds
from hotseat.protocol.limits import MIB
from hotseat.protocol.memory_bounds import available_within

PIECE_BYTES: Final = 8 * MIB
"""Asked for between two looks at the floor and at `is_cancelled`, by each thread."""
STEP_BYTES: Final = MIB
THREADS: Final = 2
_F_RDADVISE: Final = 44
_RADVISORY: Final = "qi4x"
"""struct radvisory: off_t, int, padding."""


class Stretch(Struct, frozen=True):
    """Bytes of a file, from `start` up to `end`; None: to its end."""

    path: Path
    start: int = 0
    end: int | None = None


def warm_stretches(
    stretches: Iterable[Stretch], floor_bytes: int, is_cancelled: Callable[[], bool]
) -> int:
    """Bytes asked for ahead, until cancelled or the floor is reached. Never raises OSError.

    `floor_bytes` of available memory are left, counting pages that were read as taken.
    """
    warmed = 0
    with ThreadPoolExecutor(THREADS, thread_name_prefix="pages") as pool:
        for path, of_file in itertools.groupby(stretches, key=lambda one: one.path):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return warmed
            try:
                warmed += _warm_file(pool, fd, of_file, floor_bytes, is_cancelled)
            except OSError:
                return warmed
            finally:
                os.close(fd)
    return warmed


def _warm_file(
    pool: ThreadPoolExecutor,
    fd: int,
    stretches: Iterable[Stretch],
    floor_bytes: int,
    is_cancelled: Callable[[], bool],
) -> int:
    def warm(piece: tuple[int, int]) -> int:
        if is_cancelled() or available_bytes() - PIECE_BYTES < floor_bytes:
            return 0
        return _touch(fd, *piece)

    size = os.fstat(fd).st_size
    pieces = (piece for one in stretches for piece in _pieces(one, size))
    return sum(pool.map(warm, pieces))


def _pieces(stretch: Stretch, size: int) -> Iterator[tuple[int, int]]:
    end = size if stretch.end is None else min(stretch.end, size)
    for offset in range(stretch.start, end, PIECE_BYTES):
        yield offset, min(PIECE_BYTES, end - offset)


def _touch(fd: int, offset: int, length: int) -> int:
    if sys.platform == "darwin":
        fcntl.fcntl(fd, _F_RDADVISE, struct.pack(_RADVISORY, offset, length))
        return length
    # Asks for the pages without copying them: what is cached costs next to nothing, and reads of
    # many steps are under way at once. The kernel may cut a larger step short.
    for start in range(offset, offset + length, STEP_BYTES):
        step = min(STEP_BYTES, offset + length - start)
        os.posix_fadvise(fd, start, step, os.POSIX_FADV_WILLNEED)
    return length


def available_bytes() -> int:
    """Memory that can be had without swapping; of a Mac a guess, so no floor is set there."""
    return available_within(_bounds().bounds(), int(psutil.virtual_memory().available))


@functools.cache
def _bounds() -> ProcessBounds:
    """Groups are looked for once: a worker stays in its daemon's."""
    return ProcessBounds()
