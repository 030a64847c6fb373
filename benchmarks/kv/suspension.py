"""Tokens after suspensions at random points against those of an undisturbed run: all identical."""

import itertools
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from benchmarks.measure import Verdict, base_parser, conclude, console

KINDS = ("llama", "gemma3", "lfm2")
DTYPES = ("float32", "bfloat16")
FATES = ("live", "checkpointed", "killed")
PROMPT = 250
ANSWER = 60
"""Past a block boundary, and past gemma3's window of 64."""
POINTS_A_RUN = 6
ABOUT = """\
The engine with tiny random models, a request alone in its batch: suspended at random token
boundaries and continued with its KV in memory (live), after checkpoint and a new worker's load
(checkpointed), or after a death without a checkpoint (killed). Greedy, and sampled at 0.8 with
penalties. One wrong token at any point changes all that follow, so a run is identical or not."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints a line for each model kind, type and way of sampling, and the verdict."""
    parser = base_parser("suspension", __doc__, n=20)
    parser.add_argument("--seed", type=int, default=None, help="of the points; else drawn")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    console.print(f"{ABOUT}\nseed of the points: {seed}")
    draw = random.Random(seed)  # noqa: S311 - points to suspend at
    table = Table(title="identical runs", title_justify="left", title_style="bold")
    for name in ("model", "type", "sampling", "suspensions", "identical runs"):
        table.add_column(name)
    same = runs = 0
    with tempfile.TemporaryDirectory() as folder:
        for kind, dtype in itertools.product(KINDS, DTYPES):
            for name in ("greedy", "sampled"):
                points, found = _compare(
                    Path(folder) / f"{kind}{dtype}{name}", kind, dtype, name, draw, options.n
                )
                table.add_row(kind, dtype, name, str(points), f"{sum(found)} of {len(found)}")
                same, runs = same + sum(found), runs + len(found)
    console.print(table)
    return conclude(Verdict("identical runs after suspension", same / runs, 1.0, ">="))


def _compare(
    folder: Path, kind: str, dtype: str, sampling: str, draw: random.Random, points: int
) -> tuple[int, list[bool]]:
    """How many suspensions there were, and of each run whether its tokens were the same."""
    from tests.support.engine.engine_harness import tiny_record

    folder.mkdir()
    record = tiny_record(folder, kind, dtype=dtype)
    undisturbed = _run(folder, record, sampling, (), "live")
    found, left = [], points
    for fate in itertools.cycle(FATES):
        count = min(POINTS_A_RUN, left)
        chosen = sorted(draw.sample(range(1, ANSWER), count))
        found.append(_run(folder, record, sampling, chosen, fate) == undisturbed)
        left -= count
        if not left:
            return points, found
    raise AssertionError


def _run(folder: Path, record: object, sampling: str, points: Sequence[int], fate: str) -> object:
    from tests.support.engine.engine_harness import FakeSupervisor, prompt_tokens
    from tests.support.engine.suspend_harness import GREEDY, SAMPLED, Run

    kv_dir = Path(tempfile.mkdtemp(dir=folder))
    supervisor = FakeSupervisor(record, kv_dir)
    supervisor.seat()
    chosen = GREEDY if sampling == "greedy" else SAMPLED
    run = Run(supervisor, prompt_tokens(PROMPT), "s", sampling=chosen, max_tokens=ANSWER)
    for point in points:
        if run.until_tokens(point):
            run.interrupt(fate)
    finished = run.finish()
    supervisor.unseat()
    return run.tokens, run.text, finished.context
