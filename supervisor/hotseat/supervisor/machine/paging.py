"""What the operating system swapped in and out since it started. Decides nothing.

Not to be confused with what hotseat writes: that is counted by whoever writes it.
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Any, Final

import psutil
from msgspec import Struct

_HOST_VM_INFO64: Final = 4
_NATURAL: Final = 4
"""Size of `natural_t`: the unit in which the kernel counts a structure."""


class Paging(Struct, frozen=True):
    """Bytes since the machine started."""

    swapped_in: int
    swapped_out: int


class VmStatistics64(ctypes.Structure):
    """`struct vm_statistics64` of <mach/vm_statistics.h>."""

    _fields_ = (
        ("free_count", ctypes.c_uint32),
        ("active_count", ctypes.c_uint32),
        ("inactive_count", ctypes.c_uint32),
        ("wire_count", ctypes.c_uint32),
        ("zero_fill_count", ctypes.c_uint64),
        ("reactivations", ctypes.c_uint64),
        ("pageins", ctypes.c_uint64),
        ("pageouts", ctypes.c_uint64),
        ("faults", ctypes.c_uint64),
        ("cow_faults", ctypes.c_uint64),
        ("lookups", ctypes.c_uint64),
        ("hits", ctypes.c_uint64),
        ("purges", ctypes.c_uint64),
        ("purgeable_count", ctypes.c_uint32),
        ("speculative_count", ctypes.c_uint32),
        ("decompressions", ctypes.c_uint64),
        ("compressions", ctypes.c_uint64),
        ("swapins", ctypes.c_uint64),
        ("swapouts", ctypes.c_uint64),
        ("compressor_page_count", ctypes.c_uint32),
        ("throttled_count", ctypes.c_uint32),
        ("external_page_count", ctypes.c_uint32),
        ("internal_page_count", ctypes.c_uint32),
        ("total_uncompressed_pages_in_compressor", ctypes.c_uint64),
    )


class MacPaging:
    """macOS: psutil counts reads of mapped files too, so the kernel is asked itself."""

    def __init__(self, libc: Any = None, page_bytes: int | None = None) -> None:
        self._libc = libc or ctypes.CDLL(None, use_errno=True)
        self._libc.mach_host_self.restype = ctypes.c_uint32
        self._host = self._libc.mach_host_self()  # once: each call makes a reference
        self._page_bytes = page_bytes or ctypes.c_size_t.in_dll(self._libc, "vm_page_size").value

    def __call__(self) -> Paging:
        """Now."""
        found = VmStatistics64()
        count = ctypes.c_uint32(ctypes.sizeof(found) // _NATURAL)
        failed = self._libc.host_statistics64(
            self._host, _HOST_VM_INFO64, ctypes.byref(found), ctypes.byref(count)
        )
        if failed:
            return Paging(0, 0)
        return Paging(found.swapins * self._page_bytes, found.swapouts * self._page_bytes)


def linux_paging() -> Paging:
    """Linux: pages that went to and came from swap devices."""
    swap = psutil.swap_memory()
    return Paging(int(swap.sin), int(swap.sout))


def system_paging() -> Callable[[], Paging]:
    """The counter for this machine."""
    return MacPaging() if sys.platform == "darwin" else linux_paging
