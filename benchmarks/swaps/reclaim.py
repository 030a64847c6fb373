"""What comes back when a model leaves the seat, in the daemon, after it has generated.

`python -m benchmarks reclaim` takes some minutes; each round is a line of the result file at once,
and --resume goes on with it.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from msgspec import Struct

from benchmarks.homes import OTHER, Talk, daemon_with, ids
from benchmarks.measure import (
    GIB,
    MIB,
    SPARED_BYTES,
    Arm,
    Verdict,
    base_parser,
    conclude,
    console,
    print_arms,
    touch_memory,
)
from benchmarks.random_models import random_model
from benchmarks.raw_lines import RESULTS, append_line, read_lines
from benchmarks.swaps.looks import Look, Watch, workers_bytes

TARGET = 0.99
SIZES_MB = (500, 1000, 2000, 4000)
QUICK_SIZES_MB, QUICK_N = (500, 1000), 3
MODES = ("process", "in-process")
PROMPT_TOKENS = 128
MADE_TOKENS = 24
ABOUT = f"""\
A tiny model has the seat; a random one takes it, answers a prompt of {PROMPT_TOKENS} tokens with
{MADE_TOKENS} and goes for the tiny one again, which ends its worker or unloads it inside the same
one. No standby. Anonymous memory of all workers, by the system's count: before, after the answer,
and after the swap away.
  returned: share of what load and answer took that is with the system again.
  back: from the order to swap until {TARGET:.0%} of it were back, saving the context included."""


class Round(Struct, frozen=True, kw_only=True):
    """One model there and away again; bytes that all workers held, seconds of the swap away.

    `back_s` is None where it did not come back.
    """

    mode: str
    size_mb: int
    number: int
    weights_bytes: int
    before_bytes: int
    generated_bytes: int
    after_bytes: int
    back_s: float | None
    swap_s: float

    @property
    def returned(self) -> float:
        """Share of what load and answer took that is with the system again."""
        return (self.generated_bytes - self.after_bytes) / self.taken_bytes

    @property
    def taken_bytes(self) -> int:
        """What the model took with its context and all that computing needs."""
        return self.generated_bytes - self.before_bytes

    @property
    def cell(self) -> str:
        """Size and mode, as they are printed."""
        return f"{self.size_mb / 1000:g} GB, {self.mode}"


def main(arguments: Sequence[str] = ()) -> int:
    """Prints share, bytes and time by size and mode."""
    parser = base_parser("reclaim", __doc__, n=10)
    parser.add_argument("--sizes-mb", type=int, nargs="+", default=SIZES_MB)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--out", type=Path, help="result file (JSON lines)")
    parser.add_argument("--resume", action="store_true", help="go on with the result file")
    parser.add_argument("--quick", action="store_true", help="three rounds of two sizes")
    options = parser.parse_args(arguments)
    if options.quick:
        options.sizes_mb, options.n = QUICK_SIZES_MB, QUICK_N
    out = options.out or RESULTS / f"reclaim{'-quick' if options.quick else ''}.jsonl"
    console.print(ABOUT)
    done = read_lines(out, Round) if options.resume else []
    todo = planned(options.sizes_mb, options.modes, options.n, done)
    if todo:
        if not options.resume:
            out.unlink(missing_ok=True)
        done += _make(options.cache, todo, out)
    return judge(done)


def planned(
    sizes_mb: Sequence[int], modes: Sequence[str], n: int, done: Sequence[Round]
) -> dict[tuple[int, str], list[int]]:
    """Numbers of the rounds that are still to be made, by size and mode."""
    made = {(one.size_mb, one.mode, one.number) for one in done}
    todo = {
        (size, mode): [number for number in range(n) if (size, mode, number) not in made]
        for size in sizes_mb
        for mode in modes
    }
    return {cell: numbers for cell, numbers in todo.items() if numbers}


def _make(cache: Path, todo: dict[tuple[int, str], list[int]], out: Path) -> list[Round]:
    """The rounds, each one in the file as soon as it is over."""
    made: list[Round] = []
    sizes = sorted({size for size, _ in todo})
    fitting = [size for size in sizes if _has_room(size)]
    if not fitting:
        return made
    touch_memory(2 * max(fitting) * 1_000_000)
    for (size, mode), numbers in todo.items():
        if size in fitting:
            for one in rounds_of(random_model(cache, size, 0), size, mode, numbers):
                append_line(out, one)
                made.append(one)
    return made


def _has_room(size_mb: int) -> bool:
    needed = size_mb * 1_000_000 + SPARED_BYTES
    available = int(psutil.virtual_memory().available)
    if available < needed:
        console.print(
            f"{size_mb / 1000:g} GB left out: {needed / GIB:.1f} GiB needed with"
            f" {SPARED_BYTES / GIB:.0f} GiB to spare, {available / GIB:.1f} GiB available"
        )
    return available >= needed


def rounds_of(folder: Path, size_mb: int, mode: str, numbers: Sequence[int]) -> Iterator[Round]:
    """The rounds of one size in one mode, on one daemon."""
    with _seated(folder) as (daemon, client, watch):
        weights = next(view.weights_bytes for view in client.models() if view.name == folder.name)
        for number in numbers:
            before = workers_bytes(daemon)
            client.swap(folder.name, mode=mode)
            Talk(client, folder.name, f"agent-{number}").turn(
                ids(PROMPT_TOKENS, number), MADE_TOKENS
            )
            generated = workers_bytes(daemon)
            start = time.monotonic()
            report = client.swap(OTHER, mode=mode)
            assert report.mode == mode, report
            yield Round(
                mode=mode,
                size_mb=size_mb,
                number=number,
                weights_bytes=weights,
                before_bytes=before,
                generated_bytes=generated,
                after_bytes=workers_bytes(daemon),
                back_s=back_after(watch.looks, start, before, generated),
                swap_s=report.total_s,
            )


@contextmanager
def _seated(folder: Path) -> Iterator[tuple[Any, Any, Watch]]:
    """Daemon, client and watch; the tiny model has the seat, the other one had it once."""
    daemon = daemon_with([folder], tiny=[(OTHER, "llama")], standby=False)
    with daemon, daemon.client() as client, Watch(daemon.process.pid) as watch:
        for name in (OTHER, folder.name, OTHER):
            client.swap(name)
        yield daemon, client, watch


def back_after(looks: Sequence[Look], start: float, before: int, generated: int) -> float | None:
    """Seconds until the workers held next to nothing of what had been taken; None if never."""
    enough = generated - TARGET * (generated - before)
    return next(
        (look.at - start for look in looks if look.at >= start and sum(look.held) <= enough),
        None,
    )


def judge(done: Sequence[Round]) -> int:
    """Tables and verdicts of all rounds; the exit code, 2 where there are none."""
    if not done:
        console.print("nothing was measured")
        return 2
    cells: dict[str, list[Round]] = {}
    for one in sorted(done, key=lambda one: (one.size_mb, MODES.index(one.mode))):
        cells.setdefault(one.cell, []).append(one)
    for title, unit, figure in (
        ("share of the memory returned by a swap away", "", lambda one: one.returned),
        ("memory taken: weights, context, computing", "MiB", lambda one: one.taken_bytes / MIB),
        ("what is left of it", "MiB", lambda one: (one.after_bytes - one.before_bytes) / MIB),
    ):
        print_arms(
            title, [Arm(name, unit, [figure(one) for one in own]) for name, own in cells.items()]
        )
    print_arms(
        "from the order to swap until it is back",
        [
            Arm(name, "s", [one.back_s for one in own if one.back_s is not None])
            for name, own in cells.items()
        ],
    )
    return conclude(
        *(
            Verdict(f"least returned, {name}", min(one.returned for one in own), TARGET, ">=")
            for name, own in cells.items()
        ),
        *(
            Verdict(
                f"least taken over weights, {name}",
                min(one.taken_bytes / one.weights_bytes for one in own),
                TARGET,
                ">=",
            )
            for name, own in cells.items()
        ),
    )
