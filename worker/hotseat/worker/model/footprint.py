"""What this process takes from the system, and how unused memory is given back to it.

Must not know models.
"""

import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import psutil

_STATUS: Final = Path("/proc/self/status")
_OWN_KB: Final = ("RssAnon:", "VmSwap:")
_RUSAGE_INFO_V0: Final = 0
_V0_WORDS: Final = 12
"""`struct rusage_info_v0` of <sys/resource.h>: 16 bytes of uuid and ten 64-bit numbers."""
_FOOTPRINT_WORD: Final = 9
SETTLE_S: Final = 2.0
"""Metal gives buffers back a moment after the last reference is gone."""
SETTLED_SHARE: Final = 0.99
POLL_S: Final = 0.02


class MacFootprint:
    """macOS: `phys_footprint` by the kernel. psutil's unique set leaves out Metal's buffers."""

    def __init__(self, libproc: Any = None) -> None:
        self._libproc = libproc or ctypes.CDLL("/usr/lib/libproc.dylib", use_errno=True)

    def __call__(self) -> int:
        """Of this process, now."""
        words = (ctypes.c_uint64 * _V0_WORDS)()
        if self._libproc.proc_pid_rusage(os.getpid(), _RUSAGE_INFO_V0, ctypes.byref(words)) != 0:
            return int(psutil.Process().memory_full_info().uss)
        return int(words[_FOOTPRINT_WORD])


def linux_footprint() -> int:
    """Anonymous pages and swap.

    The unique set size also counts pages of libraries, and jumps by their size whenever another
    process that maps them starts or ends.
    """
    lines = [line.split() for line in _STATUS.read_text().splitlines()]
    return sum(int(line[1]) * 1024 for line in lines if line and line[0] in _OWN_KB)


def footprint_bytes() -> int:
    """Memory that would be free if this process were gone."""
    return MacFootprint()() if sys.platform == "darwin" else linux_footprint()


def footprint_after(
    freed_bytes: int, before_bytes: int, measure: Callable[[], int], wait_s: float
) -> int:
    """The footprint once what was freed has left it, `wait_s` later at most."""
    until = time.monotonic() + wait_s
    wanted = before_bytes - SETTLED_SHARE * freed_bytes
    while (now := measure()) > wanted and time.monotonic() < until:
        time.sleep(POLL_S)
    return now


def settled_footprint(freed_bytes: int, before_bytes: int) -> int:
    """The footprint after an unload. Linux takes pages back at once, so nobody waits there."""
    wait_s = SETTLE_S if sys.platform == "darwin" else 0.0
    return footprint_after(freed_bytes, before_bytes, footprint_bytes, wait_s)


def give_back() -> None:
    """Hands everything that is unused to the system: garbage, MLX's cache, the C heap's.

    Without the last step glibc keeps most of a model that was freed in its arenas.
    """
    gc.collect()
    mx.clear_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
