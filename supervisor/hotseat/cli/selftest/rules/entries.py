"""The entries of a run: what each measures, what is expected, which processes are asked.

Must not know how a process measures or how an answer is judged.
"""

from typing import Final

from msgspec import Struct

from hotseat.cli.selftest.rules import orders as o
from hotseat.cli.selftest.rules.scales import Scale
from hotseat.protocol.selftest import (
    CompareSlots,
    DecodeBare,
    DecodeEngine,
    LibraryOrder,
    MakeModels,
    StoreFile,
    SyncFiles,
    WarmKernels,
)

MODELS: Final = "models"
CHOSEN: Final = "chosen"
"""The name of a model that is no small random one."""
SMALL: Final = ("small", "small-b")
_FACTOR: Final = 2
"""What an entry waits for by design it may take twice."""

Order = LibraryOrder | o.MeasureOrder


class Entry(Struct, frozen=True, kw_only=True):
    """A line of the table. Its processes run one after the other within `limit_s`."""

    name: str
    measures: str
    expected: str
    orders: tuple[Order, ...]
    limit_s: float
    needs_models: bool = False


class Places(Struct, frozen=True, kw_only=True):
    """Folders of a run and what it runs with. `source`: a model that exists already."""

    base: str
    folder: str
    own_file: str
    began_at: float
    source: str = ""
    adapter: str = ""
    standby: bool = True

    @property
    def stage(self) -> o.Stage:
        """Where the run's own daemons live."""
        first, second = (CHOSEN, SMALL[0]) if self.source else SMALL
        lock = f"{self.base}/seat.lock"
        return o.Stage(
            home=f"{self.base}/h",
            seat_lock=lock,
            model=first,
            other=second,
            standby=self.standby,
        )

    @property
    def model(self) -> str:
        """Folder of the registered model."""
        return f"{self.stage.home}/models/{self.stage.model}"


def plan_entries(scale: Scale, places: Places) -> tuple[Entry, ...]:
    """In the order in which they run: what may end the machine comes last."""
    if scale.soak_s:
        return (*_before(scale, places), _churn(scale, places), _crash_reports(scale, places))
    return (
        *_before(scale, places),
        *_machine_parts(scale, places),
        *_engine_parts(scale, places),
        *_daemon_parts(scale, places),
        *_endings(scale, places),
        _crash_reports(scale, places),
    )


def _before(scale: Scale, places: Places) -> tuple[Entry, ...]:
    models = MakeModels(
        home=places.stage.home,
        names=SMALL,
        source=places.source,
        adapter=places.adapter,
        chosen=CHOSEN,
    )
    return (
        Entry(
            name="last run",
            measures="how the newest earlier run that wrote into this folder ended",
            expected="it came to its end, and the machine did not start anew meanwhile",
            orders=(o.LookBack(folder=places.folder, own=places.own_file),),
            limit_s=scale.limit_s,
        ),
        Entry(
            name="machine",
            measures="what this machine is and what is installed",
            expected="a native Python; program and home outside of folders that macOS protects",
            orders=(o.DescribeMachine(folder=places.base),),
            limit_s=scale.limit_s,
        ),
        Entry(
            name=MODELS,
            measures="writing two small random models and registering what the run needs",
            expected="it works without a network",
            orders=(models,),
            limit_s=scale.limit_s,
        ),
    )


def _machine_parts(scale: Scale, places: Places) -> tuple[Entry, ...]:
    return (
        Entry(
            name="memory",
            measures="memory of the machine by our count, by class and by psutil",
            expected="available lies between nothing and all; on Linux it is what psutil says",
            orders=(o.ReadMemory(),),
            limit_s=scale.limit_s,
        ),
        Entry(
            name="footprint",
            measures="the footprint of a process before, while and after MLX holds memory",
            expected="it grows by what is held within 5 percent, and shrinks again",
            orders=(o.WatchFootprint(size_bytes=scale.touch_bytes),),
            limit_s=scale.limit_s,
        ),
        Entry(
            name="syncs",
            measures="4 KiB written and synced, file and folder, each way; links",
            expected="at most 30 ms in the middle for what reaches the drive",
            orders=(SyncFiles(folder=places.base, count=scale.syncs),),
            limit_s=scale.limit_s,
        ),
        Entry(
            name="store",
            measures="a file of stored context written and read by the worker's own code",
            expected="equal bytes; 100 MiB a second written, 200 read",
            orders=(StoreFile(folder=f"{places.base}/kv", size_bytes=scale.store_bytes, count=3),),
            limit_s=scale.limit_s,
        ),
        Entry(
            name="commits",
            measures="commits to a catalogue with the daemon's settings of SQLite",
            expected="at most 80 ms in the middle",
            orders=(o.CommitRows(folder=f"{places.base}/catalogue", count=scale.commits),),
            limit_s=scale.limit_s,
        ),
    )


def _engine_parts(scale: Scale, places: Places) -> tuple[Entry, ...]:
    model, kv_dir = places.model, f"{places.base}/kv"
    bare = DecodeBare(model=model, prompt_tokens=scale.prompt_tokens, new_tokens=scale.new_tokens)
    engine = DecodeEngine(
        model=model,
        kv_dir=kv_dir,
        prompt_tokens=scale.prompt_tokens,
        new_tokens=scale.new_tokens,
        rows=scale.rows,
    )
    pairs = [(bare, engine) if number % 2 else (engine, bare) for number in range(scale.pairs)]
    chunks = [
        DecodeEngine(
            model=model,
            kv_dir=kv_dir,
            prompt_tokens=scale.prompt_tokens,
            new_tokens=1,
            rows=(1,),
            chunk=chunk,
        )
        for chunk in scale.chunks_tokens
    ]
    return (
        Entry(
            name="kernels",
            measures="a fresh process to its first and second token and chunk",
            expected="first token and first chunk within 2 s each",
            orders=(WarmKernels(model=model),) * scale.fresh_starts,
            limit_s=scale.limit_s,
            needs_models=True,
        ),
        Entry(
            name="slots",
            measures="a layer with some experts in memory, called in shapes of decode and prompts",
            expected="the bits that all experts make",
            orders=(CompareSlots(folder=f"{places.base}/slots"),),
            limit_s=scale.limit_s,
        ),
        Entry(
            name="speed",
            measures="decode and prefill of the engine beside mlx_lm, in turns; CPU time a token",
            expected="decode at 0.9, prefill at 0.8 of mlx_lm or better",
            orders=(*(order for pair in pairs for order in pair), *chunks),
            limit_s=scale.limit_s,
            needs_models=True,
        ),
    )


def _daemon_parts(scale: Scale, places: Places) -> tuple[Entry, ...]:
    stage = places.stage
    return (
        Entry(
            name="round trips",
            measures="requests to a daemon that are answered at once",
            expected="at most 5 ms in the middle, 50 ms nearly always",
            orders=(o.CountRoundTrips(stage=stage, count=scale.round_trips),),
            limit_s=scale.limit_s,
            needs_models=True,
        ),
        Entry(
            name="rest",
            measures="first token and first 32 tokens after rests of several lengths",
            expected="the first token at most twice as late as without a rest, and 100 ms",
            orders=(o.Rest(stage=stage, rests_s=scale.rests_s),),
            limit_s=scale.limit_s + _FACTOR * sum(scale.rests_s),
            needs_models=True,
        ),
        Entry(
            name="memory limits",
            measures="the most memory that a long prompt takes, beside the forecast",
            expected="no more than was forecast",
            orders=(o.ReachLimits(stage=stage, words=scale.long_words),),
            limit_s=scale.limit_s,
            needs_models=True,
        ),
        Entry(
            name="exactness",
            measures="greedy tokens alone, restored, after a swap, beside others, by chunk",
            expected="equal tokens alone and restored; beside others and by chunk only measured",
            orders=(
                o.CompareTokens(
                    stage=stage,
                    new_tokens=scale.exact_tokens,
                    words=scale.prompt_tokens // 2,
                    neighbours=scale.neighbours,
                    chunks_tokens=scale.chunks_tokens,
                ),
            ),
            limit_s=scale.limit_s,
            needs_models=True,
        ),
        Entry(
            name="swaps",
            measures="swaps to and fro, by processes and in place, and memory after each",
            expected="all succeed; 3 s at most beside loading; nothing stays wired",
            orders=(o.SwapAround(stage=stage, count=scale.swaps, looks_s=scale.looks_s),),
            limit_s=scale.limit_s + _FACTOR * 2 * (scale.swaps + 1) * sum(scale.looks_s),
            needs_models=True,
        ),
    )


def _endings(scale: Scale, places: Places) -> tuple[Entry, ...]:
    stage = places.stage
    return (
        Entry(
            name="kills",
            measures="a worker killed in the middle of an answer",
            expected="the answer goes on with the same tokens, and memory comes back",
            orders=(
                o.KillBusy(stage=stage, count=scale.worker_kills, new_tokens=scale.new_tokens),
            ),
            limit_s=scale.limit_s,
            needs_models=True,
        ),
        Entry(
            name="processes",
            measures="a worker's start, the notice of its death, its end without a daemon",
            expected="death noticed within 100 ms; gone within 2 s, 12 s at most, of the daemon",
            orders=(o.KillIdle(stage=stage, count=scale.kills),),
            limit_s=scale.limit_s,
            needs_models=True,
        ),
        Entry(
            name="gpu error",
            measures="an error of the GPU in the middle of an answer",
            expected="another worker finishes the answer with the same tokens",
            orders=(o.LoseGpu(stage=stage, new_tokens=scale.new_tokens),),
            limit_s=scale.limit_s,
            needs_models=True,
        ),
    )


def _churn(scale: Scale, places: Places) -> Entry:
    return Entry(
        name="churn",
        measures="two streams of mixed lengths with eviction, for long",
        expected="no request fails, and the machine is still there",
        orders=(o.Churn(stage=places.stage, seconds=scale.soak_s),),
        limit_s=scale.limit_s + scale.soak_s,
        needs_models=True,
    )


def _crash_reports(scale: Scale, places: Places) -> Entry:
    return Entry(
        name="crash reports",
        measures="reports of panics, crashes and memory ends that name Python",
        expected="none since the run began",
        orders=(o.CountCrashReports(began_at=places.began_at),),
        limit_s=scale.limit_s,
    )
