"""What can be set, with defaults that need no editing. Must not know where settings come from.

The end of a field's name is its unit and decides how `config` reads it: `_bytes`, `_s`, `_path`.
"""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from hotseat.protocol.ids import ModelName
from hotseat.protocol.limits import GIB, MIB
from hotseat.supervisor.core.pressure import PressureSettings
from hotseat.supervisor.core.scheduler import SchedulerSettings
from hotseat.supervisor.core.seat_types import Deadlines, DrainPolicy
from hotseat.supervisor.core.stalls import StallSettings

_RESERVE_SHARE: Final = 0.18
_RESERVE_LOW_BYTES: Final = 1 * GIB
_RESERVE_HIGH_BYTES: Final = 6 * GIB
_DISK_CAP_BYTES: Final = 50 * GIB
_DISK_SHARE_OF_FREE: Final = 0.20
_FLOOR_BYTES: Final = 20 * GIB
_FLOOR_SHARE_OF_DISK: Final = 0.10
_SCHEDULER: Final = SchedulerSettings()


class MemorySettings(Struct, frozen=True, kw_only=True):
    """`[memory]`: what is left to everybody else, and caps below what the machine allows."""

    reserve_bytes: int | None = None
    limit_bytes: int | None = None
    kv_budget_bytes: int | None = None

    def reserve_for(self, total_bytes: int) -> int:
        """Bytes never planned with; 18 % of RAM within 1 and 6 GiB unless set."""
        if self.reserve_bytes is not None:
            return self.reserve_bytes
        share = int(total_bytes * _RESERVE_SHARE)
        return min(max(share, _RESERVE_LOW_BYTES), _RESERVE_HIGH_BYTES)


class KvSettings(Struct, frozen=True, kw_only=True):
    """`[kv]`: KV on disk."""

    disk_budget_bytes: int | None = None
    free_floor_bytes: int | None = None
    idle_checkpoint_s: float = 30.0

    def disk_budget_for(self, free_bytes: int) -> int:
        """Bytes of KV files over all tags; min(50 GiB, 20 % of free space) unless set."""
        if self.disk_budget_bytes is not None:
            return self.disk_budget_bytes
        return min(_DISK_CAP_BYTES, int(free_bytes * _DISK_SHARE_OF_FREE))

    def free_floor_for(self, disk_bytes: int) -> int:
        """Free space that KV files never touch; 20 GiB, at most 10 % of the disk, unless set."""
        if self.free_floor_bytes is not None:
            return self.free_floor_bytes
        return min(_FLOOR_BYTES, int(disk_bytes * _FLOOR_SHARE_OF_DISK))


class LimitSettings(Struct, frozen=True, kw_only=True):
    """`[limits]`: bounds on what clients may use up."""

    max_waiting: int = 256
    reply_keep_s: float = 3600.0
    reply_keep_bytes: int = 64 * MIB
    slow_consumer_s: float = 30.0
    claim_s: float = 60.0


class SeatSettings(Struct, frozen=True, kw_only=True):
    """`[seat]`: where the lock of this machine's one seat lies, and what is kept ready for it."""

    lock_path: str | None = None
    standby: Literal["on", "off"] = "on"
    """"off" saves about 100 MB and makes every swap start an interpreter first."""
    ready_memory: Literal["on", "off"] = "on"
    """Linux: the standby touches memory for the next weights ahead while much more is free."""
    keep_alive_s: float = 900.0
    """A model that nobody asked for that long gives the seat up; its contexts are kept."""


class SchedulingSettings(Struct, frozen=True, kw_only=True):
    """`[scheduling]`: who gets the seat when. The grace time is `deadlines.grace_s`."""

    min_seat_s: float = _SCHEDULER.min_seat_s
    weight: int = int(_SCHEDULER.weight)
    """A model with work keeps the seat for so many times what a swap costs."""
    drain: DrainPolicy = _SCHEDULER.drain
    tool_linger_s: float = _SCHEDULER.tool_linger_s
    ageing_s: float = _SCHEDULER.ageing_s
    max_running: int = _SCHEDULER.max_running


class ModelSettings(Struct, frozen=True, kw_only=True):
    """`[models.NAME]`: what differs from the model's record. `path` holds a model.json."""

    context_tokens: int | None = None
    prefill_chunk: int | None = None
    kv_budget_bytes: int | None = None
    persist: bool = True
    path: str | None = None


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    memory: MemorySettings = MemorySettings()
    kv: KvSettings = KvSettings()
    limits: LimitSettings = LimitSettings()
    deadlines: Deadlines = Deadlines()
    stalls: StallSettings = StallSettings()
    pressure: PressureSettings = PressureSettings()
    seat: SeatSettings = SeatSettings()
    scheduling: SchedulingSettings = SchedulingSettings()
    models: Mapping[ModelName, ModelSettings] = {}

    @property
    def scheduler(self) -> SchedulerSettings:
        """What the scheduler needs to know."""
        chosen = self.scheduling
        return SchedulerSettings(
            min_seat_s=chosen.min_seat_s,
            weight=chosen.weight,
            grace_s=self.deadlines.grace_s,
            drain=chosen.drain,
            tool_linger_s=chosen.tool_linger_s,
            ageing_s=chosen.ageing_s,
            max_running=chosen.max_running,
        )

    def model(self, name: ModelName) -> ModelSettings:
        """Settings of a model, defaults if it has no section."""
        return self.models.get(name, ModelSettings())
