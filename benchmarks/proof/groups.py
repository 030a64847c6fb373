"""Control groups made for one experiment, and their counters.

Where memory limits are of version 1, version 2 beside it, if it is mounted, tells of stalls and
processor time. Must not know arms, models or what is compared.
"""

import os
import time
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from hotseat.cli.demo.control_group import ControlGroup, Place, places

PREFIX = "hotseat-proof-"
PAGE = os.sysconf("SC_PAGE_SIZE")


class RefusedError(Exception):
    """The experiment cannot be run here; the text says why and what would help."""


class Counters(Struct, frozen=True, kw_only=True):
    """At one moment; all but `usage`, `anon`, `cache` and `swap` only grow. Bytes and seconds.

    Of the group, except `swap_in`, `swap_out` (all swap of the machine) and `disk_written` (the
    whole device of the swap file).
    """

    at: float
    usage: int = 0
    anon: int = 0
    cache: int = 0
    swap: int = 0
    major_faults: int = 0
    refault_file: int = 0
    refault_anon: int = 0
    swap_in: int = 0
    swap_out: int = 0
    cpu_s: float = 0.0
    psi_some_s: float = 0.0
    psi_full_s: float = 0.0
    disk_written: int = 0
    oom_kills: int = 0


def find_place(proc: Path = Path("/proc/self")) -> Place:
    """The hierarchies of this machine. Raises `RefusedError` where there is none."""
    found = places(proc)
    if not found:
        raise RefusedError("no control groups of memory are mounted (see /proc/self/mountinfo)")
    kinds = (line.split() for line in (proc / "mountinfo").read_text().splitlines())
    unified = [fields[4] for fields in kinds if "cgroup2" in fields]
    return replace(found[0], unified=unified[0] if unified else "")


class Group(ControlGroup):
    """One limited group, and what it counts."""

    def __init__(self, place: Place, name: str, disk: Path) -> None:
        """`disk`: whose device is looked at for bytes written."""
        super().__init__(place, name)
        self._stat_of_disk = _device_stat(disk)

    def make(self) -> None:
        """Makes it. Raises `RefusedError` with the system's reason."""
        try:
            super().make()
            self.limit(None, 0)  # swap can be limited too
        except OSError as error:
            raise RefusedError(
                f"no control group can be limited below {self.memory.parent}: {error.strerror};"
                " root is needed, and a hierarchy of its own"
            ) from error

    def counters(self) -> Counters:
        """Now."""
        stat = _figures(self.memory / "memory.stat")
        stat |= {name[6:]: size for name, size in stat.items() if name.startswith("total_")}
        swapping = _figures(Path("/proc/vmstat"))
        used, swapped = self._used(stat)
        some, full = self._stalled_s()
        return Counters(
            at=time.monotonic(),
            usage=used,
            anon=stat.get("anon", stat.get("rss", 0)),
            cache=stat.get("file", stat.get("cache", 0)),
            swap=swapped,
            major_faults=stat.get("pgmajfault", 0),
            refault_file=stat.get("workingset_refault_file", 0) * PAGE,
            refault_anon=stat.get("workingset_refault_anon", 0) * PAGE,
            swap_in=swapping["pswpin"] * PAGE,
            swap_out=swapping["pswpout"] * PAGE,
            cpu_s=self._cpu_s(),
            psi_some_s=some,
            psi_full_s=full,
            disk_written=_written(self._stat_of_disk),
            oom_kills=self._oom_kills(),
        )

    def _used(self, stat: dict[str, int]) -> tuple[int, int]:
        if self.version == 1:
            return _number(self.memory / "memory.usage_in_bytes"), stat.get("swap", 0)
        return _number(self.memory / "memory.current"), _number(self.memory / "memory.swap.current")

    def _cpu_s(self) -> float:
        if self.unified is None:
            return 0.0
        return _figures(self.unified / "cpu.stat").get("usage_usec", 0) / 1e6

    def _stalled_s(self) -> tuple[float, float]:
        if self.unified is None or not (self.unified / "memory.pressure").exists():
            return 0.0, 0.0
        lines = (self.unified / "memory.pressure").read_text().splitlines()
        some, full = (int(line.rpartition("=")[2]) / 1e6 for line in lines)
        return some, full

    def _oom_kills(self) -> int:
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        return _figures(self.memory / name).get("oom_kill", 0)


def _figures(path: Path) -> dict[str, int]:
    """Lines of a name and a number; empty where there is no such file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {name: int(count) for name, count in (line.split()[:2] for line in lines)}


def _number(path: Path) -> int:
    return int(path.read_text())


def _device_stat(path: Path) -> Path:
    device = path.stat().st_dev
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")


def _written(stat: Path) -> int:
    """Sectors of 512 bytes are the seventh field (Documentation/block/stat.rst)."""
    return int(stat.read_text().split()[6]) * 512 if stat.exists() else 0
