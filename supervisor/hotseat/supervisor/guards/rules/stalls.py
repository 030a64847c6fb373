"""When a living worker counts as stuck: two clocks and budgets that follow the work. Pure.

The beat clock runs while nothing at all is heard: the process is frozen. The progress clock runs
while work is expected and nothing gets further: the compute loop is stuck although the process
beats. Both count only time in which this process looked, so that a machine that slept, or a tree of
processes that was stopped and goes on, blames nobody.
"""

from typing import Final, Literal, assert_never

from msgspec import Struct

from hotseat.protocol.limits import REST_BEAT_S
from hotseat.supervisor.guards.rules.pressure import Level
from hotseat.supervisor.settings.values import StallSettings

LOOK_S: Final = 1.0
"""The most that passes between two looks while this process runs; a longer time was sleep."""
REST_LOOK_S: Final = 2.0
"""The same while nothing is expected of the worker: then looks are about a second apart."""
CRITICAL_PACE: Final = 1 / 3
"""Of time while the system itself calls memory critical: it may page threads out for a minute. Not
none at all, since a worker that hangs may be what fills it."""
Task = Literal["nothing", "load", "warm", "try", "restore", "prefill", "decode", "write"]


class DueWork(Struct, frozen=True, kw_only=True):
    """What the worker has to do before it can be heard to advance: bytes or tokens."""

    task: Task = "nothing"
    amount: int = 0
    reads_bytes: int = 0
    """Weights that are read from the disk meanwhile, of a model that is not whole in memory."""


class Signs(Struct, frozen=True, kw_only=True):
    """Signs of life as counted so far: any change of `heard` is life, of `progress` an advance."""

    epoch: int = 0
    heard: int = 0
    progress: tuple[int, ...] = ()
    expected: tuple[DueWork, ...] = ()
    os_level: int | None = None
    """How short memory is, as the system says; None where it has no such level."""


class Clocks(Struct, frozen=True, kw_only=True):
    """How long both have stood still, in time that was watched."""

    signs: Signs = Signs()
    at: float = 0.0
    silent_s: float = 0.0
    still_s: float = 0.0


class Stall(Struct, frozen=True, kw_only=True):
    """A worker that is stuck. `kind`: "silent" (frozen) or "still" (it beats)."""

    kind: Literal["silent", "still"]
    task: Task
    waited_s: float
    budget_s: float

    @property
    def text(self) -> str:
        """One sentence for a person."""
        beats = "is silent" if self.kind == "silent" else "beats but gets no further"
        doing = "" if self.task == "nothing" else f" ({self.task})"
        setting = "silent_s" if self.kind == "silent" else "quiet_s, token_s or the floors"
        return (
            f"the worker{doing} {beats} for {self.waited_s:.1f} s, {self.budget_s:.1f} s allowed; "
            f"its stacks are in the log; raise {setting} of [stalls] if it was only slow"
        )


def budget_s(expected: DueWork, settings: StallSettings) -> float:
    """The longest an honest worker may take for this without a sign of progress."""
    reading_s = expected.reads_bytes / settings.load_floor_bytes
    match expected.task:
        case "nothing" | "warm" | "try" | "load" | "restore" | "write":
            return settings.quiet_s + expected.amount / settings.load_floor_bytes
        case "prefill":
            return settings.quiet_s + expected.amount / settings.prefill_floor_tokens + reading_s
        case "decode":
            return settings.token_s + reading_s
        case _:
            assert_never(expected.task)


def look(clocks: Clocks, signs: Signs, now: float) -> Clocks:
    """The clocks after a look; both start anew with another worker."""
    if signs.epoch != clocks.signs.epoch:
        return Clocks(signs=signs, at=now)
    longest_s = LOOK_S if clocks.signs.expected else REST_LOOK_S
    passed_s = now - clocks.at if now - clocks.at <= longest_s else 0.0
    if signs.os_level == Level.CRITICAL:
        passed_s *= CRITICAL_PACE
    heard = signs.heard != clocks.signs.heard
    # A worker at rest beats slowly: what it is asked for now finds it with its whole time.
    begins = bool(signs.expected) and not clocks.signs.expected
    is_idle = not signs.expected or not clocks.signs.expected
    advanced = signs.progress != clocks.signs.progress
    return Clocks(
        signs=signs,
        at=now,
        silent_s=0.0 if heard or begins else clocks.silent_s + passed_s,
        still_s=0.0 if advanced or is_idle else clocks.still_s + passed_s,
    )


def stalled(clocks: Clocks, settings: StallSettings, platform: str) -> Stall | None:
    """The stall that the clocks tell of on such a system, if there is one."""
    expected = clocks.signs.expected
    # One step may do a piece of each: the longest budget counts.
    budgets = [(budget_s(entry, settings), entry.task) for entry in expected]
    allowed_s, task = max(budgets, default=(0.0, "nothing"))
    silence_s = settings.silence_s(platform) + (0.0 if expected else REST_BEAT_S)
    if clocks.silent_s > silence_s:
        return Stall(kind="silent", task=task, waited_s=clocks.silent_s, budget_s=silence_s)
    if expected and clocks.still_s > allowed_s:
        return Stall(kind="still", task=task, waited_s=clocks.still_s, budget_s=allowed_s)
    return None
