"""A swap file for one experiment: sized by what is free, used first, removed. Root and Linux."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.measure import GIB
from benchmarks.proof.groups import RefusedError

SPARED_DISK_BYTES = 4 * GIB
"""Left free for everybody else."""
FIRST = "32767"
"""The highest priority: whatever else swaps keeps its own."""


def size_for(wanted_bytes: int, free_bytes: int) -> int:
    """How large it gets. Raises `RefusedError` when the disk has too little."""
    size = min(wanted_bytes, free_bytes - SPARED_DISK_BYTES)
    if size < wanted_bytes // 2:
        raise RefusedError(
            f"a swap file of {wanted_bytes / GIB:.1f} GiB is wanted and {free_bytes / GIB:.1f} GiB"
            f" are free, of which {SPARED_DISK_BYTES / GIB:.0f} GiB stay free: use --cache on a"
            " larger disk, smaller models (--gb), or --arms without swap"
        )
    return size


def swap_on(path: Path, size_bytes: int) -> None:
    """Makes it and turns it on. Raises `RefusedError` with the system's reason."""
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        path.chmod(0o600)
        for command in (["mkswap", path], ["swapon", "-p", FIRST, path]):
            subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        path.unlink(missing_ok=True)
        reason = getattr(error, "stderr", "") or str(error)
        raise RefusedError(f"no swap file can be used at {path}: {reason.strip()}") from error


def swap_off(path: Path) -> None:
    """Turns it off and removes it; whatever is in it comes back to memory first."""
    active = [line.split()[0] for line in Path("/proc/swaps").read_text().splitlines()[1:]]
    if str(path) in active:
        subprocess.run([shutil.which("swapoff") or "swapoff", path], check=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
