"""What Metal lets a process wire, as a worker said it, and whether that still holds. Pure."""

from msgspec import Struct

from hotseat.protocol.limits import MIB


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
