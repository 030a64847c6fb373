"""How much KV has to leave the disk. Pure: bytes in, bytes out; which files go is another rule."""

from typing import Final

from msgspec import Struct

HIGH_WATER: Final = 0.95
"""Of the disk budget: where eviction begins, so that what is written meanwhile still fits."""
LOW_WATER: Final = 0.85
"""Of the disk budget: how far eviction goes once it began."""
FLOOR_MARGIN: Final = 0.05
"""Of the free-space floor: so much above it is made free at once."""


class DiskState(Struct, frozen=True, kw_only=True):
    """Bytes of KV on disk, free space of its volume, and the limits."""

    used_bytes: int
    free_bytes: int
    budget_bytes: int
    floor_bytes: int

    @property
    def high_bytes(self) -> int:
        """Above it eviction begins."""
        return int(self.budget_bytes * HIGH_WATER)

    @property
    def low_bytes(self) -> int:
        """Eviction ends here."""
        return int(self.budget_bytes * LOW_WATER)


def bytes_to_free(state: DiskState) -> int:
    """How much has to go: down to low water, or until the volume is above its floor again.

    Zero while the budget is not nearly full and the floor is not touched.
    """
    over_budget = state.used_bytes - state.low_bytes if state.used_bytes > state.high_bytes else 0
    missing = 0
    if state.free_bytes < state.floor_bytes:
        missing = int(state.floor_bytes * (1 + FLOOR_MARGIN)) - state.free_bytes
    return min(max(over_budget, missing, 0), state.used_bytes)
