"""What an experiment stands on: a group, a swap file and homes of its own, and that it is safe.

Everything that is made here is undone by a keeper, also when this process is killed.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from msgspec import Struct

from benchmarks.measure import GIB, MIB, console
from benchmarks.proof.arms import WAYS
from benchmarks.proof.groups import PREFIX, Group, RefusedError, find_place
from benchmarks.proof.keeper import Keeper, sweep
from benchmarks.proof.readahead import Readahead, readahead_of
from benchmarks.proof.swap_file import size_for, swap_on
from hotseat.cli.demo.control_group import Place

SPARED_BYTES = 2 * GIB
"""Of memory, left for everybody else while the largest limit is used up."""
FIXED_BYTES = 512 * MIB
"""On top of the ratio: the bystander's 300 MB and interpreters, which do not grow with models."""
PROCESS_BYTES = 400 * MIB
"""About what a process takes beside its model, when the size of the swap file is chosen."""


class Ground(Struct, frozen=True, kw_only=True):
    """Where runs are made. `swap_bytes` is what the group may swap, 0 without a swap file."""

    group: Group
    swap_bytes: int
    readahead: Readahead


def limit_bytes(ratio: float, largest_bytes: int) -> int:
    """The byte limit of a ratio to the largest model."""
    return int(ratio * largest_bytes) + FIXED_BYTES


def wanted_swap_bytes(models: Sequence[int], least_limit: int) -> int:
    """What does not fit when every model is kept, and as much again as a process takes."""
    kept = sum(models) + len(models) * PROCESS_BYTES + FIXED_BYTES
    return max(kept - least_limit, 0) + PROCESS_BYTES


def check_safe(largest_limit: int, available: int, *, is_free_run_wanted: int = 0) -> None:
    """Raises `RefusedError` where the machine would be in danger. `is_free_run_wanted`: bytes."""
    needed = max(largest_limit, is_free_run_wanted) + SPARED_BYTES
    if available < needed:
        raise RefusedError(
            f"the runs use up to {needed / GIB:.1f} GiB with {SPARED_BYTES / GIB:.0f} GiB to"
            f" spare, {available / GIB:.1f} GiB are available: end other programs, or use"
            " smaller models (--gb)"
        )


def usable_place(system: str, user: int) -> Place:
    """Where groups can be made by this user. Raises `RefusedError`. `system`: sys.platform."""
    if system != "linux":
        raise RefusedError("control groups and swap files are Linux's: no other system can do it")
    if user != 0:
        raise RefusedError("root is needed for control groups and swap files: sudo -E")
    return find_place()


@contextmanager
def made(
    cache: Path, arms: Sequence[str], models: Sequence[int], ratios: Sequence[float]
) -> Iterator[Ground]:
    """The ground, undone at the end. Raises `RefusedError`."""
    place = usable_place(sys.platform, os.geteuid())
    limits = [limit_bytes(ratio, max(models)) for ratio in ratios]
    everything = sum(models) + len(models) * PROCESS_BYTES + FIXED_BYTES
    check_safe(max(limits), psutil.virtual_memory().available, is_free_run_wanted=everything)
    sweep(place, cache)
    swap = cache / f"proof-{os.getpid()}.swap"
    homes = cache / f"proof-homes-{os.getpid()}"
    name = f"{PREFIX}{os.getpid()}"
    ahead = readahead_of(cache)
    with Keeper(name, homes, swap, ahead):
        homes.mkdir(parents=True)
        tempfile.tempdir = str(homes)
        group = Group(place, name, cache)
        group.make()
        swap_bytes = 0
        if any(WAYS[arm].has_swap for arm in arms):
            wanted = wanted_swap_bytes(models, min(limits))
            swap_bytes = size_for(wanted, shutil.disk_usage(cache).free)
            swap_on(swap, swap_bytes)
            console.print(f"swap file of its own: {swap_bytes / GIB:.1f} GiB")
        try:
            yield Ground(group=group, swap_bytes=swap_bytes, readahead=ahead)
        finally:
            tempfile.tempdir = None
