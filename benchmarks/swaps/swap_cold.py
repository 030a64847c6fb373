"""Process swap over its raw cost, weights on disk only: reading ahead has to win something."""

import mmap
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.measure import (
    MIB,
    Arm,
    Verdict,
    base_parser,
    conclude,
    console,
    drop_pages,
    paired_ratio,
    print_arms,
    ratio,
    read_pages,
    touch_memory,
)
from benchmarks.random_models import random_model, weights_bytes
from benchmarks.swaps.swap_arms import BareArm, BareProcess, HotseatArm
from benchmarks.swaps.swap_warm import COPIES, SIZE_MB

TARGET = 0.9
AIM = 0.65
DEPTH = 8
PIECE = 4 * MIB


def main(arguments: Sequence[str] = ()) -> int:
    """Prints both arms, their parts, what the disk gives, and the verdict."""
    parser = base_parser("swap-cold", __doc__, n=12)
    parser.add_argument("--size-mb", type=int, default=SIZE_MB, help=f"weights ({SIZE_MB})")
    options = parser.parse_args(arguments)
    folders = [random_model(options.cache, options.size_mb, seed) for seed in (0, 1)]
    size = weights_bytes(folders[0])
    console.print(
        f"two random models of {size / 1e9:.2f} GB; the target's files are dropped from the page"
        " cache before each load of either arm; process swap, standby ready"
    )
    touch_memory(COPIES * size)
    disk = Arm(f"disk: O_DIRECT, {DEPTH} reads of {PIECE // MIB} MiB under way", "GB/s")
    memory = Arm("the same load_model, page cache warm (memory's part)", "GB/s")
    bare, ours = BareArm(folders[0]), HotseatArm(folders)
    stayed = 0.0
    try:
        for turn in range(1, options.n + 1):
            target = folders[turn % 2]
            for arm in (bare, ours) if turn % 2 else (ours, bare):
                stayed = max(stayed, drop_pages(target))
                arm.swap(target)
            disk.samples.append(disk_rate(target))
            memory.samples.append(size / 1e9 / warm_load_s(target))
    finally:
        bare.close()
        ours.close()
    print_arms(
        "request for B to B's first token, page cache cold",
        [bare.arm, *bare.parts.values(), ours.arm, *ours.parts.values()],
    )
    rates = [
        Arm(name, "GB/s", [size / 1e9 / seconds for seconds in arm.samples])
        for name, arm in (
            ("mlx_lm load_model, cold", bare.parts["weights_s"]),
            ("hotseat's load phase, cold", ours.parts["load_s"]),
        )
    ]
    print_arms("what the loads reach and what the disk gives", [*rates, memory, disk])
    console.print(f"largest share of pages that stayed after a drop: {stayed:.4f}")
    console.print(f"median of the paired ratios: {paired_ratio(ours.arm, bare.arm):.3f}; aim {AIM}")
    ceiling = min(disk.median, memory.median)
    console.print(
        f"the library's cold load reaches {rates[0].median / ceiling:.2f} of the slower of disk"
        " and memory; 1 would leave nothing to win by reading ahead of it"
    )
    return conclude(Verdict("process swap over bare acts, cold", ratio(ours.arm, bare.arm), TARGET))


def warm_load_s(folder: Path) -> float:
    """Seconds the library's load takes, in a process of its own, with every page cached."""
    read_pages(folder)
    process = BareProcess()
    process.hear()
    facts = process.load(folder)
    process.end()
    return float(facts["weights_s"])


def disk_rate(folder: Path) -> float:
    """GB/s of reading the weights past the page cache, in buffers that were used before."""
    if not hasattr(os, "O_DIRECT"):
        return float("nan")
    held = threading.local()

    def read(job: tuple[int, int]) -> int:
        if not hasattr(held, "buffer"):
            held.buffer = mmap.mmap(-1, PIECE)
        return os.preadv(job[0], [held.buffer], job[1])

    paths = sorted(folder.glob("*.safetensors"))
    opened = [os.open(path, os.O_RDONLY | os.O_DIRECT) for path in paths]
    try:
        jobs = [(fd, at) for fd in opened for at in range(0, os.fstat(fd).st_size, PIECE)]
        started = time.monotonic()
        with ThreadPoolExecutor(DEPTH) as pool:
            total = sum(pool.map(read, jobs))
        return total / 1e9 / (time.monotonic() - started)
    finally:
        for fd in opened:
            os.close(fd)
