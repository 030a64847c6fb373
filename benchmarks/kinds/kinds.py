"""Tries the architectures of mlx-lm that people use most; keeps what came out in a file.

Each runs in a child that the next one shares as long as it lives: a crash is that kind's finding.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

from tests.support.models.kinds.architecture import Architecture
from tests.support.models.kinds.table import ARCHITECTURES

from benchmarks.kinds.course import run_kind
from benchmarks.kinds.result import RESULTS, KindResult, Matrix, model_kinds, write_matrix
from benchmarks.measure import Verdict, conclude, console

ABOUT = """\
A tiny random model of each kind, in the engine that the worker runs: it registers, loads and
answers; a conversation of three turns leaves the seat after each, is checkpointed, comes back and
has to go on with the tokens that it has without that. Then a forced call, reasoning, an adapter."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints a line for each kind; with all of them, keeps the results for docs/kinds.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks kinds", description=__doc__)
    parser.add_argument("kind", nargs="*", help="only these; nothing is kept then")
    asked = parser.parse_args(arguments).kind
    console.print(ABOUT)
    chosen = [one for one in ARCHITECTURES if not asked or one.kind in asked]
    results = tuple(_run_all(chosen))
    if not asked:
        untried = tuple(sorted(model_kinds() - {one.kind for one in ARCHITECTURES}))
        write_matrix(Matrix(mlx_lm=version("mlx-lm"), kinds=results, untried=untried))
        console.print(f"kept in {RESULTS}; docs/kinds.md is drawn from it")
    failed = [one for one in results if one.failure]
    for one in failed:
        console.print(f"{one.kind}: {one.failure}")
    lost = sum(not one.goes_on and not one.is_refused for one in results)
    return conclude(Verdict("kinds that do not go on with the same tokens", lost, 0))


def _run_all(chosen: Sequence[Architecture]) -> list[KindResult]:
    results = []
    pool = _pool()
    for architecture in chosen:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="hskinds", ignore_cleanup_errors=True) as folder:
            future: Future[KindResult] = pool.submit(run_kind, architecture, Path(folder) / "k")
            try:
                result = future.result()
            except BrokenProcessPool:
                pool = _pool()
                result = KindResult(
                    kind=architecture.kind, models=architecture.models, failure="the process died"
                )
        took_s = time.monotonic() - started
        console.print(f"{result.kind:18} {took_s:5.1f} s  {result.failure or 'whole'}")
        results.append(result)
    pool.shutdown()
    return results


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))
