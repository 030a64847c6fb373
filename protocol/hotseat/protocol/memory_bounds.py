"""What bounds the memory of a process on Linux besides the machine: control groups and rlimits.

Pure: text of the kernel's files comes in, bytes go out. `control_groups.py` reads them.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from hotseat.protocol.limits import GIB, MIB

_UNLIMITED_BYTES: Final = 1 << 60
"""Version 1 writes the largest multiple of a page for "no limit"; no machine has as much."""
_CACHE: Final = ("active_file", "inactive_file", "slab_reclaimable")
_UNWRITTEN: Final = ("file_dirty", "file_writeback", "dirty", "writeback")
"""Of version 2, then of version 1: cache that reclaim has to wait for."""
_SUM: Final = "total_"
_WARNING_PERCENT: Final = 20.0
_CRITICAL_PERCENT: Final = 60.0
"""Where systemd-oomd begins to kill by default (oomd.conf, DefaultMemoryPressureLimit)."""
_UNIFIED: Final = 2
_VERSIONS: Final = (1, _UNIFIED)
NORMAL: Final = 1
WARNING: Final = 2
CRITICAL: Final = 4


class GroupPlace(Struct, frozen=True, kw_only=True):
    """Where a group is told of: `name` as /proc/self/cgroup has it, `folder` in the file system."""

    name: str
    folder: str
    version: int


class GroupFiles(Struct, frozen=True, kw_only=True):
    """The files of one group as text; empty where there is none.

    `swap` is `memory.swap.max` of version 2, `memory.memsw.limit_in_bytes` of version 1;
    `swapped` is what is counted against it. `high` is of version 2 alone.
    """

    limit: str
    used: str
    stat: str
    high: str = ""
    swap: str = ""
    swapped: str = ""


class Bound(Struct, frozen=True, kw_only=True):
    """One thing that bounds memory, bytes. `name` is for people: "control group /x", "RLIMIT_AS".

    `available_bytes` is what may still be asked for; cache that reclaim takes counts as available.
    `swap_bytes` is what may be swapped in all, None without a limit, and `idle_bytes` what was not
    touched for long and could be. `is_group`: shared by processes.
    """

    name: str
    limit_bytes: int
    available_bytes: int
    swap_bytes: int | None = None
    idle_bytes: int = 0
    is_group: bool = True

    def __str__(self) -> str:
        """As plans and findings name it."""
        swap = "" if self.swap_bytes is None else f", {_size(self.swap_bytes)} of swap"
        return f"{self.name}: {_size(self.limit_bytes)}{swap}"


def group_places(cgroup: str, mountinfo: str) -> tuple[GroupPlace, ...]:
    """Own group and every parent that memory may be limited in, own first.

    `cgroup`, `mountinfo`: the files of these names in /proc/self. Of version 1 the hierarchy of the
    memory controller; if there is none, version 2. A container sees its own group as the mount.
    """
    mounts = list(filter(None, map(_mount, mountinfo.splitlines())))
    for version in _VERSIONS:
        name = _own_group(cgroup, version)
        for mounted_version, root, folder in mounts:
            if name is not None and mounted_version == version:
                return tuple(_upwards(name, root, folder, version))
    return ()


def stalling_place(cgroup: str, mountinfo: str) -> GroupPlace | None:
    """The own group in version 2, which alone tells of stalls; None where it would tell of others.

    Beside limits of version 1 a process may be in the root of version 2: that is the machine.
    """
    limiting = group_places(cgroup, mountinfo)
    if not limiting or limiting[0].version == _UNIFIED:
        return limiting[0] if limiting else None
    name = _own_group(cgroup, _UNIFIED)
    mounts = filter(None, map(_mount, mountinfo.splitlines()))
    found = [(root, folder) for version, root, folder in mounts if version == _UNIFIED]
    if not found or name in {None, "/"}:
        return None
    return _upwards(str(name), *found[0], _UNIFIED)[0]


def group_bound(place: GroupPlace, files: GroupFiles) -> Bound | None:
    """The bound that a group sets; None when it sets none."""
    limits = [size for text in (files.limit, files.high) if (size := _bytes(text)) is not None]
    used = _bytes(files.used)
    if not limits or used is None:
        return None
    cache = cache_bytes(files.stat)
    limit = min(limits)
    available = limit - used + cache
    swap = _bytes(files.swap)
    if place.version == 1 and swap is not None:
        # Memory and swap together: without swap on the machine it binds as memory does.
        available = min(available, swap - (_bytes(files.swapped) or used) + cache)
        swap = max(swap - limit, 0)
    return Bound(
        name=f"control group {place.name}",
        limit_bytes=limit,
        available_bytes=min(max(available, 0), limit),
        swap_bytes=swap,
        idle_bytes=_sums(files.stat).get("inactive_anon", 0),
    )


def cache_bytes(stat: str) -> int:
    """What reclaim takes back of a group at once: clean pages of files, and slabs; from its stat.

    As the kernel counts MemAvailable: active pages of files too.
    """
    found = _sums(stat)
    cache = sum(found.get(name, 0) for name in _CACHE)
    return max(cache - sum(found.get(name, 0) for name in _UNWRITTEN), 0)


def tightest(bounds: Sequence[Bound], total_bytes: int) -> Bound | None:
    """The bound that decides how much a model may ever have; None when the machine does."""
    least = min(bounds, key=lambda bound: bound.limit_bytes, default=None)
    return least if least is not None and least.limit_bytes < total_bytes else None


def available_within(bounds: Sequence[Bound], available_bytes: int) -> int:
    """What is available in the machine and within all bounds."""
    return min([available_bytes, *(bound.available_bytes for bound in bounds)])


def stalled_percent(pressure: str) -> float:
    """Share of the last ten seconds in which all work waited for memory; from memory.pressure."""
    for line in pressure.splitlines():
        kind, *facts = line.split()
        if kind == "full":
            return float(dict(fact.split("=") for fact in facts)["avg10"])
    return 0.0


def level_of_stalls(percent: float) -> int:
    """1 normal, 2 warning, 4 critical, by time in which nothing but waiting for memory went on.

    Some work waits whenever weights come from a file under a limit: that alone says nothing.
    """
    if percent >= _CRITICAL_PERCENT:
        return CRITICAL
    return WARNING if percent >= _WARNING_PERCENT else NORMAL


def _sums(stat: str) -> dict[str, int]:
    """Figures of a group and all below it: version 1 has names of their own for these sums."""
    lines = (line.partition(" ") for line in stat.splitlines())
    found = {name: int(count) for name, _, count in lines}
    return found | {
        name.removeprefix(_SUM): size for name, size in found.items() if name.startswith(_SUM)
    }


def _own_group(cgroup: str, version: int) -> str | None:
    """Lines are `number:controllers:path`; version 2 has the number 0 and no controllers."""
    for line in cgroup.splitlines():
        number, controllers, path = line.split(":", 2)
        is_wanted = "memory" in controllers.split(",") if version == 1 else number == "0"
        if is_wanted:
            return path
    return None


def _mount(line: str) -> tuple[int, str, str] | None:
    """Version, root and folder of a line of mountinfo (proc(5)) if it is of memory's groups."""
    before, _, after = line.partition(" - ")
    fields, kind = before.split(), after.split()
    if kind[:1] == ["cgroup2"]:
        return _UNIFIED, fields[3], fields[4]
    if kind[:1] == ["cgroup"] and "memory" in kind[-1].split(","):
        return 1, fields[3], fields[4]
    return None


def _upwards(name: str, root: str, folder: str, version: int) -> list[GroupPlace]:
    """A group and its parents, as far as the mount shows them."""
    inside = name.removeprefix(root) if root != "/" else name
    is_shown = inside != name or root == "/"
    parts = [part for part in inside.split("/") if part] if is_shown else []
    if ".." in parts:  # outside of what this namespace sees
        parts = []
    shown = name.rstrip("/")
    places = []
    for count in range(len(parts), -1, -1):
        inner = "/".join((folder.rstrip("/"), *parts[:count]))
        places.append(GroupPlace(name=shown or "/", folder=inner, version=version))
        shown = shown.rpartition("/")[0]
    return places


def _bytes(text: str) -> int | None:
    """A size; None for none, "max" and what version 1 writes instead."""
    if not text.strip().isdigit():
        return None
    size = int(text)
    return size if size < _UNLIMITED_BYTES else None


def _size(size_bytes: int) -> str:
    if size_bytes and size_bytes < GIB:
        return f"{size_bytes / MIB:.0f} MiB"
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes else "none"
