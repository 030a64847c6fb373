"""Old memory is back before new memory is taken: a hundred looks a second over many swaps."""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct, to_builtins

from benchmarks.homes import daemon_with
from benchmarks.measure import (
    MIB,
    Arm,
    Verdict,
    base_parser,
    conclude,
    console,
    print_arms,
    touch_memory,
)
from benchmarks.random_models import random_model, weights_bytes
from benchmarks.swaps.looks import Look, Watch, anonymous_bytes

SPREAD = 1.5
CREEP = 0.02
QUICK_N = 10
LEAST_PER_S = 50
SMALL_MB, LARGE_MB, LARGEST_MB = 300, 2100, 4000
MODES = ("process", "in-process")
ABOUT = """\
A small and a large random model in turn, a turn of each agent after every swap, no standby: its
memory is ready ahead on purpose. A thread reads anonymous memory of all workers of the daemon a
hundred times a second.
  overlap: two workers that hold memory at the same moment, the smaller of the two; in process:
    what the one worker still held at its lowest, beyond what it held without a model.
  creep: memory of daemon and worker with the small model seated, a line through all swaps.
  largest: a model that is larger than both is seated before the swaps and after them."""


class Swap(Struct, frozen=True, kw_only=True):
    """One swap as it was seen."""

    mode: str
    target: str
    total_s: float
    overlap_bytes: int
    most_bytes: int
    looks: int
    tree_bytes: int


def main(arguments: Sequence[str] = ()) -> int:
    """Prints overlap, spread by direction, creep, and whether the largest model still loads."""
    parser = base_parser("timeline", __doc__, n=50)
    _add_sizes(parser)
    options = parser.parse_args(arguments)
    if options.quick:
        options.n = QUICK_N
    console.print(ABOUT)
    sizes = (options.small_mb, options.large_mb, options.largest_mb)
    folders = [random_model(options.cache, size, 0) for size in sizes]
    touch_memory(2 * max(weights_bytes(folder) for folder in folders))
    verdicts, raw = [], []
    for mode in options.modes:
        swaps, slowest_look = swap_on(folders, mode, options.n)
        raw += swaps
        verdicts += judge(swaps, mode, slowest_look)
    if options.out is not None:
        options.out.write_text(
            "".join(json.dumps(to_builtins(swap)) + "\n" for swap in raw), encoding="utf-8"
        )
    return conclude(*verdicts)


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--small-mb", type=int, default=SMALL_MB)
    parser.add_argument("--large-mb", type=int, default=LARGE_MB)
    parser.add_argument("--largest-mb", type=int, default=LARGEST_MB)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--out", type=Path, help="JSONL of every swap")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_N} swaps in each mode")


def swap_on(folders: Sequence[Path], mode: str, count: int) -> tuple[list[Swap], float]:
    """The swaps, and the longest time between two looks. Fails where the largest does not load."""
    daemon = daemon_with(folders, standby=False)
    names = [folder.name for folder in folders]
    found: list[Swap] = []
    with daemon, daemon.client() as client, Watch(daemon.process.pid) as watch:
        client.swap(names[2])
        client.swap(names[0], mode="process")
        empty = empty_worker(client, names[0], daemon, mode)
        for number in range(count):
            target = names[1 - number % 2]
            start = time.monotonic()
            report = client.swap(target, mode=mode)
            looks = watch.between(start, time.monotonic())
            assert report.mode == mode, report
            client.generate(target, session="agent", append="Water runs", max_tokens=4).result()
            found.append(
                Swap(
                    mode=mode,
                    target=target,
                    total_s=report.total_s,
                    overlap_bytes=overlap_of(looks, mode, empty),
                    most_bytes=max(sum(look.held) for look in looks),
                    looks=len(looks),
                    tree_bytes=tree_bytes(daemon),
                )
            )
        client.swap(names[2], mode=mode)
        gaps = [b.at - a.at for a, b in zip(watch.looks, watch.looks[1:], strict=False)]
    return found, max(gaps)


def empty_worker(client, name: str, daemon, mode: str) -> int:
    """What a worker holds without a model, once it has had one: of in-process swaps only."""
    if mode == "process":
        return 0
    held = min(anonymous_bytes(str(process.pid)) for process in daemon.workers())
    weights = next(view.weights_bytes for view in client.models() if view.name == name)
    return max(0, held - weights)


def overlap_of(looks: Sequence[Look], mode: str, empty: int) -> int:
    """Bytes of old and new together beyond what either needs, at the worst moment."""
    if mode == "process":
        return max((sorted(look.held)[-2] for look in looks if len(look.held) > 1), default=0)
    return max(0, min(sum(look.held) for look in looks) - empty)


def judge(swaps: Sequence[Swap], mode: str, slowest_look_s: float) -> list[Verdict]:
    """Tables and verdicts of one mode."""
    directions = {
        f"to {name}": [swap for swap in swaps if swap.target == name]
        for name in dict.fromkeys(swap.target for swap in swaps)
    }
    arms = [Arm(name, "s", [one.total_s for one in own]) for name, own in directions.items()]
    print_arms(f"swaps, {mode}", arms)
    overlap = Arm("old and new at once", "MiB", [swap.overlap_bytes / MIB for swap in swaps])
    most = Arm("all workers at most", "MiB", [swap.most_bytes / MIB for swap in swaps])
    print_arms(f"anonymous memory during a swap, {mode}", [overlap, most])
    looks = sum(swap.looks for swap in swaps) / sum(swap.total_s for swap in swaps)
    console.print(f"looks: {looks:.0f} a second, longest pause {slowest_look_s * 1000:.0f} ms")
    small = directions[arms[-1].name]
    return [
        Verdict(f"looks a second, {mode}", looks, LEAST_PER_S, ">="),
        Verdict(
            f"worst overlap in MiB, {mode}", max(overlap.samples), 1 if mode == "process" else 64
        ),
        *(Verdict(f"max/median {arm.name}, {mode}", arm.spread, SPREAD) for arm in arms),
        Verdict(f"creep over all swaps, {mode}", creep([one.tree_bytes for one in small]), CREEP),
    ]


def creep(held: Sequence[int]) -> float:
    """Growth along a straight line through all samples, as a share of the first ones."""
    slope, start = statistics.linear_regression(range(len(held)), held)
    return slope * (len(held) - 1) / start


def tree_bytes(daemon) -> int:
    """Anonymous memory of the daemon and its workers."""
    pids = [daemon.process.pid, *(process.pid for process in daemon.workers())]
    return sum(anonymous_bytes(str(pid)) for pid in pids)
