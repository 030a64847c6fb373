"""Memory that is touched before weights need it, so that a load does not fault page by page.

A first touch of every page takes the larger part of a load from the page cache (measured: 0.33 s
of 0.40 s for 538 MB, 0.48 s of 0.64 s for 2.1 GB). glibc alone: elsewhere `BlankMemory` holds
nothing. Must not know models; holds no data.
"""

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from hotseat.protocol.limits import MIB
from hotseat.worker.pages import available_bytes

STEP_BYTES: Final = 64 * MIB
"""Touched between two looks at the floor."""
WATCH_S: Final = 1.0
"""Between two looks at the floor while memory is held."""
NICENESS: Final = 10
"""Touching pages gives way to the model that computes."""
_HUGE_PAGE: Final = 2 * MIB
_PAGE: Final = 4096
_MADV_HUGEPAGE: Final = 14
_MADV_POPULATE_WRITE: Final = 23
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_MMAP_MAX: Final = -4
_M_ARENA_MAX: Final = -8
_MMAP_MAX: Final = 65_536
"""glibc's default."""
_THRESHOLD_BYTES: Final = 32 * MIB
"""Where glibc's own threshold ends after the first large buffer was freed, and its maximum."""


def use_one_arena() -> bool:
    """Has all threads allocate from one heap, which blank memory is given to; False without glibc.

    Called before the process has a second thread: a thread keeps the arena of its first block.
    """
    libc = _glibc()
    return libc is not None and bool(libc.mallopt(_M_ARENA_MAX, 1))


class BlankMemory:
    """Holds touched memory until a load takes it or the system runs short of memory.

    `hold` and `lent` are called on one thread; the touching is done on another.
    """

    def __init__(self, available: Callable[[], int] = available_bytes) -> None:
        self._available = available
        self._libc = _glibc()
        self._changed = threading.Condition()
        self._address = 0
        self._held_bytes = 0
        self._order: tuple[int, int] | None = None
        self._is_busy = False
        self._is_closed = False
        self._thread: threading.Thread | None = None

    @property
    def held_bytes(self) -> int:
        """Touched and held; from any thread."""
        return self._held_bytes

    def hold(self, size_bytes: int, free_floor_bytes: int) -> None:
        """Begins to touch `size_bytes`, as long as `free_floor_bytes` stay available; 0: lets go.

        What falls under the floor later is let go of within `WATCH_S` and a step.
        """
        if self._libc is None:
            return
        with self._changed:
            self._order = (size_bytes, free_floor_bytes)
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="blank", daemon=True)
            self._thread.start()

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Allocations inside are served from the held memory first; the rest of it goes back."""
        held = self._stop()
        if not held or self._libc is None:
            yield
            return
        # Large buffers have to come from the heap, where the memory goes back to now.
        self._libc.mallopt(_M_MMAP_MAX, 0)
        self._libc.free(self._address)
        self._address = 0
        try:
            yield
        finally:
            self._held_bytes = 0
            self._settle_heap()

    def close(self) -> None:
        """Lets go and ends the thread."""
        if self._stop() and self._libc is not None:
            self._let_go()

    def _stop(self) -> bool:
        """The thread ends where it is; True if memory is held."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_busy)
        return self._address != 0

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        floor_bytes = 0
        while (step := self._next()) is not None:
            if step:
                size_bytes, floor_bytes = step
                self._let_go()
                self._touch(size_bytes, floor_bytes)
            elif self._available() < floor_bytes:
                self._let_go()
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()

    def _next(self) -> tuple[int, int] | tuple[()] | None:
        """An order, () when it is time to look at the floor, None at the end. Marks busy."""
        with self._changed:
            timeout_s = WATCH_S if self._address else None
            self._changed.wait_for(lambda: self._order or self._is_closed, timeout_s)
            if self._is_closed:
                return None
            order, self._order = self._order, None
            self._is_busy = True
            return order or ()

    def _touch(self, size_bytes: int, floor_bytes: int) -> None:
        libc = self._libc
        if libc is None or not size_bytes or self._available() - size_bytes < floor_bytes:
            return
        # The block comes from the heap and stays there when it is freed: what is allocated next
        # is cut from it.
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
        libc.mallopt(_M_MMAP_MAX, 0)
        address = libc.malloc(size_bytes)
        libc.mallopt(_M_MMAP_MAX, _MMAP_MAX)
        if not address:
            self._settle_heap()
            return
        self._address = address
        end = address + size_bytes
        at = -(-address // _HUGE_PAGE) * _HUGE_PAGE
        while at < end and not self._is_interrupted():
            length = min(STEP_BYTES, end - at) // _PAGE * _PAGE
            if not length or self._available() - length < floor_bytes:
                break
            # Step by step: what a load finds untouched must not be faulted in huge pages by it.
            libc.madvise(at, length, _MADV_HUGEPAGE)
            if libc.madvise(at, length, _MADV_POPULATE_WRITE):
                libc.memset(at, 0, length)
            at += length
            self._held_bytes = at - address

    def _is_interrupted(self) -> bool:
        with self._changed:
            return self._is_closed or self._order is not None

    def _let_go(self) -> None:
        if self._libc is None or not self._address:
            return
        self._libc.free(self._address)
        self._address = 0
        self._held_bytes = 0
        self._settle_heap()

    def _settle_heap(self) -> None:
        """Large buffers get mappings of their own again; what nobody uses goes to the system."""
        libc = self._libc
        if libc is None:
            return
        libc.mallopt(_M_MMAP_MAX, _MMAP_MAX)
        # Set by hand, since any setting ends glibc's own adjusting of both.
        libc.mallopt(_M_MMAP_THRESHOLD, _THRESHOLD_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _THRESHOLD_BYTES)
        libc.malloc_trim(0)


def _glibc() -> Any:
    """The C library with the signatures used here, None where it is not glibc."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return None
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    return libc
