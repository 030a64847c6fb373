"""What this process takes from the system, and how unused memory is given back to it.

Must not know models.
"""

import ctypes
import gc
import sys

import mlx.core as mx
import psutil


def footprint_bytes() -> int:
    """Memory that would be free if this process were gone (unique set size)."""
    return int(psutil.Process().memory_full_info().uss)


def give_back() -> None:
    """Hands everything that is unused to the system: garbage, MLX's cache, the C heap's.

    Without the last step glibc keeps what was freed in its arenas on Linux.
    """
    gc.collect()
    mx.clear_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
