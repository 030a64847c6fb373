"""Control groups with a byte limit, made for one experiment, and their counters.

Both versions; of version 1 the hierarchy of memory limits, and version 2 beside it, where it is
mounted, tells of stalls and processor time. Must not know arms, models or what is compared.
"""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from hotseat.protocol.memory_bounds import group_places

PREFIX = "hotseat-proof-"
PAGE = os.sysconf("SC_PAGE_SIZE")
END_S = 30.0
UNLIMITED = 2**62


class RefusedError(Exception):
    """The experiment cannot be run here; the text says why and what would help."""


class Place(Struct, frozen=True, kw_only=True):
    """Where groups are made: the root of the hierarchy that limits memory, and version 2's."""

    version: int
    memory: str
    unified: str = ""


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
    mounts = (proc / "mountinfo").read_text()
    places = group_places((proc / "cgroup").read_text(), mounts)
    if not places:
        raise RefusedError("no control groups of memory are mounted (see /proc/self/mountinfo)")
    kinds = (line.split() for line in mounts.splitlines())
    unified = [fields[4] for fields in kinds if "cgroup2" in fields]
    return Place(
        version=places[0].version, memory=places[-1].folder, unified=unified[0] if unified else ""
    )


class Group:
    """One limited group. Processes that are started by the command of `inside` live in it."""

    def __init__(self, place: Place, name: str, disk: Path) -> None:
        """`disk`: whose device is looked at for bytes written."""
        self.memory = Path(place.memory) / name
        self.unified = Path(place.unified) / name if place.unified else None
        self._version = place.version
        self._stat_of_disk = _device_stat(disk)

    @property
    def folders(self) -> tuple[Path, ...]:
        """All that belong to it."""
        both = (self.memory, *([self.unified] if self.unified else []))
        return tuple(dict.fromkeys(both))

    def make(self) -> None:
        """Makes it. Raises `RefusedError` with the system's reason."""
        try:
            for folder in self.folders:
                folder.mkdir(exist_ok=True)
            if self._version > 1 and not (self.memory / "memory.max").exists():
                (self.memory.parent / "cgroup.subtree_control").write_text("+memory")
            self.limit(None, 0)
        except OSError as error:
            raise RefusedError(
                f"no control group can be limited below {self.memory.parent}: {error.strerror};"
                " root is needed, and a hierarchy of its own"
            ) from error

    def limit(self, limit_bytes: int | None, swap_bytes: int) -> None:
        """Sets memory and swap; None and 0 lift both. Forgets the cache that is charged to it."""
        if self._version == 1:
            with contextlib.suppress(OSError):
                (self.memory / "memory.force_empty").write_text("0")
            # Both together may never be below memory alone: up first, then down.
            self._put("memory.memsw.limit_in_bytes", -1)
            self._put("memory.limit_in_bytes", limit_bytes or -1)
            if limit_bytes:
                self._put("memory.memsw.limit_in_bytes", limit_bytes + swap_bytes)
            return
        with contextlib.suppress(OSError):
            (self.memory / "memory.reclaim").write_text(str(UNLIMITED))
        self._put("memory.max", limit_bytes or "max")
        self._put("memory.swap.max", swap_bytes if limit_bytes else "max")

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command as it is started inside; its process is that of the command."""
        enter = "; ".join(f'echo $$ > "{folder}/cgroup.procs"' for folder in self.folders)
        return ["/bin/sh", "-c", f'set -e; {enter}; exec "$@"', "sh", *command]

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

    def processes(self) -> list[int]:
        """All inside."""
        found: set[int] = set()
        for folder in self.folders:
            with contextlib.suppress(OSError):
                found |= {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
        return sorted(found)

    def empty(self) -> None:
        """Kills what is inside, which was started there, and waits until it is gone."""
        deadline = time.monotonic() + END_S
        while pids := self.processes():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.memory}: {pids} did not end within {END_S:.0f} s")
            time.sleep(0.05)

    def remove(self) -> None:
        """Ends what is inside and removes it."""
        self.empty()
        for folder in self.folders:
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()

    def _put(self, name: str, value: int | str) -> None:
        (self.memory / name).write_text(str(value))

    def _used(self, stat: dict[str, int]) -> tuple[int, int]:
        if self._version == 1:
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
        name = "memory.oom_control" if self._version == 1 else "memory.events"
        return _figures(self.memory / name).get("oom_kill", 0)


def leftovers(place: Place) -> list[str]:
    """Names of groups of earlier runs whose process is gone."""
    folders = {Path(place.memory), Path(place.unified or place.memory)}
    names = {entry.name for folder in folders for entry in folder.glob(f"{PREFIX}*")}
    return sorted(name for name in names if not Path("/proc", name.removeprefix(PREFIX)).exists())


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
