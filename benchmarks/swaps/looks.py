"""A hundred looks a second at the anonymous memory of a daemon's workers, by the system's count.

Must not know what happens meanwhile or what is asked of it.
"""

import threading
import time
from pathlib import Path
from typing import Any, Self

from msgspec import Struct

LOOKS_PER_S = 100
OWN_KB = ("RssAnon", "VmSwap")
"""Lines of /proc/PID/status: what was swapped out has not come back (proc(5))."""


class Look(Struct, frozen=True):
    """A moment: seconds, and anonymous bytes of each worker that holds any."""

    at: float
    held: tuple[int, ...]


class Watch:
    """Looks at the workers of a daemon from a thread of its own until it is left.

    A process that ends tells nothing more while its memory is still being freed: it counts with
    what it held last until it is reaped.
    """

    def __init__(self, daemon_pid: int) -> None:
        self.looks: list[Look] = []
        self._children = Path(f"/proc/{daemon_pid}/task")
        self._last: dict[str, int] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def between(self, start: float, end: float) -> list[Look]:
        """Looks of a stretch of monotonic time."""
        return [look for look in self.looks if start <= look.at <= end]

    def _run(self) -> None:
        while not self._is_over.wait(1 / LOOKS_PER_S):
            tasks = [task / "children" for task in self._children.iterdir()]
            pids = [pid for task in tasks for pid in _text(task).split()]
            self._last = {pid: anonymous_bytes(pid) or self._last.get(pid, 0) for pid in pids}
            held = tuple(size for size in self._last.values() if size)
            self.looks.append(Look(time.monotonic(), held))


def workers_bytes(daemon: Any) -> int:
    """Anonymous memory of all workers of a daemon now."""
    return sum(anonymous_bytes(str(process.pid)) for process in daemon.workers())


def anonymous_bytes(pid: str) -> int:
    """What a process holds that no file backs, swapped out or not; 0 for one that ends."""
    rows = (line.partition(":") for line in _text(Path(f"/proc/{pid}/status")).splitlines())
    return sum(int(rest.split()[0]) * 1024 for name, _, rest in rows if name in OWN_KB)


def _text(path: Path) -> str:
    """Empty where the process or its thread is gone."""
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
