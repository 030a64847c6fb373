"""Prompts in chunks of 1,024 tokens against 256: tokens a second, and how long a row waits beside.

In this process, through the worker's own engine. Must not know daemons.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks.homes import ids
from benchmarks.measure import Arm, Verdict, base_parser, conclude, console, interval, print_arms
from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link_orders import CancelWork
from hotseat.protocol.link_reports import Emitted, Finished, Prefilled, Started
from hotseat.protocol.model import ModelRecord

CHUNKS = (256, 1024)
TINY_TOKENS, SMOLLM_TOKENS = 8192, 2048
STEP_PARTS = 3.0
"""What a row waits may be so many times one chunk's share of the prompt: the last chunks of a
prompt take twice as long as the middle one, since attention grows with what is behind."""
ABOUT = """\
A prompt that nobody has seen is fed alone, then another one beside a row that decodes: tokens a
second of the first, the longest time between two tokens of the row for the second. Both engines
hold the model and take turns. Blocks are written to disk as always. MLX takes the BLAS that
LD_PRELOAD names, if any.
This is a CPU: the ratio says nothing about Metal, where a chunk of 256 tokens leaves much of a GPU
idle in mixtures of experts and small models. The wait says that a row waits for one chunk."""


class Fed:
    """An engine with its own chunk."""

    def __init__(self, record: ModelRecord, chunk: int, kv_dir: Path) -> None:
        from tests.support.engine.engine_harness import FakeSupervisor

        self.rates = Arm(f"chunks of {chunk}", "tok/s")
        self.waits = Arm(f"chunks of {chunk}, longest wait of a row")
        self._chunk = chunk
        self._supervisor: Any = FakeSupervisor(replace(record, prefill_chunk=chunk), kv_dir)
        self._supervisor.seat()

    def feed(self, tokens: int, seed: int) -> None:
        """One sample of each arm."""
        self.rates.samples.append(self._rate(ids(tokens, seed)))
        self.waits.samples.append(self._longest_wait(ids(tokens, seed + 1)))

    def close(self) -> None:
        """Ends it."""
        self._supervisor.unseat()

    def _await(self, kind: type, request: RequestKey) -> None:
        """Steps until `request` said it, however long a slow BLAS takes."""
        while not any(isinstance(said, kind) for said in self._outcome(request).messages):
            self._supervisor.advance()

    def _outcome(self, request: RequestKey) -> Any:
        return self._supervisor.outcome(request)

    def _rate(self, prompt: list[int]) -> float:
        request = self._supervisor.start(prompt, max_tokens=1)
        self._await(Started, request)
        began_at = time.monotonic()
        self._await(Emitted, request)
        took_s = time.monotonic() - began_at
        self._await(Finished, request)
        return len(prompt) / took_s

    def _longest_wait(self, prompt: list[int]) -> float:
        row = self._supervisor.start(ids(8, len(prompt)), max_tokens=4000)
        self._await(Emitted, row)
        request = self._supervisor.start(prompt, max_tokens=1)
        self._await(Prefilled, request)
        longest_s, said_at = 0.0, time.monotonic()
        while self._outcome(request).finished is None:
            said = len(self._outcome(row).tokens)
            self._supervisor.advance()
            if len(self._outcome(row).tokens) > said:
                longest_s, said_at = max(longest_s, time.monotonic() - said_at), time.monotonic()
        self._supervisor.engine.handle(CancelWork(request=row))
        self._await(Finished, row)
        return longest_s


def main(arguments: Sequence[str] = ()) -> int:
    """Prints arms, the ratio with a confidence interval, and the wait of a row."""
    parser = base_parser("prefill", __doc__, n=5)
    parser.add_argument("--only", choices=("tiny", "smollm2"), default=None)
    options = parser.parse_args(arguments)
    console.print(ABOUT)
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "smollm2":
            from tests.support.models.tiny_models import register_tiny

            tiny = register_tiny(Path(folder), "tiny", "llama", context=2 * TINY_TOKENS)
            verdicts += _compare("tiny llama", tiny, options.n, TINY_TOKENS, Path(folder))
        smollm = options.cache / "smollm2-f32"
        if options.only != "tiny" and (smollm / "complete").exists():
            from hotseat.library.importing import import_model

            record = import_model(smollm, Path(folder), "smollm2", lambda _phase, _percent: None)
            verdicts += _compare("SmolLM2", record, options.n, SMOLLM_TOKENS, Path(folder))
        elif options.only != "tiny":
            console.print(f"SmolLM2 left out: {smollm} is made by `python -m benchmarks decode`")
    return conclude(*verdicts)


def _compare(name: str, record: ModelRecord, n: int, tokens: int, folder: Path) -> list[Verdict]:
    with _engines(record, folder / f"kv-{name}") as engines:
        for number in range(n + 1):
            for engine in engines if number % 2 else reversed(engines):
                engine.feed(tokens if number else 300, 10 * number)
        for engine in engines:
            del engine.rates.samples[0], engine.waits.samples[0]
    short, long = engines
    print_arms(f"{name}, a prompt of {tokens} tokens", [one.rates for one in engines])
    print_arms(f"{name}, a row that decodes beside it", [one.waits for one in engines])
    mean, low, high = interval(long.rates, short.rates)
    console.print(
        f"{name}: tokens a second, {CHUNKS[1]} over {CHUNKS[0]}: mean of the paired ratios"
        f" {mean:.3f}, 95 % interval {low:.3f}-{high:.3f}; of a CPU, nothing about Metal"
    )
    verdicts = []
    for chunk, engine in zip(CHUNKS, engines, strict=True):
        chunk_s = chunk / engine.rates.median
        share = engine.waits.median / chunk_s
        verdicts.append(
            Verdict(f"longest wait of a row over one chunk of {chunk}, {name}", share, STEP_PARTS)
        )
    return verdicts


@contextmanager
def _engines(record: ModelRecord, kv_dir: Path) -> Iterator[tuple[Fed, Fed]]:
    short, long = (Fed(record, chunk, kv_dir / str(chunk)) for chunk in CHUNKS)
    try:
        yield short, long
    finally:
        short.close()
        long.close()
