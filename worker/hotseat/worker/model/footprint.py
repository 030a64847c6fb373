"""What this process takes from the system, and how unused memory is given back to it.

Must not know models.
"""

import ctypes
import gc
import sys
from pathlib import Path
from typing import Final

import mlx.core as mx
import psutil

_STATUS: Final = Path("/proc/self/status")
_OWN_KB: Final = ("RssAnon:", "VmSwap:")


def footprint_bytes() -> int:
    """Memory that would be free if this process were gone.

    On Linux anonymous pages and swap: the unique set size also counts pages of libraries, and
    jumps by their size whenever another process that maps them starts or ends.
    """
    if sys.platform != "linux":
        return int(psutil.Process().memory_full_info().uss)
    lines = [line.split() for line in _STATUS.read_text().splitlines()]
    return sum(int(line[1]) * 1024 for line in lines if line and line[0] in _OWN_KB)


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
