"""What the planner needs to know about a machine, and what macOS means by available. Pure."""

from msgspec import Struct

from hotseat.protocol.telemetry import MemoryPages


class MachineMemory(Struct, frozen=True, kw_only=True):
    """Memory of the machine, bytes.

    `pressure` is the level the system itself speaks of (1 normal, 2 warning, 4 critical).
    `wired_limit_mb` is the switch for what Metal lets a process wire, 0 the default. They,
    `wired_bytes` and `pages` are None where the OS does not tell.
    """

    total_bytes: int
    available_bytes: int
    wired_bytes: int | None = None
    pages: MemoryPages | None = None
    pressure: int | None = None
    wired_limit_mb: int | None = None


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


def idle_bytes(pages: MemoryPages) -> int:
    """The least that programs hold and have not touched for long: inactive and of no file.

    Cache of files is inactive or speculative first, so what is left of both when all of it is
    taken off is memory of programs; the system can compress that.
    """
    cached = pages.file_backed_bytes + pages.purgeable_bytes
    return max(pages.inactive_bytes + pages.speculative_bytes - cached, 0)
