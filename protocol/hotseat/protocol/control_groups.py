"""Reads what bounds this process's memory besides the machine. Decides nothing.

Both supervisor and worker read it: what one of them may touch is bounded like what the other plans.
"""

import os
import sys
from typing import Final

from hotseat.protocol.memory_bounds import (
    Bound,
    GroupFiles,
    GroupPlace,
    group_bound,
    group_places,
    stalled_percent,
    stalling_place,
)

_PROC: Final = "/proc/self"
_PIECE_BYTES: Final = 1 << 16
_NAMES: Final = {
    1: GroupFiles(
        limit="memory.limit_in_bytes",
        used="memory.usage_in_bytes",
        stat="memory.stat",
        swap="memory.memsw.limit_in_bytes",
        swapped="memory.memsw.usage_in_bytes",
    ),
    2: GroupFiles(
        limit="memory.max",
        used="memory.current",
        stat="memory.stat",
        high="memory.high",
        swap="memory.swap.max",
        swapped="memory.swap.current",
    ),
}
"""Names of the files by version."""


class ProcessBounds:
    """Of the own process. Groups are looked for once, their limits at each reading.

    `proc`, `root`: another folder than /proc/self, and what all other paths begin with, for tests.
    """

    def __init__(self, proc: str = _PROC, root: str = "") -> None:
        self._root = root
        cgroup, mounts = _text(f"{proc}/cgroup"), _text(f"{proc}/mountinfo")
        self._places = group_places(cgroup, mounts)
        self._stalling = stalling_place(cgroup, mounts)

    def bounds(self) -> tuple[Bound, ...]:
        """All that bound it now, own group first."""
        found = [bound for place in self._places if (bound := self._of_group(place)) is not None]
        return (*found, *_rlimits())

    def stalled_percent(self) -> float | None:
        """How much all work of the own group waits for memory; None if nothing limits or tells.

        Without a limit the figures of the group would tell of the machine.
        """
        if self._stalling is None or not any(map(self._of_group, self._places)):
            return None
        text = _text(self._path(self._stalling, "memory.pressure"))
        return stalled_percent(text) if text else None

    def _of_group(self, place: GroupPlace) -> Bound | None:
        names = _NAMES[place.version]
        limit = _text(self._path(place, names.limit))
        high = _text(self._path(place, names.high)) if names.high else ""
        if group_bound(place, GroupFiles(limit=limit, high=high, used="0", stat="")) is None:
            return None  # the rule: most groups have no limit, and this is read often
        files = GroupFiles(
            limit=limit,
            high=high,
            used=_text(self._path(place, names.used)),
            stat=_text(self._path(place, names.stat)),
            swap=_text(self._path(place, names.swap)),
            swapped=_text(self._path(place, names.swapped)),
        )
        return group_bound(place, files)

    def _path(self, place: GroupPlace, name: str) -> str:
        return f"{self._root}{place.folder}/{name}"


def _rlimits() -> list[Bound]:
    """Soft limits of address space and data: each process has them for itself."""
    if sys.platform != "linux":
        return []
    import resource  # noqa: PLC0415 (not everywhere)

    found = []
    for name in ("RLIMIT_AS", "RLIMIT_DATA"):
        soft, _ = resource.getrlimit(getattr(resource, name))
        if soft != resource.RLIM_INFINITY:
            found.append(Bound(name=name, limit_bytes=soft, available_bytes=soft, is_group=False))
    return found


def _text(path: str) -> str:
    """Read several times a second while a seat waits for memory, so without Python's own layers."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    pieces = []
    try:
        while piece := os.read(file, _PIECE_BYTES):
            pieces.append(piece)
    except OSError:  # the group was removed
        return ""
    finally:
        os.close(file)
    return b"".join(pieces).decode()
