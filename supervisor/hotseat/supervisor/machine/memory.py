"""Measures memory of the machine and of processes. Decides nothing."""

import ctypes
import mmap
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, Protocol

import psutil

from hotseat.protocol.control_groups import ProcessBounds
from hotseat.protocol.limits import KIB
from hotseat.protocol.memory_bounds import level_of_stalls
from hotseat.supervisor.machine.figures import Holder, MachineMemory, available_bytes, within
from hotseat.supervisor.machine.mach import MachHost

_MEMINFO: Final = "/proc/meminfo"
_MEMINFO_BYTES: Final = 4096
_MEMORY: Final = re.compile(
    rb"MemTotal: +(\d+) kB.*?^MemAvailable: +(\d+) kB.*?^SwapFree: +(\d+) kB",
    re.DOTALL | re.MULTILINE,
)
_RUSAGE_INFO_V0: Final = 0


class MemoryProbe(Protocol):
    """Where the supervisor gets its numbers from; tests put fixed ones in its place."""

    def machine(self) -> MachineMemory:
        """Memory of the machine now."""
        ...

    def footprint(self, pid: int) -> int | None:
        """Bytes that end with the process; None if it is gone or not ours to ask."""
        ...

    def quick_footprint(self, pid: int) -> int | None:
        """About the footprint, for little: read several times a second, also while it loads."""
        ...

    def holders(self, count: int, exclude: Collection[int] = ()) -> list[Holder]:
        """Largest users of memory by process name. Takes long: call it in a thread."""
        ...

    def pressure(self) -> int | None:
        """1 normal, 2 warning, 4 critical; None where the OS has no such level."""
        ...


class RusageInfoV0(ctypes.Structure):
    """`struct rusage_info_v0` of <sys/resource.h>: the oldest flavor has the footprint."""

    _fields_ = (
        ("ri_uuid", ctypes.c_uint8 * 16),
        ("ri_user_time", ctypes.c_uint64),
        ("ri_system_time", ctypes.c_uint64),
        ("ri_pkg_idle_wkups", ctypes.c_uint64),
        ("ri_interrupt_wkups", ctypes.c_uint64),
        ("ri_pageins", ctypes.c_uint64),
        ("ri_wired_size", ctypes.c_uint64),
        ("ri_resident_size", ctypes.c_uint64),
        ("ri_phys_footprint", ctypes.c_uint64),
        ("ri_proc_start_abstime", ctypes.c_uint64),
        ("ri_proc_exit_abstime", ctypes.c_uint64),
    )


class LinuxProbe:
    """Linux: the footprint is USS, what only this process holds; control groups bound memory."""

    def __init__(self, bounds: ProcessBounds | None = None) -> None:
        self._bounds = bounds or ProcessBounds()

    def machine(self) -> MachineMemory:
        """Memory of the machine now, or of the control group where that has less.

        Read each second also by a daemon that nobody uses, so only three fields are looked for.
        """
        machine, swap_free = self._whole_machine()
        return within(machine, self._bounds.bounds(), swap_free)

    @staticmethod
    def _whole_machine() -> tuple[MachineMemory, int]:
        """Whatever bounds this process, and free swap."""
        file = os.open(_MEMINFO, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = _MEMORY.search(os.read(file, _MEMINFO_BYTES))
        finally:
            os.close(file)
        if found is None:  # a kernel or a container that tells less: psutil estimates
            memory, swap = psutil.virtual_memory(), psutil.swap_memory()
            plain = MachineMemory(total_bytes=memory.total, available_bytes=memory.available)
            return plain, int(swap.free)
        total, available, swap_free = (int(field) * KIB for field in found.groups())
        return MachineMemory(total_bytes=total, available_bytes=min(available, total)), swap_free

    def footprint(self, pid: int) -> int | None:
        """USS of the process."""
        try:
            return int(psutil.Process(pid).memory_full_info().uss)
        except (psutil.Error, OSError):
            return None

    def quick_footprint(self, pid: int) -> int | None:
        """Resident less shared: no walk over the mappings, for which a load would have to wait."""
        try:
            fields = Path(f"/proc/{pid}/statm").read_bytes().split()
        except OSError:
            return None
        return (int(fields[1]) - int(fields[2])) * mmap.PAGESIZE

    def holders(self, count: int, exclude: Collection[int] = ()) -> list[Holder]:
        """Largest users of memory by process name."""
        return largest_holders(count, exclude)

    def pressure(self) -> int | None:
        """From the stalls of a control group that is limited; the machine has no such level."""
        found = self._bounds.stalled_percent()
        return None if found is None else level_of_stalls(found)


class MacProbe:
    """macOS: the footprint is phys_footprint, which counts Metal buffers too."""

    def __init__(self, libproc: Any = None, host: MachHost | None = None) -> None:
        self._libproc = libproc or ctypes.CDLL("/usr/lib/libproc.dylib", use_errno=True)
        self._host = host or MachHost()

    def machine(self) -> MachineMemory:
        """Memory of the machine now, by class, with the level the system speaks of.

        Not psutil's: that counts inactive memory of programs as available and active cache not.
        """
        total, pages = self._host.total_bytes(), self._host.pages()
        if total is None or pages is None:
            memory = psutil.virtual_memory()
            return MachineMemory(total_bytes=memory.total, available_bytes=memory.available)
        return MachineMemory(
            total_bytes=total,
            available_bytes=available_bytes(total, pages),
            wired_bytes=pages.wired_bytes,
            pages=pages,
            pressure=self.pressure(),
            wired_limit_mb=self._host.wired_limit_mb(),
        )

    def footprint(self, pid: int) -> int | None:
        """`phys_footprint`: the number Activity Monitor calls memory."""
        info = RusageInfoV0()
        if self._libproc.proc_pid_rusage(pid, _RUSAGE_INFO_V0, ctypes.byref(info)) != 0:
            return None
        return int(info.ri_phys_footprint)

    def quick_footprint(self, pid: int) -> int | None:
        """The footprint itself: the kernel keeps it as a number."""
        return self.footprint(pid)

    def holders(self, count: int, exclude: Collection[int] = ()) -> list[Holder]:
        """Largest users of memory by process name; resident size where no footprint is given."""
        return largest_holders(count, exclude, self.footprint)

    def pressure(self) -> int | None:
        """The level by which macOS warns processes."""
        return self._host.pressure()


def system_probe() -> MemoryProbe:
    """The probe for this machine."""
    return MacProbe() if sys.platform == "darwin" else LinuxProbe()


def largest_holders(
    count: int,
    exclude: Collection[int] = (),
    measure: Callable[[int], int | None] | None = None,
) -> list[Holder]:
    """Processes by name with their memory added up, largest first.

    Without `measure` it is resident size: shared pages count once per process.
    """
    held: Counter[str] = Counter()
    for process in psutil.process_iter(["pid", "name", "memory_info"]):
        pid, name = process.info["pid"], process.info["name"]
        if pid in exclude or not name:
            continue
        memory = process.info["memory_info"]
        size = (measure(pid) if measure else None) or (memory.rss if memory else 0)
        if size:
            held[name] += size
    return [Holder(name=name, size_bytes=size) for name, size in held.most_common(count)]
