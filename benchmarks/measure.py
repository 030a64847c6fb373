"""What every benchmark of time or memory needs: touched memory, paired arms, tables, verdicts.

Must not know what is measured.
"""

import argparse
import ctypes
import math
import mmap
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
from rich.console import Console
from rich.table import Table

GIB = 1 << 30
MIB = 1 << 20
KIB = 1 << 10
CACHE = Path("~/.cache/hotseat/bench").expanduser()
SPARED_BYTES = 2 * GIB
"""Left alone when memory is touched: others use this machine too."""
_Z95 = 1.96
_TOUCH = """
import mmap, sys
left = int(sys.argv[1])
held = []
while left > 0:
    piece = mmap.mmap(-1, min(left, 1 << 28), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, len(piece), 4096):
        piece[offset] = 1
    held.append(piece)
    left -= len(piece)
"""
console = Console(width=100, highlight=False)


def touch_memory(wanted_bytes: int) -> None:
    """Backs and frees memory in a process of its own, so that no arm pays for its first use."""
    size = min(wanted_bytes, int(psutil.virtual_memory().available) - SPARED_BYTES)
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", _TOUCH, str(max(size, 0))], check=True)
    took_s = time.monotonic() - started
    console.print(f"memory touched beforehand: {size / GIB:.1f} GiB in {took_s:.1f} s")


@dataclass
class Arm:
    """Samples of one way of doing it, in the order they were taken."""

    name: str
    unit: str = "s"
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Of the samples."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Largest over median."""
        return max(self.samples) / self.median


def ratio(over: Arm, under: Arm) -> float:
    """Median over median."""
    return over.median / under.median


def paired_ratio(over: Arm, under: Arm) -> float:
    """Median of the ratios of neighbours in time: drift of the machine falls out."""
    pairs = zip(over.samples, under.samples, strict=True)
    return statistics.median(a / b for a, b in pairs)


def interval(over: Arm, under: Arm) -> tuple[float, float, float]:
    """Geometric mean of the ratios of neighbours in time, and its 95 % interval."""
    logs = [math.log(a / b) for a, b in zip(over.samples, under.samples, strict=True)]
    middle = statistics.fmean(logs)
    half = _Z95 * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def print_arms(title: str, arms: Sequence[Arm]) -> None:
    """One row an arm: n, median, min, max, max/median."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("arm")
    for name in ("n", "median", "min", "max", "max/median"):
        table.add_column(name, justify="right")
    for arm in arms:
        if not arm.samples:
            continue
        low, high = min(arm.samples), max(arm.samples)
        table.add_row(
            arm.name,
            str(len(arm.samples)),
            *(f"{value:.4g} {arm.unit}" for value in (arm.median, low, high)),
            f"{arm.spread:.2f}" if arm.median else "",
        )
    console.print(table)


@dataclass(frozen=True)
class Verdict:
    """One figure against its target."""

    figure: str
    value: float
    target: float
    sense: Literal["<=", ">="] = "<="

    @property
    def is_met(self) -> bool:
        """True when the value keeps to the target."""
        return self.value <= self.target if self.sense == "<=" else self.value >= self.target


def conclude(*verdicts: Verdict) -> int:
    """Prints a line a figure; the exit code: 1 when one is missed."""
    for verdict in verdicts:
        word = "met" if verdict.is_met else "MISSED"
        console.print(
            f"figure: {verdict.figure}: {verdict.value:.3f}"
            f" (target {verdict.sense} {verdict.target:g}): {word}",
            soft_wrap=True,
        )
    return 0 if all(verdict.is_met for verdict in verdicts) else 1


def base_parser(name: str, about: str | None, *, n: int) -> argparse.ArgumentParser:
    """A parser with the options that every measuring benchmark has."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=about)
    parser.add_argument("--n", type=int, default=n, help=f"repetitions of each arm ({n})")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"folder for models ({CACHE})")
    return parser


def drop_pages(place: Path) -> float:
    """Drops the page cache of a file, or of all in a folder; the share that stayed in memory.

    Written pages are synced first: dirty ones cannot be dropped.
    """
    stayed = total = 0
    found = [place] if place.is_file() else place.rglob("*")
    for path in sorted(entry for entry in found if entry.is_file()):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            size = os.fstat(fd).st_size
            if size:
                stayed += _resident_pages(fd, size)
                total += -(-size // mmap.PAGESIZE)
        finally:
            os.close(fd)
    return stayed / total if total else 0.0


def read_pages(place: Path) -> None:
    """Brings a file, or all weights of a folder, into the page cache."""
    for path in [place] if place.is_file() else place.rglob("*.safetensors"):
        with path.open("rb") as stream:
            while stream.read(8 * MIB):
                pass


def _resident_pages(fd: int, size: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    try:
        if libc.mincore(address, size, pages):
            raise OSError(ctypes.get_errno(), "mincore failed")
    finally:
        libc.munmap(address, size)
    return sum(byte & 1 for byte in pages.raw[: -(-size // mmap.PAGESIZE)])
