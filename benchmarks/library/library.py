"""Reloading a model from its prepared form against the best that can be done with its source.

That is MLX's own reader where it takes the file, else the gguf package's decoder with MLX's
quantiser. What our own converter would take each time is told beside it.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from benchmarks.kv.raw_disk import PIECE_BYTES, read_directly, write_directly
from benchmarks.library.sources import real_files, synthetic_file
from benchmarks.measure import (
    MIB,
    Arm,
    Verdict,
    base_parser,
    conclude,
    console,
    drop_pages,
    print_arms,
    ratio,
    read_pages,
    touch_memory,
)
from hotseat.library.importing import import_model

SCRIPT = "benchmarks.library.loading_process"
ROOT = Path(__file__).parents[2]
TARGET_READ = 1.5
TARGET_K = 5.0
SIZE_MB = 1000
HOME = "library-home"
_DISK_BYTES = 256 * MIB
_CACHES = ("cold", "warm")


class Trial(Struct, frozen=True):
    """A file and how its source can be loaded; the first way is held against the target.

    `rarely`: that way takes a minute, so it is tried once, and only with a warm page cache.
    """

    source: Path
    ways: tuple[str, ...]
    target: float
    caches: tuple[str, ...] = _CACHES
    rarely: bool = False


def main(arguments: Sequence[str] = ()) -> int:
    """Prints loads of each file cold and warm, what importing reaches, and the verdicts."""
    parser = base_parser("library", __doc__, n=8)
    parser.add_argument("--size-mb", type=int, default=SIZE_MB, help=f"random file ({SIZE_MB})")
    parser.add_argument("--only", default="", help="files whose name has this in it")
    options = parser.parse_args(arguments)
    smollm, gemma = real_files(options.cache)
    random = synthetic_file(options.cache, options.size_mb)
    touch_memory(4 * random.stat().st_size)
    rates = _device_rates(options.cache, random)
    verdicts = []
    for trial in (
        Trial(smollm, ("mx.load",), TARGET_READ, ("warm",)),
        Trial(gemma, ("gguf", "convert"), TARGET_K),
        Trial(random, ("gguf", "convert"), TARGET_K, ("warm",), rarely=True),
    ):
        if options.only not in trial.source.name:
            continue
        prepared = _import(options.cache, trial.source, rates)
        verdicts += _compare(trial, prepared, options.n)
    shutil.rmtree(options.cache / HOME, ignore_errors=True)
    print_arms("what importing reaches, of the source's bytes, and the device", rates)
    return conclude(*verdicts)


def _compare(trial: Trial, prepared: Path, n: int) -> list[Verdict]:
    """Loads the source and the prepared form in turns, the page cache cold and warm."""
    places = dict.fromkeys(trial.ways, trial.source) | {"prepared": prepared}
    arms = {(form, cache): Arm(f"{form}, {cache}") for cache in _CACHES for form in places}
    tokenizers = {form: Arm(f"{form}, tokenizer") for form in places}
    stayed = 0.0
    for turn in range(n):
        for cache in _CACHES:
            for form in places if turn % 2 else reversed(places):
                if form == trial.ways[0] and trial.rarely and (turn or cache == "cold"):
                    continue
                loader = Loader()
                if cache == "cold":
                    stayed = max(stayed, drop_pages(places[form]))
                else:
                    read_pages(places[form])
                weights_s, tokenizer_s = loader.load(form, places[form])
                arms[form, cache].samples.append(weights_s)
                tokenizers[form].samples.append(tokenizer_s)
    source = trial.source
    size = source.stat().st_size / 1e6
    title = f"{source.name}: {size:.0f} MB, prepared {_size(prepared):.0f} MB; weights in a model"
    print_arms(title, [*arms.values(), *tokenizers.values()])
    console.print(f"largest share of pages that stayed after a drop: {stayed:.4f}")
    for (form, cache), arm in arms.items():
        if form != "prepared" and arm.samples:
            told = ratio(arm, arms["prepared", cache])
            console.print(f"{form} over prepared, {cache}: {told:.2f}")
    return [
        Verdict(
            f"{source.stem}: {trial.ways[0]} over prepared, {cache}",
            ratio(arms[trial.ways[0], cache], arms["prepared", cache]),
            trial.target,
            ">=",
        )
        for cache in trial.caches
    ]


def _size(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6


def _import(cache: Path, source: Path, rates: list[Arm]) -> Path:
    """The prepared folder, made anew with a cold source; notes how fast that went."""
    drop_pages(source)
    started = time.monotonic()
    home = cache / HOME
    home.mkdir(exist_ok=True)
    record = import_model(source, home, source.stem, lambda _phase, _percent: None)
    took_s = time.monotonic() - started
    rate = source.stat().st_size / 1e6 / took_s
    rates.append(Arm(f"importing {source.name}, cold", "MB/s", [rate]))
    return Path(record.path)


def _device_rates(cache: Path, file: Path) -> list[Arm]:
    """Sequential reads and writes past the page cache."""
    size = min(_DISK_BYTES, file.stat().st_size) // PIECE_BYTES * PIECE_BYTES
    scratch = cache / "raw-disk-library"
    scratch.unlink(missing_ok=True)
    try:
        written_s = write_directly(scratch, size)
        read_s = read_directly(scratch, size)
    finally:
        scratch.unlink(missing_ok=True)
    return [
        Arm("device, reads", "MB/s", [size / 1e6 / read_s]),
        Arm("device, writes", "MB/s", [size / 1e6 / written_s]),
    ]


class Loader:
    """A process that has imported everything and waits for its one order."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._hear()

    def load(self, way: str, path: Path) -> tuple[float, float]:
        """Seconds until the weights were in a model, and to the tokenizer; the process ends."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"way": way, "path": str(path)}) + "\n")
        self._process.stdin.flush()
        facts = self._hear()
        self._process.wait()
        return float(facts["weights_s"]), float(facts["tokenizer_s"])

    def _hear(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a loading process ended with {self._process.wait()}")
        return json.loads(line)
