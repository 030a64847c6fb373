"""What can be set, with defaults that need no editing. Must not know where settings come from.

The type of a field says what may be written there; the end of its name is its unit.
"""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import asdict, replace

from hotseat.protocol.ids import ModelName
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.link_orders import Wiring
from hotseat.protocol.messages import Sampling
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.settings.http_values import HttpSettings
from hotseat.supervisor.settings.kinds import (
    Argument,
    Bytes,
    Choices,
    ChunkTokens,
    Count,
    Factor,
    FilePath,
    NameOfModel,
    Penalty,
    Seconds,
    Share,
)

_RESERVE_SHARE: Final = 0.18
_RESERVE_LOW_BYTES: Final = 1 * GIB
_RESERVE_HIGH_BYTES: Final = 6 * GIB
_INSIDE_SHARE: Final = 0.06
_INSIDE_LOW_BYTES: Final = 64 * MIB
_INSIDE_HIGH_BYTES: Final = 1 * GIB
_DISK_CAP_BYTES: Final = 50 * GIB
_DISK_SHARE_OF_FREE: Final = 0.20
_FLOOR_BYTES: Final = 10 * GIB
_FLOOR_SHARE_OF_DISK: Final = 0.05
_SILENT_S: Final = 10.0
_MAC_SILENT_S: Final = 60.0


class Deadlines(Struct, frozen=True, kw_only=True):
    """`[deadlines]`: seconds each phase may last; loading counts from the last progress."""

    start_s: Seconds = 60.0
    """A worker's start until it says hello."""
    load_s: Seconds = 600.0
    """Loading, counted from the last progress."""
    warm_s: Seconds = 120.0
    """The first token of a fresh model."""
    grace_s: Seconds = 10.0
    """What running requests get to finish by themselves before they are suspended."""
    drain_s: Seconds = 600.0
    """Draining altogether."""
    exit_drain_s: Seconds = 15.0
    """Draining when the daemon has to end."""
    checkpoint_s: Seconds = 300.0
    """Saving every context."""
    stop_s: Seconds = 10.0
    """A worker that was asked to end."""
    term_s: Seconds = 5.0
    """The same after SIGTERM."""
    kill_s: Seconds = 5.0
    """The same after SIGKILL."""
    reclaim_s: Seconds = 30.0
    """Memory of the ended worker coming back."""
    back_off_s: Seconds = 0.5
    """Before the second restart in a row without progress; twice as long before each further."""


DrainPolicy = Literal["finish", "suspend", "cancel"]
"""What happens to requests that still run when the grace time is over."""


class SchedulingSettings(Struct, frozen=True, kw_only=True):
    """`[scheduling]`: who gets the seat when. The grace time is `deadlines.grace_s`."""

    min_seat_s: Seconds = 2.0
    """A model with work keeps the seat at least so long."""
    weight: Count = 8
    """A model with work keeps the seat for so many times what a swap costs."""
    drain: DrainPolicy = "suspend"
    """What becomes of work that still runs after the grace time."""
    tool_linger_s: Seconds = 10.0
    """Longest wait for an agent that runs a tool and is expected back."""
    ageing_s: Seconds = 30.0
    """Waiting that outweighs one step of priority."""
    max_running: Count = 16
    """Requests on the worker at a time."""
    exact: bool = False
    """One request at a time, as if `max_running` were 1: no token depends on who runs beside."""


class SchedulerSettings(SchedulingSettings, frozen=True, kw_only=True):
    """What the scheduler takes: at most 1/(1+weight) of the time goes to swaps.

    The bound on waiting does not hold under the drain policy `finish`.
    """

    grace_s: Seconds = 10.0
    """How long running work may go on once somebody else's turn has come."""


class PressureSettings(Struct, frozen=True, kw_only=True):
    """`[pressure]`: the rhythm of shedding."""

    step_s: Seconds = 1.0
    """Between two steps while the level stays."""
    calm_s: Seconds = 10.0
    """How long a lower level has to last before it is believed."""


class StallSettings(Struct, frozen=True, kw_only=True):
    """`[stalls]`: what an honest worker never exceeds, even a slow one on a busy machine."""

    silent_s: Seconds | None = None
    """Between two frames of any kind; beats come each 0.2 s (at rest each 2 s, and that is
    added), from a thread of their own; unset: 10, on macOS 60, where swapping stops all threads."""
    quiet_s: Seconds = 30.0
    """Beside what the amount of work asks for: opening files, tokenizers, compiling kernels."""
    token_s: Seconds = 30.0
    """For one step of decoding."""
    load_floor_bytes: Bytes = 16 * MIB
    """Weights or KV a second, from or to the slowest disk that is worth using."""
    prefill_floor_tokens: Count = 4
    """Tokens a second inside one chunk."""

    def silence_s(self, platform: str) -> float:
        """`silent_s`, or what that system is given."""
        if self.silent_s is not None:
            return self.silent_s
        return _MAC_SILENT_S if platform == "darwin" else _SILENT_S


class FolderSettings(Struct, frozen=True, kw_only=True):
    """`[folders]`: other places than the home folder, for instance on a larger disk."""

    models: FilePath | None = None
    """Registered models, one folder each; unset: `models` in the home."""
    kv: FilePath | None = None
    """Stored contexts; unset: `kv` in the home. What is there already has to be moved by hand."""
    logs: FilePath | None = None
    """The daemon's own log; what launchd catches stays in the home."""


class MemorySettings(Struct, frozen=True, kw_only=True):
    """`[memory]`: what is left to everybody else, and caps below what the machine allows."""

    reserve_bytes: Bytes | None = None
    """Never planned with; unset: 18 % of the memory, at least 1 and at most 6 GiB, of the limit of
    a control group 6 %, at least 64 MiB and at most 1 GiB."""
    limit_bytes: Bytes | None = None
    """Cap on weights, contexts and overhead together, below what the machine allows."""
    kv_budget_bytes: Bytes | None = None
    """Cap on live contexts of any model."""
    streaming: Literal["auto", "off"] = "auto"
    """A model or a context that does not fit whole is read from the disk in part, with every step;
    `off`: it is refused."""
    wire: Wiring | None = None
    """macOS: keep weights from being paged out, from the next load on; unset: `weights`, and `off`
    once a kernel panic named IOGPU and Python."""

    def reserve_for(self, machine: MachineMemory) -> int:
        """Bytes never planned with; 18 % of RAM within 1 and 6 GiB unless set.

        What lies outside of a bound is left to others anyway: then 6 % of the bound within 64 MiB
        and 1 GiB, for the kernel's own and for files, unless the machine wants more.
        """
        if self.reserve_bytes is not None:
            return self.reserve_bytes
        share = int((machine.total_bytes + machine.outside_bytes) * _RESERVE_SHARE)
        reserve = min(max(share, _RESERVE_LOW_BYTES), _RESERVE_HIGH_BYTES)
        if machine.bound is None:
            return reserve
        inside = int(machine.total_bytes * _INSIDE_SHARE)
        inside = min(max(inside, _INSIDE_LOW_BYTES), _INSIDE_HIGH_BYTES)
        return max(inside, reserve - machine.outside_bytes)


class KvSettings(Struct, frozen=True, kw_only=True):
    """`[kv]`: KV on disk."""

    disk_budget_bytes: Bytes | None = None
    """All stored contexts together; unset: 20 % of the free space, at most 50 GiB."""
    free_floor_bytes: Bytes | None = None
    """Free space that contexts never touch; unset: 10 GiB, at most 5 % of the disk."""
    idle_checkpoint_s: Seconds = 30.0
    """Quiet after which the last tokens of a session go to disk too."""
    daily_write_bytes: Bytes | None = None
    """Written in a day (UTC); above it an event says so, and contexts are written at swaps only."""

    def disk_budget_for(self, free_bytes: int) -> int:
        """Bytes of KV files over all tags; min(50 GiB, 20 % of free space) unless set."""
        if self.disk_budget_bytes is not None:
            return self.disk_budget_bytes
        return min(_DISK_CAP_BYTES, int(free_bytes * _DISK_SHARE_OF_FREE))

    def free_floor_for(self, disk_bytes: int) -> int:
        """Free space that KV files never touch; 10 GiB, at most 5 % of the disk, unless set."""
        if self.free_floor_bytes is not None:
            return self.free_floor_bytes
        return min(_FLOOR_BYTES, int(disk_bytes * _FLOOR_SHARE_OF_DISK))


class LimitSettings(Struct, frozen=True, kw_only=True):
    """`[limits]`: bounds on what clients may use up."""

    max_waiting: Count = 256
    """Requests that may wait at a time; the next one gets `queue_full`."""
    reply_keep_s: Seconds = 3600.0
    """How long a reply can be asked for again."""
    reply_keep_bytes: Bytes = 64 * MIB
    """All kept replies together."""
    slow_consumer_s: Seconds = 30.0
    """A client that reads nothing for so long, with 1 MiB waiting, is let go."""
    claim_s: Seconds = 60.0
    """After a restart of the daemon, how long a request waits for its client to come back."""


class SeatSettings(Struct, frozen=True, kw_only=True):
    """`[seat]`: where the lock of this machine's one seat lies, and what is kept ready for it."""

    at_start: NameOfModel | None = None
    """Model that is seated when the daemon starts; unset: none until somebody asks."""
    lock_path: FilePath | None = None
    """The lock of this machine's one seat; the same for all users of it."""
    standby: Literal["on", "off"] = "on"
    """"off" saves about 100 MB and makes every swap start an interpreter first."""
    ready_memory: Literal["on", "off"] = "on"
    """Linux: the standby touches memory for the next weights ahead while much more is free."""
    keep_alive_s: Seconds = 900.0
    """A model that nobody asked for that long gives the seat up; its contexts are kept."""


class PowerSettings(Struct, frozen=True, kw_only=True):
    """`[power]`: whether the Mac may fall asleep over work. The display always may."""

    prevent_sleep: bool = True
    """No idle sleep while a request runs or a swap is under way."""
    on_battery: bool = False
    """The same on battery."""


class SamplingDefaults(Struct, frozen=True, kw_only=True):
    """`[models.NAME.sampling]`: how to draw where a request does not say.

    What stands neither here nor there is the model's own, from its `generation_config.json`.
    """

    temperature: Factor | None = None
    """0 is greedy."""
    top_p: Share | None = None
    """0 is off, like everywhere below."""
    top_k: Choices | None = None
    """Draws among so many tokens."""
    min_p: Share | None = None
    """Drops tokens less likely than this share of the likeliest."""
    repetition_penalty: Factor | None = None
    """Above 1 avoids tokens that were there."""
    presence_penalty: Penalty | None = None
    """Taken off once for a token that was there."""
    frequency_penalty: Penalty | None = None
    """Taken off for each time a token was there."""

    def fill(self, asked: Sampling, own: Sampling, protocol: int) -> Sampling:
        """What the request asked for, defaults where it asked for nothing, then the model's own.

        In version 1 of the protocol a 0 asked for nothing, and the model had no say.
        """
        if protocol == 1:
            given = {name: getattr(asked, name) or getattr(self, name) for name in _DRAWN}
        else:
            sources = (asked, self, own)
            given = {
                name: next((v for one in sources if (v := getattr(one, name)) is not None), None)
                for name in _DRAWN
            }
        return replace(asked, **given)


_DRAWN: Final = SamplingDefaults.__struct_fields__
SwapPolicy = Literal["auto", "wait", "never"]


class ModelSettings(Struct, frozen=True, kw_only=True):
    """`[models.NAME]`: what differs from the model's record."""

    path: FilePath | None = None
    """Folder with a model.json: registers the model under this name."""
    adapter: FilePath | None = None
    """Folder of a LoRA adapter to load with it, in place of the one it was imported with."""
    context_tokens: Count | None = None
    """Shorter context than the model could have."""
    prefill_chunk: ChunkTokens | None = None
    """Tokens of a prompt computed at once, fewer behind 16,384, or behind 8,192 where attention
    stores its scores; a divisor or multiple of 256.
    Unset: 256; on a Mac 512, and 1024 for mixtures of experts and small models."""
    limit_bytes: Bytes | None = None
    """Cap on weights, contexts and overhead of this model together."""
    kv_budget_bytes: Bytes | None = None
    """Cap on this model's live contexts."""
    swap: SwapPolicy = "auto"
    """What its requests may do at most: `wait` until somebody seats it, `never` swap or wait."""
    keep_alive_s: Seconds | None = None
    """Idle time after which it gives the seat up; unset: `seat.keep_alive_s`."""
    pin: bool = False
    """Never gives the seat up for being idle; requests of other models still take it."""
    persist: bool = True
    """False keeps its contexts off the disk: every swap then costs a prefill."""
    sampling: SamplingDefaults = SamplingDefaults()
    """Defaults of a draw."""
    template_args: Mapping[str, Argument] = {}
    """Arguments of the chat template, for sessions that name none."""


class AliasSettings(Struct, frozen=True, kw_only=True):
    """`[aliases]`: other names for models; `*` and `?` are globs. Registered names win."""

    use: NameOfModel
    """A registered model, or `seated`: whatever holds the seat."""
    otherwise: NameOfModel | None = None
    """With `seated`: the model to seat when none is."""


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    folders: FolderSettings = FolderSettings()
    memory: MemorySettings = MemorySettings()
    kv: KvSettings = KvSettings()
    limits: LimitSettings = LimitSettings()
    deadlines: Deadlines = Deadlines()
    stalls: StallSettings = StallSettings()
    pressure: PressureSettings = PressureSettings()
    seat: SeatSettings = SeatSettings()
    scheduling: SchedulingSettings = SchedulingSettings()
    power: PowerSettings = PowerSettings()
    http: HttpSettings = HttpSettings()
    aliases: Mapping[str, AliasSettings] = {}
    models: Mapping[ModelName, ModelSettings] = {}

    @property
    def scheduler(self) -> SchedulerSettings:
        """What the scheduler needs to know."""
        policy = SchedulerSettings(grace_s=self.deadlines.grace_s, **asdict(self.scheduling))
        return replace(policy, max_running=1) if policy.exact else policy

    def model(self, name: ModelName) -> ModelSettings:
        """Settings of a model, defaults if it has no section."""
        return self.models.get(name, ModelSettings())
