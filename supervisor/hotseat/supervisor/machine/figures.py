"""What the planner needs to know about a machine, and what macOS means by available. Pure."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from hotseat.protocol.memory_bounds import Bound, available_within, tightest
from hotseat.protocol.telemetry import MemoryPages


class MachineMemory(Struct, frozen=True, kw_only=True):
    """Memory of the machine, bytes.

    `pressure` is the level the system itself speaks of (1 normal, 2 warning, 4 critical).
    `wired_limit_mb` is the switch for what Metal lets a process wire, 0 the default. They,
    `wired_bytes` and `pages` are None where the OS does not tell.

    `bound` is what leaves less than the machine has, a control group for instance; then
    `total_bytes` is its limit, `outside_bytes` what the machine has beyond it, and
    `swappable_bytes` what could make room because it may be swapped and was not touched for long.
    `held_bytes` is what is left to others of a control group where a model has too little room
    beside them; 0 for one that has enough.
    """

    total_bytes: int
    available_bytes: int
    wired_bytes: int | None = None
    pages: MemoryPages | None = None
    pressure: int | None = None
    wired_limit_mb: int | None = None
    bound: Bound | None = None
    outside_bytes: int = 0
    swappable_bytes: int = 0
    held_bytes: int = 0

    @property
    def in_group(self) -> bool:
        """Whether a control group leaves less than the machine has."""
        return self.bound is not None and self.bound.is_group


class Holder(Struct, frozen=True, kw_only=True):
    """Processes of one name and what they hold together."""

    name: str
    size_bytes: int


class LoadedElsewhere(Struct, frozen=True, kw_only=True):
    """A model that another program has in memory, and what a person types to unload it."""

    program: str
    model: str
    size_bytes: int
    command: str


def available_bytes(total_bytes: int, pages: MemoryPages) -> int:
    """What is not used in the sense of Activity Monitor: by programs, wired, or the compressor.

    The cache of files and purgeable memory are available: the system takes them back when asked.
    """
    programs = max(pages.anonymous_bytes - pages.purgeable_bytes, 0)
    used = programs + pages.wired_bytes + pages.compressed_bytes
    return max(total_bytes - used, 0)


def within(machine: MachineMemory, bounds: Sequence[Bound], swap_free_bytes: int) -> MachineMemory:
    """What a machine comes to for a process that is bound."""
    available = available_within(bounds, machine.available_bytes)
    bound = tightest(bounds, machine.total_bytes)
    if bound is None:
        return replace(machine, available_bytes=available)
    swap = swap_free_bytes if bound.swap_bytes is None else min(bound.swap_bytes, swap_free_bytes)
    return replace(
        machine,
        total_bytes=bound.limit_bytes,
        available_bytes=min(available, bound.limit_bytes),
        bound=replace(bound, swap_bytes=swap),
        outside_bytes=machine.total_bytes - bound.limit_bytes,
        swappable_bytes=min(bound.idle_bytes, swap),
    )


def idle_bytes(pages: MemoryPages) -> int:
    """The least that programs hold and have not touched for long: inactive and of no file.

    Cache of files is inactive or speculative first, so what is left of both when all of it is
    taken off is memory of programs; the system can compress that.
    """
    cached = pages.file_backed_bytes + pages.purgeable_bytes
    return max(pages.inactive_bytes + pages.speculative_bytes - cached, 0)
