"""A model or a context larger than its memory: read as it is needed, and what the OS does of it.

Linux and root. Every arm is a process in a control group: the whole model without a limit; under a
limit of 0.6 of it plain mlx-lm with and without swap, plain mlx-lm whose weights are pages of their
files, and hotseat's streaming without swap. The same tokens, arms in turns, the logits of all calls
compared.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.table import Table

from benchmarks.measure import MIB, Verdict, base_parser, conclude, console, drop_pages
from benchmarks.peers.versus import use_blas
from benchmarks.proof.beyond_context import ContextTask
from benchmarks.proof.beyond_figures import WAYS, Outcome, row_of, verdicts, with_whole
from benchmarks.proof.beyond_steps import Steps, Task
from benchmarks.proof.context_models import BYTES, context_model
from benchmarks.proof.dense_models import dense_model
from benchmarks.proof.ground import Ground, made, usable_place
from benchmarks.proof.groups import RefusedError
from benchmarks.random_models import experts_model, weights_bytes
from benchmarks.raw_lines import RESULTS, append_line, read_lines

RATIO = 0.6
DENSE_MB, EXPERTS_MB = 1400, 2400
LONGEST_S = 600.0
FAMILIES: dict[str, Task | ContextTask] = {
    "dense": Task(
        folder="", kind="whole", limit_bytes=0, rows=1, prompt=8, warm=2, cycles=4, counted=2
    ),
    "experts": Task(
        folder="", kind="whole", limit_bytes=0, rows=1, prompt=48, warm=16, cycles=6, counted=8
    ),
    "context": ContextTask(
        folder="", kind="whole", limit_bytes=0, warm=2, cycles=4, counted=2, chunk=64
    ),
}
QUICK_CYCLES = 2


class Subject(Struct, frozen=True, kw_only=True):
    """A model, its limit in bytes, and what every arm computes with it."""

    family: str
    size_bytes: int
    task: Task | ContextTask

    @property
    def limit_bytes(self) -> int:
        """Of memory, where an arm has a limit."""
        return int(RATIO * self.size_bytes)


def main(arguments: Sequence[str] = ()) -> int:
    """Prints a table and the figures of each model; 2 where the machine cannot do it."""
    parser = base_parser("beyond", __doc__, n=5)
    parser.add_argument("--only", choices=list(FAMILIES), help="one of the three")
    every = dict.fromkeys(arm for ways in WAYS.values() for arm in ways)
    parser.add_argument(
        "--arms",
        nargs="+",
        choices=list(every),
        default=list(every),
        metavar="ARM",
        help=f"of {', '.join(map(repr, every))}; whole models to compare them with are added",
    )
    parser.add_argument("--quick", action="store_true", help="one run an arm, fewer steps")
    parser.add_argument("--blas", default="auto", help="auto (OpenBLAS), bundled, PATH")
    parser.add_argument("--out", type=Path, help="result file (JSON lines)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with a file made with the same options"
    )
    options = parser.parse_args(arguments)
    try:
        usable_place(sys.platform, os.geteuid())  # before models are made for minutes
        subjects = [_subject(options, name) for name in _families(options)]
        outcomes = _make(options, subjects)
    except RefusedError as error:
        console.print(f"not here: {error}", soft_wrap=True)
        return 2
    found: list[Verdict] = []
    for subject in subjects:
        of_it = [outcome for outcome in outcomes if outcome.family == subject.family]
        _print(subject, of_it)
        found += verdicts(subject.family, of_it)
    return conclude(*found)


def _families(options: argparse.Namespace) -> list[str]:
    """Those that are wanted and have one of the arms."""
    wanted = [options.only] if options.only else list(FAMILIES)
    return [family for family in wanted if with_whole(family, options.arms)]


def _subject(options: argparse.Namespace, family: str) -> Subject:
    if family == "dense":
        folder = dense_model(options.cache, DENSE_MB, 1)
    elif family == "experts":
        folder = experts_model(options.cache, EXPERTS_MB, 1)
    else:
        folder = context_model(options.cache)
    size = BYTES if family == "context" else weights_bytes(folder)
    task = msgspec.structs.replace(FAMILIES[family], folder=str(folder))
    if options.quick:
        task = msgspec.structs.replace(task, cycles=QUICK_CYCLES)
    return Subject(family=family, size_bytes=size, task=task)


def _make(options: argparse.Namespace, subjects: Sequence[Subject]) -> list[Outcome]:
    """Every arm of every model in turns, each one in the file as soon as it is over."""
    use_blas(options.blas)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    console.print(f"load of the machine in the last 1, 5 and 15 minutes: {load}")
    out = options.out or RESULTS / f"beyond{'-quick' if options.quick else ''}.jsonl"
    finished = read_lines(out, Outcome) if options.resume else []
    done = {(one.family, one.arm, one.number) for one in finished}
    sizes = [subject.size_bytes for subject in subjects]
    with made(options.cache, ["kept"], [max(sizes)], [0.0]) as ground:
        if not options.resume:
            out.unlink(missing_ok=True)
        for subject, number, arm in _todo(options, subjects):
            if (subject.family, arm, number) not in done:
                finished.append(_run(ground, subject, number, arm))
                append_line(out, finished[-1])
                _tell(finished[-1])
    return finished


def _todo(
    options: argparse.Namespace, subjects: Sequence[Subject]
) -> Iterator[tuple[Subject, int, str]]:
    """Model, turn and arm of every run."""
    for subject in subjects:
        for number in range(1 if options.quick else options.n):
            for arm in with_whole(subject.family, options.arms):
                yield subject, number, arm


def _run(ground: Ground, subject: Subject, number: int, arm: str) -> Outcome:
    """One arm in a process in the group, none of the model's pages being in memory before."""
    way = WAYS[subject.family][arm]
    limit = subject.limit_bytes if way.is_limited else 0
    task = msgspec.structs.replace(subject.task, kind=way.kind, rows=way.rows, limit_bytes=limit)
    drop_pages(Path(task.folder))
    group = ground.group
    group.limit(limit or None, ground.swap_bytes if way.has_swap else 0)
    module = "beyond_context" if isinstance(task, ContextTask) else "beyond_steps"
    command = [sys.executable, "-m", f"benchmarks.proof.{module}"]
    words, steps = "completed", None
    try:
        with ground.readahead.at(way.readahead_kb):
            ended = subprocess.run(
                group.inside([*command, msgspec.json.encode(task).decode()]),
                check=False,
                capture_output=True,
                text=True,
                timeout=LONGEST_S,
            )
        if ended.returncode == 0:
            steps = msgspec.json.decode(ended.stdout, type=Steps)
        else:
            words = f"ended with {ended.returncode}: {ended.stderr.strip()[-300:]}".strip(": ")
    except subprocess.TimeoutExpired:
        words = f"not done after {LONGEST_S:.0f} s"
    group.empty()
    group.limit(None, 0)
    return Outcome(family=subject.family, arm=arm, number=number, words=words, steps=steps)


def _print(subject: Subject, outcomes: Sequence[Outcome]) -> None:
    size = subject.size_bytes
    table = Table(
        title=f"{subject.family}: {size / MIB:.0f} MiB of float32, a limit of"
        f" {subject.limit_bytes / MIB:.0f} MiB; medians of the runs",
        title_justify="left",
        title_style="bold",
    )
    for name in ("arm", "done", "a step", "prompt", "load", "peak", "plan", "read", "GB/s", "hits"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for arm in WAYS[subject.family]:
        if of_it := [outcome for outcome in outcomes if outcome.arm == arm]:
            table.add_row(arm, *row_of(of_it))
    console.print(table)
    for words in sorted({f"{one.arm}: {one.steps.words}" for one in outcomes if one.steps}):
        console.print(words, soft_wrap=True)


def _tell(outcome: Outcome) -> None:
    took = f"; {outcome.step_ms:.0f} ms a step" if outcome.steps else ""
    console.print(
        f"{outcome.family}, {outcome.arm} (run {outcome.number + 1}): {outcome.words}{took}",
        soft_wrap=True,
    )
