"""What a beat tells of a seat, taken down by the engine's thread. Must not know the link."""

from msgspec import Struct

from hotseat.worker.model.budget import KvBudget


class BeatFigures(Struct, frozen=True, kw_only=True):
    """What a beat tells of a seat, as of the last step; it is added up later."""

    budget: KvBudget
    busy: bool
    rows: list[list[int]]
    idle_bytes: int
    sessions: tuple[str, ...]

    def live_kv_bytes(self) -> int:
        """KV in memory as accounted."""
        return sum(self.budget.lane_bytes(rows) for rows in self.rows) + self.idle_bytes
