"""Large files past the page cache: reads of what it does not have, and writes. Knows no format.

Through the cache every byte is copied once more, and its pages take the room of weights that the
next model would find there. Where a file system refuses, everything goes through the cache.
"""

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Iterable
from typing import Final

import numpy as np

from hotseat.protocol.limits import MIB


def alignment_on(platform: str) -> int:
    """Of memory, offsets and lengths of direct calls, bytes.

    macOS takes whole pages past its cache, and Apple's are of 16 KiB: what is aligned to less goes
    through the cache in silence. Elsewhere no disk in use asks for more than 4 KiB.
    """
    return 16_384 if platform == "darwin" else 4096


ALIGNMENT: Final = alignment_on(sys.platform)
PIECE_BYTES: Final = 4 * MIB
DIRECT_FROM_BYTES: Final = 1 * MIB
"""Below that, one read through the cache is as good."""
_F_NOCACHE: Final = 48
_REFUSED: Final = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}


def write_directly(fd: int, pieces: Iterable[memoryview]) -> None:
    """Writes all pieces from the start of the new file `fd` on. Raises OSError."""
    buffer = aligned_memory(PIECE_BYTES)
    is_direct = _set_direct(fd, on=True)
    filled = 0
    for piece in pieces:
        rest = piece
        while len(rest):
            count = min(len(rest), PIECE_BYTES - filled)
            buffer[filled : filled + count] = rest[:count]
            rest = rest[count:]
            filled += count
            if filled == PIECE_BYTES:
                is_direct = _write_buffer(fd, buffer, is_direct=is_direct)
                filled = 0
    aligned = filled - filled % ALIGNMENT
    is_direct = _write_buffer(fd, buffer[:aligned], is_direct=is_direct)
    if is_direct:
        _set_direct(fd, on=False)
    _write_buffer(fd, buffer[aligned:filled], is_direct=False)


def _write_buffer(fd: int, buffer: memoryview, *, is_direct: bool) -> bool:
    """Writes it; False once the file is written through the cache."""
    while len(buffer):
        try:
            count = os.write(fd, buffer)
        except OSError as error:
            if not (is_direct and error.errno in _REFUSED):
                raise
            count = 0
        buffer = buffer[count:]
        if is_direct and len(buffer):
            # Refused, or short: what follows may not be aligned any more.
            is_direct = _set_direct(fd, on=False)
    return is_direct


def _set_direct(fd: int, *, on: bool) -> bool:
    """Switches direct writes; whether they are on now."""
    try:
        if sys.platform == "darwin":
            fcntl.fcntl(fd, _F_NOCACHE, int(on))
        elif hasattr(os, "O_DIRECT"):
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            wanted = flags | os.O_DIRECT if on else flags & ~os.O_DIRECT
            fcntl.fcntl(fd, fcntl.F_SETFL, wanted)
    except OSError:
        return False
    return on


class FileReads:
    """Reads of the file behind `fd`, which its owner closes after `close`."""

    def __init__(self, fd: int, *, is_past_cache: bool = False) -> None:
        """`is_past_cache`: never looks into the page cache, however little is read.

        Linux reads ahead even for a look that may not wait, so that some of what is not there is
        read twice: of four threads with pieces of 1 MiB a third more, at 0.7 of the rate.
        """
        self._fd = fd
        self._is_past_cache = is_past_cache
        self._direct_fd: int | None = None
        self._is_tried = False
        self._is_refused = False

    def close(self) -> None:
        """Gives back what was opened here."""
        if self._direct_fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._direct_fd)
            self._direct_fd = None

    def read(self, position: int, size: int, memory: memoryview | None = None) -> memoryview:
        """`size` bytes from `position` on; EOFError if the file ends before. Raises OSError.

        In `memory`, where it is given: of `aligned_memory`, two alignments larger than `size`.
        """
        first = position - position % ALIGNMENT
        skipped = position - first
        whole = -(-(skipped + size) // ALIGNMENT) * ALIGNMENT
        buffer = aligned_memory(whole) if memory is None else memory[:whole]
        is_large = self._is_past_cache or size >= DIRECT_FROM_BYTES
        done = 0
        while done < skipped + size:
            piece = buffer[done : done + PIECE_BYTES]
            count = self._read_piece(piece, first + done, is_large=is_large)
            if count == 0:
                raise EOFError
            done += count
            if count % ALIGNMENT:
                is_large = False  # what follows is not aligned any more
        return buffer[skipped : skipped + size]

    def read_into(self, position: int, into: memoryview, bounce: memoryview) -> None:
        """Fills `into` from `position` on; EOFError if the file ends before. Raises OSError.

        Straight where `into` lies in a block of memory as `position` does in one of the file, all
        but what shares a block with others; what is left is copied from `bounce`, which is of
        `aligned_memory`, two alignments larger than `into`.
        """
        if not self._read_straight(position, into, bounce):
            _copy(self.read(position, len(into), bounce), into)

    def _read_straight(self, position: int, into: memoryview, bounce: memoryview) -> bool:
        """False where it cannot be, or came short: `into` holds nothing of use then."""
        direct = self._open_direct()
        head = -position % ALIGNMENT
        middle = (len(into) - head) // ALIGNMENT * ALIGNMENT
        is_alike = (_address(into) - position) % ALIGNMENT == 0
        if middle <= 0 or not is_alike:
            # Without such a descriptor nothing has to be aligned.
            return direct is None and os.preadv(self._fd, [into], position) == len(into)
        before, after = bounce[:ALIGNMENT], bounce[ALIGNMENT : 2 * ALIGNMENT]
        tail = len(into) - head - middle
        skipped = ALIGNMENT - head if head else 0
        pieces = [before] * bool(head) + [into[head : head + middle]] + [after] * bool(tail)
        try:
            count = os.preadv(self._fd if direct is None else direct, pieces, position - skipped)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            self._is_refused = True
            return False
        if count < skipped + len(into):
            return False
        if head:
            _copy(before[skipped:], into[:head])
        if tail:
            _copy(after[:tail], into[head + middle :])
        return True

    def _read_piece(self, piece: memoryview, position: int, *, is_large: bool) -> int:
        if is_large and not self._is_past_cache and hasattr(os, "RWF_NOWAIT"):
            count = self._read_cached(piece, position)
            if count:
                return count
        if is_large and (direct := self._open_direct()) is not None:
            try:
                return os.preadv(direct, [piece], position)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                self._is_refused = True  # closed at the end: another thread may be reading by it
        return os.preadv(self._fd, [piece], position)

    def _read_cached(self, piece: memoryview, position: int) -> int:
        """What the page cache has of it without a wait; 0 if that is nothing, or unknown.

        Cut to whole pages, so that the rest can be read directly.
        """
        try:
            count = os.preadv(self._fd, [piece], position, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno == errno.EAGAIN or error.errno in _REFUSED:
                return 0
            raise
        return count if count < ALIGNMENT or not count % ALIGNMENT else count - count % ALIGNMENT

    def _open_direct(self) -> int | None:
        if self._is_refused:
            return None
        if self._is_tried:
            return self._direct_fd
        self._is_tried = True
        if sys.platform == "darwin":
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._fd, _F_NOCACHE, 1)
        elif hasattr(os, "O_DIRECT"):
            with contextlib.suppress(OSError):
                # Not by its path, where another file may lie by now.
                again = f"/proc/self/fd/{self._fd}"
                self._direct_fd = os.open(again, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
        return self._direct_fd


def _copy(source: memoryview, into: memoryview) -> None:
    """By numpy, which lets other threads run meanwhile; a memoryview's own copy does not."""
    np.copyto(np.frombuffer(into, np.uint8), np.frombuffer(source, np.uint8))


def _address(memory: memoryview) -> int:
    return int(np.frombuffer(memory, np.uint8).ctypes.data)


def aligned_memory(size: int) -> memoryview:
    """Not yet written memory that direct reads and writes accept."""
    # numpy, because bytearray would write zeros first: a pass over every byte.
    room = np.empty(size + ALIGNMENT, dtype=np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size].data
