"""What Metal lets a process wire: by default, as a worker said it, and whether that holds. Pure."""

from typing import Final

from msgspec import Struct

from hotseat.protocol.limits import GIB, MIB

_LARGE_MAC_BYTES: Final = 96 * GIB
_WIRED_PERCENT: Final = 74
_WIRED_PERCENT_LARGE: Final = 84


class WorkingSet(Struct, frozen=True, kw_only=True):
    """`switch_mb` is `iogpu.wired_limit_mb` at that time: 0 is the system's own limit."""

    size_bytes: int
    switch_mb: int | None = None


def is_stale(known: WorkingSet | None, switch_mb: int | None) -> bool:
    """True when the switch was turned since: a process that is older has the old limit."""
    return known is not None and known.switch_mb != switch_mb


def limit_now(known: WorkingSet | None, switch_mb: int | None) -> int | None:
    """The limit of a process that starts now; None while nobody can know.

    A switch that is on is the limit itself. One that is off gives back the system's own, which
    nobody told if the last worker started under the switch.
    """
    if switch_mb:
        return switch_mb * MIB
    return None if known is None or is_stale(known, switch_mb) else known.size_bytes


def metal_working_set(ram_bytes: int) -> int:
    """About what Metal lets a process wire by default, from macOS 15 on.

    From what Macs of 16, 24, 36, 128 and 192 GiB said in public; in between the smaller share.
    """
    is_large = ram_bytes >= _LARGE_MAC_BYTES
    return ram_bytes * (_WIRED_PERCENT_LARGE if is_large else _WIRED_PERCENT) // 100
