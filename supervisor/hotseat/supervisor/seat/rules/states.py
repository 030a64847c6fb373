"""State, events and effects of the seat. Data only; the rules are in `table`."""

from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct

from hotseat.protocol.replies import Cause
from hotseat.supervisor.settings.values import DrainPolicy


class Phase(StrEnum):
    """Where the seat is. The way round: EMPTY ... READY ... RECLAIMING and again."""

    EMPTY = "empty"
    STARTING = "starting"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    CHECKPOINTING = "checkpointing"
    STOPPING = "stopping"
    RECLAIMING = "reclaiming"
    MEMORY_STRANDED = "memory_stranded"
    FAILED = "failed"


SETTLED = frozenset({Phase.EMPTY, Phase.READY, Phase.FAILED, Phase.MEMORY_STRANDED})
"""Phases in which a new swap can begin."""
SEATING = frozenset({Phase.STARTING, Phase.LOADING, Phase.WARMING})


class Fault(Struct, frozen=True, kw_only=True):
    """Why something did not work; `code` is a wire error code."""

    code: str
    message: str
    permanent: bool = False
    by_system: bool = False
    """A signal that hotseat did not send ended the worker, and not for a crash of its own."""
    by_disk: bool = False
    """Weights could not be read any more: no request is to blame."""
    gpu: str = ""
    """What the GPU failed with, if that ended the worker."""
    facts: dict[str, Any] = {}


class SwapPlan(Struct, frozen=True, kw_only=True):
    """A validated wish for the seat. `target` None gives the seat up."""

    swap: int
    target: str | None
    cause: Cause
    exits: bool = False
    """True: the daemon ends when the seat is empty."""
    drain: DrainPolicy = "suspend"
    grace_s: float | None = None
    """What running requests get to finish by themselves; None is what `Deadlines` says."""
    gives_up: bool = False
    """True: a stuck worker is ended and its model is not seated again."""
    mode: Literal["process", "in-process"] = "process"
    """"in-process" turns into "process" by itself when memory does not come back."""


class Mark(Struct, frozen=True):
    """When a phase of the swap under way was entered."""

    phase: Phase
    at: float


class Misses(Struct, frozen=True, kw_only=True):
    """Failures of a model to be seated, in a row."""

    model: str
    count: int
    until: float
    """Quarantined before this time."""
    reason: str = ""


class GpuLosses(Struct, frozen=True, kw_only=True):
    """Workers that lost the GPU in a row, without a token in between, whatever model they had."""

    in_a_row: int = 0
    until: float = 0.0
    """Nothing is seated before this time."""
    reason: str = ""


class SeatState(Struct, frozen=True, kw_only=True):
    """Everything there is to know about the seat."""

    phase: Phase = Phase.EMPTY
    epoch: int = 0
    model: str | None = None
    """Seated, or being seated."""
    since: float = 0.0
    seated_at: float = 0.0
    deadline: float | None = None
    plan: SwapPlan | None = None
    """The swap under way."""
    came_from: str | None = None
    """The model that held the seat when the swap began: the way back."""
    marks: tuple[Mark, ...] = ()
    rung: int = 0
    """Of the stop ladder: 0 asked, 1 SIGTERM, 2 SIGKILL. While draining: 1 once grace is over."""
    worker_lives: bool = False
    fault: Fault | None = None
    """Why the seat is FAILED, stranded or on its way back."""
    misses: tuple[Misses, ...] = ()
    deaths: tuple[float, ...] = ()
    """When workers died in a row without progress in between; old ones are forgotten."""
    gpu: GpuLosses = GpuLosses()


# --- events -------------------------------------------------------------------------------------


class Asked(Struct, frozen=True, tag=True):
    """A validated swap may begin."""

    plan: SwapPlan


class ExitAsked(Struct, frozen=True, tag=True):
    """The daemon has to end, whatever is under way."""

    plan: SwapPlan


class SwapCancelled(Struct, frozen=True, tag=True):
    """Whoever asked for the swap takes it back."""

    swap: int


class Drained(Struct, frozen=True, tag=True):
    """No request runs any more."""


class CheckpointEnded(Struct, frozen=True, tag=True):
    """All that could be written is committed; `fault` if something could not."""

    fault: Fault | None = None


class UnloadEnded(Struct, frozen=True, tag=True):
    """The worker let go of its model in place; `fault` if its memory did not come back."""

    epoch: int
    fault: Fault | None = None


class WorkerDied(Struct, frozen=True, tag=True):
    """The process of `epoch` is reaped. `jitter`, 0 to 1, spreads restarts."""

    epoch: int
    fault: Fault
    jitter: float = 0.0


class Stalled(Struct, frozen=True, tag=True):
    """The worker of `epoch` lives and gets nowhere; `fault` has its stacks."""

    epoch: int
    fault: Fault
    was_idle: bool = False
    """True: a standby that said nothing since it was taken. Its model has no part in that."""


class Slept(Struct, frozen=True, tag=True):
    """This process did not run for a while: that time counts against nobody."""

    lasted_s: float = 0.0


class StartRefused(Struct, frozen=True, tag=True):
    """No process was started (the machine's seat is taken, the interpreter is missing)."""

    epoch: int
    fault: Fault


class Greeted(Struct, frozen=True, tag=True):
    """The worker of `epoch` said hello: its libraries are loaded."""

    epoch: int


class LoadAdvanced(Struct, frozen=True, tag=True):
    """More weights are in memory."""

    epoch: int


class LoadEnded(Struct, frozen=True, tag=True):
    """Weights are in memory, or `fault` says why not."""

    epoch: int
    fault: Fault | None = None


class WarmEnded(Struct, frozen=True, tag=True):
    """The model answered a token, or `fault` says why not."""

    epoch: int
    fault: Fault | None = None


class Reclaimed(Struct, frozen=True, tag=True):
    """The memory the next model needs is available."""

    epoch: int


class WorkAdvanced(Struct, frozen=True, tag=True):
    """A token or chunk was computed: deaths before it no longer count together."""

    epoch: int


class TimePassed(Struct, frozen=True, tag=True):
    """The clock moved; deadlines are looked at."""


SeatEvent = (
    Asked
    | ExitAsked
    | SwapCancelled
    | Drained
    | CheckpointEnded
    | UnloadEnded
    | WorkerDied
    | Stalled
    | Slept
    | StartRefused
    | Greeted
    | LoadAdvanced
    | LoadEnded
    | WarmEnded
    | Reclaimed
    | WorkAdvanced
    | TimePassed
)

# --- effects ------------------------------------------------------------------------------------


class StopAdmission(Struct, frozen=True, tag=True):
    """Start no more requests and report when none runs (Drained)."""


class ResumeAdmission(Struct, frozen=True, tag=True):
    """Requests may start again."""


class SuspendRunning(Struct, frozen=True, tag=True):
    """Running requests leave at the next token boundary and wait for their model."""


class CancelRunning(Struct, frozen=True, tag=True):
    """End running requests at the next token boundary; partial turns are kept."""


class LoseRunning(Struct, frozen=True, tag=True):
    """The worker is gone: running requests are to be put back or ended."""

    fault: Fault


class SendCheckpoint(Struct, frozen=True, tag=True):
    """Make every context durable."""

    swap: int


class AskStop(Struct, frozen=True, tag=True):
    """First rung: a message."""


class SendUnload(Struct, frozen=True, tag=True):
    """Have the worker let go of its model and stay alive (UnloadEnded)."""


class SendReseat(Struct, frozen=True, tag=True):
    """The worker that lives becomes the worker of `epoch`, for `model`."""

    epoch: int
    model: str


class DumpStacks(Struct, frozen=True, tag=True):
    """Have the worker write where its threads are: its log keeps it."""


class SendTerm(Struct, frozen=True, tag=True):
    """Second rung."""


class SendKill(Struct, frozen=True, tag=True):
    """Last rung."""


class AwaitMemory(Struct, frozen=True, tag=True):
    """After `delay_s`, poll until the memory for `target` is there (Reclaimed)."""

    epoch: int
    target: str | None
    delay_s: float = 0.0


class Spawn(Struct, frozen=True, tag=True):
    """Start the worker of `epoch`."""

    epoch: int
    model: str


class SendLoad(Struct, frozen=True, tag=True):
    """Have the worker load `model`."""

    model: str


class SendWarm(Struct, frozen=True, tag=True):
    """Have the worker compute one token."""


class SwapDone(Struct, frozen=True, tag=True):
    """The swap succeeded; `marks` time its phases."""

    plan: SwapPlan
    came_from: str | None
    marks: tuple[Mark, ...]
    at: float


class SwapFailed(Struct, frozen=True, tag=True):
    """The swap did not happen; `back_to` is what serves instead, if anything."""

    plan: SwapPlan
    fault: Fault
    back_to: str | None


class ReleaseSeat(Struct, frozen=True, tag=True):
    """No worker has weights any more: give the machine-wide lock back."""


class Exit(Struct, frozen=True, tag=True):
    """The seat is empty and the daemon may end."""


SeatEffect = (
    StopAdmission
    | ResumeAdmission
    | SuspendRunning
    | CancelRunning
    | LoseRunning
    | SendCheckpoint
    | AskStop
    | SendUnload
    | SendReseat
    | DumpStacks
    | SendTerm
    | SendKill
    | AwaitMemory
    | Spawn
    | SendLoad
    | SendWarm
    | SwapDone
    | SwapFailed
    | ReleaseSeat
    | Exit
)
