"""One reading of machine and daemon: what `events` streams on the topic `telemetry`. Pure."""

from typing import Final

from msgspec import Struct

TELEMETRY_TOPIC: Final = "telemetry"
SAMPLED: Final = "telemetry.sampled"


class MemoryPages(Struct, frozen=True, kw_only=True):
    """Pages of a Mac by class, bytes. Each page is in one of the first six, or kept by the kernel.

    `anonymous_bytes` (memory of programs) and `file_backed_bytes` (cache of files) are active,
    inactive and speculative pages told apart once more; purgeable ones are anonymous.
    """

    free_bytes: int
    active_bytes: int
    inactive_bytes: int
    speculative_bytes: int
    wired_bytes: int
    compressed_bytes: int
    """What the compressor takes, not what it holds."""
    anonymous_bytes: int
    file_backed_bytes: int
    purgeable_bytes: int


class Sample(Struct, frozen=True, kw_only=True):
    """A moment. The classes of memory, `weights_bytes` to `free_bytes`, add up to `total_bytes`.

    `runtime_bytes` is what the worker holds beside weights and live KV; `other_bytes` belongs to
    the system and to other programs. `cold_kv_bytes` lies on the SSD and is in no class.
    """

    at: float
    """Unix time."""
    phase: str
    epoch: int = 0
    model: str | None = None
    swap_to: str | None = None
    """Target of the swap under way."""
    load_percent: float | None = None
    total_bytes: int = 0
    weights_bytes: int = 0
    live_kv_bytes: int = 0
    runtime_bytes: int = 0
    standby_bytes: int = 0
    other_bytes: int = 0
    free_bytes: int = 0
    cold_kv_bytes: int = 0
    os_swapped_in_bytes: int = 0
    """By the operating system since the sample before; so is the next."""
    os_swapped_out_bytes: int = 0
    offloaded_bytes: int = 0
    """KV that hotseat wrote to disk since the sample before."""
    pressure: int | None = None
    """As the system calls it: 1 normal, 2 warning, 4 critical; None where it has no such level."""
    footprint_bytes: int | None = None
    active_bytes: int | None = None
    cache_bytes: int | None = None
    peak_bytes: int | None = None
    running: int = 0
    waiting: int = 0
    """Suspended ones included."""
    suspended: int = 0
    sessions_live: int = 0
    sessions_cold: int = 0
    tokens_per_s: float = 0.0
    """Emitted by all requests since the sample before."""
    pages: MemoryPages | None = None
    """None where the system has no such classes."""
    gpu_errors: int = 0
    """Workers that ended because the GPU failed, since the daemon started."""


def wants_telemetry(topics: tuple[str, ...]) -> bool:
    """True when a subscription names the topic; one without topics gets lifecycle events only."""
    return any(SAMPLED.startswith(topic) and topic for topic in topics)
