"""A control group with a byte limit for one run: made, entered, emptied, removed.

Both versions; of version 1 the hierarchy of memory limits. Must not know what runs inside.
"""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from hotseat.protocol.memory_bounds import group_places

END_S: Final = 30.0
POLL_S: Final = 0.05
_RECLAIM_ALL: Final = 2**62


class Place(Struct, frozen=True, kw_only=True):
    """Folders in which groups are made: that of memory limits, and one of version 2 beside it."""

    version: int
    memory: str
    unified: str = ""


def places(proc: Path = Path("/proc/self")) -> tuple[Place, ...]:
    """Where this process might make groups: the root of the hierarchy, then its own group.

    Root may use the former; the latter serves whoever was given a group. None where no control
    groups of memory are mounted.
    """
    try:
        found = group_places((proc / "cgroup").read_text(), (proc / "mountinfo").read_text())
    except OSError:
        return ()
    folders = dict.fromkeys((found[-1].folder, found[0].folder) if found else ())
    return tuple(Place(version=found[0].version, memory=folder) for folder in folders)


class ControlGroup:
    """One limited group. Processes that are started by the command of `inside` live in it."""

    def __init__(self, place: Place, name: str) -> None:
        self.memory = Path(place.memory) / name
        self.unified = Path(place.unified) / name if place.unified else None
        self.version = place.version

    @property
    def folders(self) -> tuple[Path, ...]:
        """All that belong to it."""
        both = (self.memory, *([self.unified] if self.unified else []))
        return tuple(dict.fromkeys(both))

    def make(self) -> None:
        """Makes it without a limit. Raises `OSError`; nothing is left then."""
        try:
            for folder in self.folders:
                folder.mkdir(exist_ok=True)
            if self.version > 1 and not (self.memory / "memory.max").exists():
                (self.memory.parent / "cgroup.subtree_control").write_text("+memory")
            self.limit(None)
        except OSError:
            with contextlib.suppress(OSError):
                self.remove()
            raise

    def limit(self, limit_bytes: int | None, swap_bytes: int | None = None) -> None:
        """Sets memory, None lifts it. `swap_bytes` beside it; None leaves it to the machine.

        Forgets the cache that is charged to it.
        """
        if self.version == 1:
            with contextlib.suppress(OSError):
                self._put("memory.force_empty", 0)
            # Both together may never be below memory alone: up first, then down.
            if swap_bytes is not None:
                self._put("memory.memsw.limit_in_bytes", -1)
            self._put("memory.limit_in_bytes", limit_bytes or -1)
            if limit_bytes and swap_bytes is not None:
                self._put("memory.memsw.limit_in_bytes", limit_bytes + swap_bytes)
            return
        with contextlib.suppress(OSError):
            self._put("memory.reclaim", _RECLAIM_ALL)
        self._put("memory.max", limit_bytes or "max")
        if swap_bytes is not None:
            self._put("memory.swap.max", swap_bytes if limit_bytes else "max")

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command as it is started inside; its process is that of the command."""
        enter = "; ".join(f'echo $$ > "{folder}/cgroup.procs"' for folder in self.folders)
        return ["/bin/sh", "-c", f'set -e; {enter}; exec "$@"', "sh", *command]

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
            time.sleep(POLL_S)

    def remove(self) -> None:
        """Ends what is inside and removes it."""
        self.empty()
        for folder in self.folders:
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()

    def _put(self, name: str, value: int | str) -> None:
        (self.memory / name).write_text(str(value))


def leftovers(place: Place, prefix: str) -> list[str]:
    """Names of groups of earlier runs, which end with the number of a process that is gone."""
    folders = {Path(place.memory), Path(place.unified or place.memory)}
    names = {entry.name for folder in folders for entry in folder.glob(f"{prefix}*")}
    return sorted(name for name in names if not Path("/proc", name.removeprefix(prefix)).exists())
