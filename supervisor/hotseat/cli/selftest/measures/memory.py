"""Memory of the machine and of a process with mlx, as the supervisor counts them."""

import contextlib
import subprocess
import sys
import time
from typing import Final

import msgspec
import psutil

from hotseat.cli.selftest.rules.orders import ReadMemory, WatchFootprint
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MIB
from hotseat.protocol.selftest import (
    MEASURED,
    Absent,
    Figure,
    Measured,
    TouchMemory,
    figure,
)
from hotseat.supervisor.machine.memory import MemoryProbe, system_probe

SEEN_BYTES: Final = 512 * MIB
"""Less than that does not show in the memory of a machine where others live too."""
_BACK_SHARE: Final = 0.8
_BACK_S: Final = 5.0
_POLL_S: Final = 0.01
_MS: Final = 1000.0


def read_memory(order: ReadMemory, probe: MemoryProbe | None = None) -> Measured:
    """Every count of the machine's memory."""
    del order
    machine = (probe or system_probe()).machine()
    figures = [
        figure("total_bytes", machine.total_bytes),
        figure("available_bytes", machine.available_bytes),
        figure("psutil_available_bytes", psutil.virtual_memory().available),
    ]
    absent = []
    if machine.pages is None:
        absent.append(Absent(name="pages", reason="classes that only macOS counts"))
    else:
        pages = msgspec.structs.asdict(machine.pages)
        figures += [figure(name, size_bytes) for name, size_bytes in pages.items()]
    if machine.pressure is None:
        absent.append(Absent(name="pressure_level", reason="only macOS has such a level"))
    else:
        figures.append(figure("pressure_level", machine.pressure))
    return Measured(figures=tuple(figures), absent=tuple(absent))


def watch_footprint(order: WatchFootprint) -> Measured:
    """Seen from outside, and by the process itself."""
    probe = system_probe()
    touch = msgspec.json.encode(TouchMemory(size_bytes=order.size_bytes)) + b"\n"
    seen: list[Figure] = []
    with subprocess.Popen(
        [sys.executable, "-m", "hotseat.library.selftest"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018 - asked for
        for name in ("before", "held"):
            child.stdin.write(touch if name == "before" else b"\n")
            child.stdin.flush()
            if not child.stdout.readline():
                raise HotseatError("internal", f"the process ended with code {child.wait()}")
            seen.append(figure(f"outside_{name}_bytes", probe.footprint(child.pid) or 0))
        seen.append(figure("outside_after_bytes", _after(probe, child)))
        own = MEASURED.decode(child.stdout.readline())
    return Measured(figures=(*seen, *own.figures))


def _after(probe: MemoryProbe, child: "subprocess.Popen[bytes]") -> int:
    """Once the footprint fell by half of what it was, or a moment later."""
    assert child.stdin is not None  # noqa: S101 - asked for
    held = probe.footprint(child.pid) or 0
    child.stdin.write(b"\n")
    child.stdin.flush()
    until = time.monotonic() + _BACK_S
    while (now := probe.footprint(child.pid)) and time.monotonic() < until:
        if now < held / 2:
            return now
        time.sleep(_POLL_S)
    return now or 0


class Return:
    """Whether memory of a process that is about to end comes back to the machine, and when."""

    def __init__(self, pid: int) -> None:
        self._probe = system_probe()
        self._held = self._probe.footprint(pid) or 0
        self._before = self._probe.machine().available_bytes
        self.figures: tuple[Figure, ...] = ()
        self.absent: tuple[Absent, ...] = ()

    def wait(self, name: str) -> None:
        """Five seconds at most; call it right after the end."""
        started = time.monotonic()
        if self._held < SEEN_BYTES:
            reason = f"a worker of {self._held // MIB} MiB is too small to be seen"
            self.absent = (Absent(name=name, reason=reason),)
            return
        wanted = self._before + _BACK_SHARE * self._held
        while time.monotonic() - started < _BACK_S:
            if self._probe.machine().available_bytes >= wanted:
                spent_ms = (time.monotonic() - started) * _MS
                self.figures = (figure(name, spent_ms),)
                return
            time.sleep(_POLL_S)
        self.absent = (Absent(name=name, reason=f"not back within {_BACK_S:g} s"),)


def memory_figures(name: str, pid: int | None) -> list[Figure]:
    """Available, wired and footprint now."""
    probe = system_probe()
    machine = probe.machine()
    found = [figure(f"available_{name}_bytes", machine.available_bytes)]
    if machine.wired_bytes is not None:
        found.append(figure(f"wired_{name}_bytes", machine.wired_bytes))
    held = None
    with contextlib.suppress(OSError):
        held = probe.footprint(pid) if pid else None
    if held is not None:
        found.append(figure(f"footprint_{name}_bytes", held))
    return found
