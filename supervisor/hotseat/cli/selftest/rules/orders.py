"""What the processes without mlx are asked, one line of stdin each. Measures nothing."""

from typing import Final

import msgspec
from msgspec import Struct


class LookBack(Struct, frozen=True, kw_only=True, tag=True):
    """How the newest earlier run of this folder ended. `own`: the file of this run."""

    folder: str
    own: str


class DescribeMachine(Struct, frozen=True, kw_only=True, tag=True):
    """What this machine and this installation are. `folder`: where the run keeps its files."""

    folder: str


class CountCrashReports(Struct, frozen=True, kw_only=True, tag=True):
    """Reports of crashes that name Python, since the run began and in the week before."""

    began_at: float


class ReadMemory(Struct, frozen=True, kw_only=True, tag=True):
    """Memory of the machine by every count there is."""


class WatchFootprint(Struct, frozen=True, kw_only=True, tag=True):
    """The footprint of a process with mlx before, while and after it holds so much."""

    size_bytes: int


class CommitRows(Struct, frozen=True, kw_only=True, tag=True):
    """Commits to a catalogue in this folder."""

    folder: str
    count: int


class Stage(Struct, frozen=True, kw_only=True):
    """Where a daemon of its own finds its home, its lock and its models."""

    home: str
    seat_lock: str
    model: str
    other: str
    standby: bool = True


class CountRoundTrips(Struct, frozen=True, kw_only=True, tag=True):
    """Requests that are answered at once."""

    stage: Stage
    count: int


class KillIdle(Struct, frozen=True, kw_only=True, tag=True):
    """A worker's start; its kill, so often; the kill of its daemon."""

    stage: Stage
    count: int


class KillBusy(Struct, frozen=True, kw_only=True, tag=True):
    """A worker is killed in the middle of an answer, so often."""

    stage: Stage
    count: int
    new_tokens: int


class Rest(Struct, frozen=True, kw_only=True, tag=True):
    """Requests after so long a rest each."""

    stage: Stage
    rests_s: tuple[float, ...]


class SwapAround(Struct, frozen=True, kw_only=True, tag=True):
    """Swaps to and fro by processes, then one pair in place; memory so long after each."""

    stage: Stage
    count: int
    looks_s: tuple[float, ...]


class CompareTokens(Struct, frozen=True, kw_only=True, tag=True):
    """Greedy tokens of one prompt: alone, restored, after a swap, beside others, by chunk."""

    stage: Stage
    new_tokens: int
    words: int
    neighbours: tuple[int, ...]
    chunks_tokens: tuple[int, ...]


class ReachLimits(Struct, frozen=True, kw_only=True, tag=True):
    """The most that a long prompt takes, beside what was forecast."""

    stage: Stage
    words: int


class LoseGpu(Struct, frozen=True, kw_only=True, tag=True):
    """An error of the GPU in the middle of an answer."""

    stage: Stage
    new_tokens: int


class Churn(Struct, frozen=True, kw_only=True, tag=True):
    """Two streams of mixed lengths, with little room for contexts on disk."""

    stage: Stage
    seconds: float


MeasureOrder = (
    LookBack
    | DescribeMachine
    | CountCrashReports
    | ReadMemory
    | WatchFootprint
    | CommitRows
    | CountRoundTrips
    | KillIdle
    | KillBusy
    | Rest
    | SwapAround
    | CompareTokens
    | ReachLimits
    | LoseGpu
    | Churn
)
MEASURE_ORDER: Final = msgspec.json.Decoder(MeasureOrder)
