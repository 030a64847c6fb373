"""What Metal needs beside mlx's own calls: what stays wired, and waits before memory goes.

Each call does nothing of it where there is no Metal. Must not know models or requests.
"""

import time
from typing import Final

import mlx.core as mx
from mlx_lm.generate import generation_stream

from hotseat.protocol.limits import GIB

WIRED_MARGIN_BYTES: Final = GIB


def wire_active(*, is_wanted: bool) -> None:
    """Wires what is active now, right after a load: the weights and nothing that comes and goes.

    A limit above the weights would have mlx change its set of resident buffers with all growth of
    KV, and kernels of macOS 26 were seen to panic over that.
    """
    if not mx.metal.is_available():
        return
    recommended = int(mx.device_info()["max_recommended_working_set_size"])
    size = max(0, min(int(mx.get_active_memory()), recommended - WIRED_MARGIN_BYTES))
    mx.set_wired_limit(size if is_wanted else 0)


def unwire() -> float | None:
    """Gives wired pages back and waits until the GPU is done; seconds, None without Metal.

    Pages of a process that ended with wired buffers were seen to stay wired until the next boot.
    """
    if not mx.metal.is_available():
        return None
    began = time.monotonic()
    mx.set_wired_limit(0)
    mx.synchronize(generation_stream)
    mx.synchronize()
    return time.monotonic() - began


def clear_cache() -> None:
    """Gives the allocator's cache up, on Metal once nothing under way may still use it."""
    if mx.metal.is_available():
        mx.synchronize(generation_stream)
    mx.clear_cache()
