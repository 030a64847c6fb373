"""Control against chaos: three agents, three models, one byte limit; every arm really runs.

Linux and root. `python -m benchmarks chaos --quick` takes five minutes; the printed table wants
--n 10 and hours. Every run is a line of the result file at once; --resume goes on with it.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import GIB, base_parser, conclude, console
from benchmarks.peers.versus import use_blas
from benchmarks.proof.arms import WAYS
from benchmarks.proof.course import CALM_S, FIRST_TOKENS, MADE_TOKENS, Script, run
from benchmarks.proof.dense_models import dense_model
from benchmarks.proof.ground import FIXED_BYTES, made, usable_place
from benchmarks.proof.groups import RefusedError
from benchmarks.proof.page import page
from benchmarks.proof.results import Planned, Run, begun_in_time, planned, read_runs
from benchmarks.proof.tables import print_rows, rows_of, verdicts
from benchmarks.random_models import weights_bytes
from benchmarks.raw_lines import RESULTS, append_line

RATIO = 1.25
AGENTS = 3
REAL_MB = 1072
"""Of Gemma 3 270M in float32, the larger one of the pair."""
QUICK_MB, QUICK_ROUNDS, QUICK_LIMIT_S = 500, 2, 150.0
QUICK_S = 285.0
"""No run begins that would end later: with the BLAS that mlx brings not all of them fit."""
QUICK_FIRST_TOKENS, QUICK_MADE_TOKENS, QUICK_CALM_S = 64, 8, 1.0


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the tables and the verdicts; 2 where the machine cannot do it."""
    options = parser("chaos", __doc__, n=10).parse_args(arguments)
    return experiment(options, "chaos", (RATIO,))


def parser(name: str, about: str | None, *, n: int) -> argparse.ArgumentParser:
    """The options of both experiments."""
    made_parser = base_parser(name, about, n=n)
    made_parser.add_argument("--gb", type=float, default=1.0, help="size of each model, 10^9 bytes")
    made_parser.add_argument("--blas", default="auto", help="auto (OpenBLAS), bundled, PATH")
    made_parser.add_argument("--rounds", type=int, default=4, help="turns of each agent")
    made_parser.add_argument("--limit-s", type=float, default=900.0, help="a run's longest time")
    made_parser.add_argument("--arms", nargs="+", choices=list(WAYS), default=list(WAYS))
    made_parser.add_argument("--out", type=Path, help="result file (JSON lines)")
    made_parser.add_argument("--page", type=Path, help="draw the result file as an HTML page")
    made_parser.add_argument("--resume", action="store_true", help="go on with the result file")
    made_parser.add_argument(
        "--real", action="store_true", help="SmolLM2 135M and Gemma 3 270M in float32, two agents"
    )
    made_parser.add_argument(
        "--quick", action="store_true", help="one run an arm, 0.5 GB, two rounds: five minutes"
    )
    return made_parser


def experiment(options: argparse.Namespace, name: str, ratios: Sequence[float]) -> int:
    """Makes what is still to be made of an experiment, and prints all of it."""
    kind = ("-real" if options.real else "") + ("-quick" if options.quick else "")
    out = options.out or RESULTS / f"{name}{kind}.jsonl"
    size_mb = REAL_MB if options.real else QUICK_MB if options.quick else round(options.gb * 1000)
    rounds = QUICK_ROUNDS if options.quick else options.rounds
    done = read_runs(out, size_mb, rounds) if options.resume else []
    todo = planned(options.arms, ratios, 1 if options.quick else options.n, done)
    try:
        if todo:
            usable_place(sys.platform, os.geteuid())  # before models are made for minutes
            done += _make(options, _script(options, size_mb, rounds), todo, out)
    except RefusedError as error:
        console.print(f"not here: {error}", soft_wrap=True)
        return 2
    rows = rows_of(done)
    print_rows(f"change of the model to the first token ({out})", rows)
    if options.page:
        options.page.write_text(page(done), encoding="utf-8")
    return conclude(*verdicts(rows)) if len(ratios) == 1 else 0


def _script(options: argparse.Namespace, size_mb: int, rounds: int) -> Script:
    if options.real:
        from benchmarks.real_models import real_pair

        folders = real_pair(options.cache)
    else:
        folders = tuple(dense_model(options.cache, size_mb, seed) for seed in range(1, AGENTS + 1))
    return Script(
        folders=folders,
        size_mb=size_mb,
        rounds=rounds,
        limit_s=QUICK_LIMIT_S if options.quick else options.limit_s,
        first_tokens=QUICK_FIRST_TOKENS if options.quick else FIRST_TOKENS,
        made_tokens=QUICK_MADE_TOKENS if options.quick else MADE_TOKENS,
        calm_s=QUICK_CALM_S if options.quick else CALM_S,
    )


def _make(
    options: argparse.Namespace, script: Script, todo: Sequence[Planned], out: Path
) -> list[Run]:
    """The runs that are still to be made, each one in the file as soon as it is over."""
    use_blas(options.blas)
    sizes = [weights_bytes(folder) for folder in script.folders]
    _tell(options.arms, sizes)
    finished: list[Run] = []
    ratios = sorted({one.ratio for one in todo if one.ratio is not None}) or [RATIO]
    with made(options.cache, options.arms, sizes, ratios) as ground:
        if not options.resume:
            out.unlink(missing_ok=True)
        budget_s = QUICK_S if options.quick else math.inf
        for one in begun_in_time(todo, budget_s, time.monotonic):
            finished.append(run(ground, script, one))
            append_line(out, finished[-1])
            _tell_run(finished[-1])
    if len(finished) < len(todo):
        console.print(f"{len(finished)} of {len(todo)} runs made; --resume makes the others")
    return finished


def _tell(arms: Sequence[str], sizes: Sequence[int]) -> None:
    console.print(
        f"{len(sizes)} models of up to {max(sizes) / GIB:.2f} GiB, one agent each, in turns; the"
        f" limit is a multiple of the largest and {FIXED_BYTES / GIB:.1f} GiB for a bystander of"
        " 300 MB and interpreters; greedy"
    )
    for arm in arms:
        console.print(f"  {arm}: {WAYS[arm].about}")


def _tell_run(finished: Run) -> None:
    limit = "no limit" if finished.ratio is None else f"{finished.ratio:g} x"
    times = " ".join(f"{turn.first_s:.1f}" for turn in finished.turns)
    console.print(
        f"{finished.arm} ({limit}, run {finished.number + 1}): {finished.outcome};"
        f" {finished.wall_s:.0f} s; first tokens after {times or '-'} s",
        soft_wrap=True,
    )
