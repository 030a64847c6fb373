"""Decode rate through client, supervisor and worker over mlx_lm.stream_generate in process."""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.homes import seat_as_shipped
from benchmarks.measure import (
    GIB,
    Arm,
    Verdict,
    conclude,
    console,
    interval,
    print_arms,
    touch_memory,
)
from benchmarks.peers.versus import comparison_parser, use_blas
from benchmarks.real_models import smollm_pair

SCRIPT = Path(__file__).with_name("in_process.py")
PROMPT = tuple(5 + number * 37 % 400 for number in range(64))
TINY_TARGET, SMOLLM_TARGET = 0.95, 0.99
TINY_TOKENS, SMOLLM_TOKENS = 1000, 48
SMOLLM_SHARE = 0.5
"""Pairs with SmolLM2 for each pair with the tiny model."""
SEATINGS = 2
"""Processes of each arm: which pages a process got shows in its rate."""
ABOUT = """\
A prompt of 64 ids, greedy; time runs from the first token to the last one: at the iterator of
stream_generate, and at the iterator of hotseat's client. Both arms hold the model loaded, one runs
while the other is idle, and they take turns; half-way both get new processes. hotseat has its
default settings and has swapped to the model: a standby is ready, the weights are in memory that
was touched ahead (record 15), in huge pages where the kernel gives them."""


class InProcess:
    """A process with the model that answers with its own times."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        self._hear()

    def rate(self, tokens: int) -> float:
        """Tokens a second after the first."""
        assert self._process.stdin is not None
        order = {"prompt": list(PROMPT), "max_tokens": tokens}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._hear()
        assert answer["tokens"] == tokens, answer
        return (tokens - 1) / answer["seconds"]

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _hear(self) -> dict:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


class Through:
    """Client, daemon and worker."""

    def __init__(self, folder: Path) -> None:
        self._daemon = seat_as_shipped(folder, "m")
        self._client = self._daemon.client()

    def rate(self, tokens: int) -> float:
        """Tokens a second after the first."""
        stream = self._client.generate("m", tokens=PROMPT, max_tokens=tokens, temperature=0.0)
        arrivals = [(time.monotonic(), len(chunk.tokens)) for chunk in stream]
        stream.result()
        assert sum(count for _, count in arrivals) == tokens
        (first_at, first), (last_at, _) = arrivals[0], arrivals[-1]
        return (tokens - first) / (last_at - first_at)

    def close(self) -> None:
        """Ends the daemon."""
        self._daemon.__exit__()


def main(arguments: Sequence[str] = ()) -> int:
    """Prints arms, ratios of the pairs with a confidence interval, and verdicts."""
    parser = comparison_parser("decode", __doc__)
    parser.add_argument("--only", choices=("tiny", "smollm2"), default=None)
    options = parser.parse_args(arguments)
    console.print(ABOUT)
    use_blas(options.blas)
    touch_memory(3 * GIB)
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "smollm2":
            from tests.support.models.tiny_models import make_tiny

            tiny = make_tiny(Path(folder) / "tiny", "llama")
            verdicts.append(_compare("tiny llama", tiny, options.n, TINY_TOKENS, TINY_TARGET))
        if options.only != "tiny":
            model, _ = smollm_pair(options.cache)
            pairs = max(3, math.ceil(options.n * SMOLLM_SHARE))
            verdicts.append(_compare("SmolLM2", model, pairs, SMOLLM_TOKENS, SMOLLM_TARGET))
    return conclude(*verdicts)


def _compare(name: str, folder: Path, pairs: int, tokens: int, target: float) -> Verdict:
    bare, ours = Arm("stream_generate", "tok/s"), Arm("hotseat", "tok/s")
    for _ in range(SEATINGS):
        sides = {bare.name: InProcess(folder), ours.name: Through(folder)}
        try:
            for side in sides.values():
                side.rate(min(tokens, 100))
            for number in range(math.ceil(pairs / SEATINGS)):
                for arm in (bare, ours) if number % 2 else (ours, bare):
                    arm.samples.append(sides[arm.name].rate(tokens))
        finally:
            for side in sides.values():
                side.close()
    print_arms(f"{name}, {tokens} tokens", [bare, ours])
    mean, low, high = interval(ours, bare)
    console.print(
        f"{name}: mean of the paired ratios {mean:.3f}, 95 % interval {low:.3f}-{high:.3f}"
    )
    return Verdict(f"decode rate over stream_generate, {name}", mean, target, ">=")
