"""What the planner needs to know about a machine. Pure data."""

from msgspec import Struct


class MachineMemory(Struct, frozen=True, kw_only=True):
    """Memory of the machine, bytes. `wired_bytes` is None where the OS does not tell."""

    total_bytes: int
    available_bytes: int
    wired_bytes: int | None = None


class Holder(Struct, frozen=True, kw_only=True):
    """Processes of one name and what they hold together."""

    name: str
    size_bytes: int
