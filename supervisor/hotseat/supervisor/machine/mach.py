"""Asks the kernel of macOS for its counts of pages. Decides nothing."""

import ctypes
from typing import Any, Final

from hotseat.protocol.telemetry import MemoryPages

_HOST_VM_INFO64: Final = 4
_NATURAL: Final = 4
"""Size of `natural_t`: the unit in which the kernel counts a structure."""
_TOTAL: Final = b"hw.memsize"
_PRESSURE: Final = b"kern.memorystatus_vm_pressure_level"
_WIRED_LIMIT: Final = b"iogpu.wired_limit_mb"


class VmStatistics64(ctypes.Structure):
    """`struct vm_statistics64` of <mach/vm_statistics.h>, as far as every macOS fills it."""

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


class MachHost:
    """The host port of this machine and its C library; tests put their own in its place."""

    def __init__(self, libc: Any = None, page_bytes: int | None = None) -> None:
        self._libc = libc or ctypes.CDLL(None, use_errno=True)
        self._libc.mach_host_self.restype = ctypes.c_uint32
        self._host = self._libc.mach_host_self()  # once: each call makes a reference
        self.page_bytes = page_bytes or ctypes.c_size_t.in_dll(self._libc, "vm_page_size").value

    def statistics(self) -> VmStatistics64 | None:
        """The counts of now; None when the kernel refuses."""
        found = VmStatistics64()
        count = ctypes.c_uint32(ctypes.sizeof(found) // _NATURAL)
        failed = self._libc.host_statistics64(
            self._host, _HOST_VM_INFO64, ctypes.byref(found), ctypes.byref(count)
        )
        return None if failed else found

    def pages(self) -> MemoryPages | None:
        """The counts of now in bytes; None when the kernel refuses."""
        found = self.statistics()
        return None if found is None else pages_of(found, self.page_bytes)

    def total_bytes(self) -> int | None:
        """Memory that is built in."""
        return self._number(_TOTAL, ctypes.c_uint64(0))

    def pressure(self) -> int | None:
        """The level by which macOS warns processes: 1 normal, 2 warning, 4 critical."""
        return self._number(_PRESSURE, ctypes.c_int(0))

    def wired_limit_mb(self) -> int | None:
        """What somebody lets Metal wire at most; 0: the system's own limit."""
        # Its width is not documented: into eight bytes either fits.
        return self._number(_WIRED_LIMIT, ctypes.c_uint64(0))

    def _number(self, name: bytes, value: Any) -> int | None:
        size = ctypes.c_size_t(ctypes.sizeof(value))
        failed = self._libc.sysctlbyname(
            name, ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0)
        )
        return None if failed else int(value.value)


def pages_of(found: VmStatistics64, page_bytes: int) -> MemoryPages:
    """The kernel's counts in bytes. It counts speculative pages as free, too; here they are not."""
    free = max(found.free_count - found.speculative_count, 0)
    return MemoryPages(
        free_bytes=free * page_bytes,
        active_bytes=found.active_count * page_bytes,
        inactive_bytes=found.inactive_count * page_bytes,
        speculative_bytes=found.speculative_count * page_bytes,
        wired_bytes=found.wire_count * page_bytes,
        compressed_bytes=found.compressor_page_count * page_bytes,
        anonymous_bytes=found.internal_page_count * page_bytes,
        file_backed_bytes=found.external_page_count * page_bytes,
        purgeable_bytes=found.purgeable_count * page_bytes,
    )
