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
from hotseat.worker.model.page_cache import available_bytes

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
_MMAP_MAX: Final = 65_536
"""glibc's default."""
_THRESHOLD_BYTES: Final = 32 * MIB
"""Where glibc's own threshold ends after the first large buffer was freed, and its maximum."""


class BlankMemory:
    """Holds touched memory until a load takes it or the system runs short of memory.

    `hold` and `lent` are called on the main thread, which also allocates weights: what it frees
    goes back to the heap that it allocates from. The touching is done on another thread.
    """

    def __init__(self, available: Callable[[], int] = available_bytes) -> None:
        self._available = available
        self._libc = _glibc()
        self._changed = threading.Condition()
        self._address = 0
        self._held_bytes = 0
        self._floor_bytes = 0
        self._untouched_bytes = 0
        """Size of a block that is not touched yet."""
        self._is_busy = False
        self._is_halted = False
        self._is_closed = False
        self._thread: threading.Thread | None = None

    @property
    def held_bytes(self) -> int:
        """Touched and held; from any thread."""
        return self._held_bytes

    def hold(self, size_bytes: int, free_floor_bytes: int) -> None:
        """Begins to touch `size_bytes`, as long as `free_floor_bytes` stay available; 0: lets go.

        What falls under the floor later is let go of within `WATCH_S` and a step. Does nothing
        once it was lent or closed.
        """
        if self._libc is None or self._is_closed:
            return
        self._halt()
        self._let_go()
        if size_bytes and self._available() - size_bytes >= free_floor_bytes:
            self._address = self._allocate(size_bytes)
        with self._changed:
            self._floor_bytes = free_floor_bytes
            self._untouched_bytes = size_bytes if self._address else 0
            self._is_halted = False
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="blank", daemon=True)
            self._thread.start()

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Allocations inside are served from the held memory first; the rest of it goes back."""
        self._end()
        if not self._address or self._libc is None:
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
        self._end()
        self._let_go()

    def _halt(self) -> None:
        """The thread stops after the step that it is touching."""
        with self._changed:
            self._is_halted = True
            self._changed.wait_for(lambda: not self._is_busy)

    def _end(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._halt()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (size_bytes := self._next()) is not None:
            try:
                if size_bytes:
                    self._touch(size_bytes)
                elif self._available() < self._floor_bytes:
                    self._let_go()
            finally:
                # Whatever happened: the main thread waits for this.
                with self._changed:
                    self._is_busy = False
                    self._changed.notify_all()

    def _next(self) -> int | None:
        """What is to be touched, 0 when it is time to look at the floor, None at the end.

        Marks the thread busy.
        """
        with self._changed:
            while not self._is_closed:
                timeout_s = WATCH_S if self._address else None
                came = self._changed.wait_for(
                    lambda: self._is_closed or (self._untouched_bytes and not self._is_halted),
                    timeout_s,
                )
                if self._is_closed or self._is_halted:
                    continue
                self._is_busy = True
                size_bytes, self._untouched_bytes = self._untouched_bytes, 0
                return size_bytes if came else 0
            return None

    def _allocate(self, size_bytes: int) -> int:
        """Address of a block of the heap, 0 if there is none; none of its pages is touched."""
        libc = self._libc
        # The block comes from the heap and stays there when it is freed: what is allocated next
        # is cut from it.
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
        libc.mallopt(_M_MMAP_MAX, 0)
        address: int | None = libc.malloc(size_bytes)
        libc.mallopt(_M_MMAP_MAX, _MMAP_MAX)
        if not address:
            self._settle_heap()
        return address or 0

    def _touch(self, size_bytes: int) -> None:
        libc = self._libc
        address = self._address
        end = address + size_bytes
        at = -(-address // _HUGE_PAGE) * _HUGE_PAGE
        while at < end and not self._is_interrupted():
            length = min(STEP_BYTES, end - at) // _PAGE * _PAGE
            if not length or self._available() - length < self._floor_bytes:
                break
            # Step by step: what a load finds untouched must not be faulted in huge pages by it.
            libc.madvise(at, length, _MADV_HUGEPAGE)
            if libc.madvise(at, length, _MADV_POPULATE_WRITE):
                libc.memset(at, 0, length)
            at += length
            self._held_bytes = at - address

    def _is_interrupted(self) -> bool:
        with self._changed:
            return self._is_closed or self._is_halted

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
