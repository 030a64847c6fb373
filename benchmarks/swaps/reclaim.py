"""What comes back from an unload in place, by the operating system's count, after generation."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure import (
    Arm,
    Verdict,
    base_parser,
    conclude,
    console,
    print_arms,
    touch_memory,
)
from benchmarks.random_models import random_model, weights_bytes

TARGET = 0.99
SIZES_MB = (100, 500, 1500)
PROMPT_TOKENS = 300
MADE_TOKENS = 24


@dataclass(frozen=True)
class Unload:
    """One round: what the process held, bytes by the OS; the allocator's counts beside it."""

    weights_bytes: int
    before_load: int
    loaded: int
    generated: int
    unloaded: int
    active_after: int
    leaked: int

    @property
    def returned(self) -> float:
        """Share of what load and generation took that is back with the system."""
        return (self.generated - self.unloaded) / (self.generated - self.before_load)


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the returned share by size; raw data goes to --out."""
    parser = base_parser("reclaim", __doc__, n=10)
    parser.add_argument("--out", type=Path, help="JSON file for every single measurement")
    parser.add_argument("--sizes-mb", type=int, nargs="+", default=SIZES_MB)
    parser.add_argument("--in-child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.in_child is not None:
        return measure_here(options.in_child, options.n)
    folders = [random_model(options.cache, size, 0) for size in options.sizes_mb]
    console.print(
        f"an engine in a process of its own, per size: load, warm, a prompt of {PROMPT_TOKENS} and"
        f" {MADE_TOKENS} tokens made, unload; again and again in the same process"
    )
    touch_memory(2 * max(weights_bytes(folder) for folder in folders))
    rounds = {folder.name: in_child(folder, options.n) for folder in folders}
    arms = [
        Arm(f"returned, {name}", "", [one.returned for one in found])
        for name, found in rounds.items()
    ]
    print_arms("share of the memory returned by an unload in place", arms)
    if options.out is not None:
        data = {
            name: [asdict(one) | {"returned": one.returned} for one in found]
            for name, found in rounds.items()
        }
        options.out.write_text(json.dumps(data, indent=1) + "\n")
        console.print(f"raw data: {options.out}")
    leaked = sum(one.leaked for found in rounds.values() for one in found)
    return conclude(
        *(
            Verdict(f"least returned, {name}", min(one.returned for one in found), TARGET, ">=")
            for name, found in rounds.items()
        ),
        Verdict("objects of unloaded models still referenced", leaked, 0),
    )


def in_child(folder: Path, count: int) -> list[Unload]:
    """The rounds of one size, measured in a fresh process."""
    command = [sys.executable, "-m", "benchmarks", "reclaim", "--n", str(count)]
    done = subprocess.run(
        [*command, "--in-child", str(folder)], check=True, stdout=subprocess.PIPE, text=True
    )
    return [Unload(**json.loads(line)) for line in done.stdout.splitlines()]


def measure_here(folder: Path, count: int) -> int:
    """One JSON line a round."""
    from tests.support.engine.engine_harness import FakeSupervisor, make_engine, prompt_tokens

    from hotseat.library.importing import import_model
    from hotseat.protocol.link_orders import Load, Warm
    from hotseat.protocol.link_orders import Unload as UnloadOrder
    from hotseat.protocol.link_reports import Loaded, Unloaded, Warmed
    from hotseat.worker.model.footprint import footprint_bytes, give_back

    with tempfile.TemporaryDirectory() as home:
        record = import_model(folder, Path(home), "model", lambda _phase, _percent: None)
        boss = FakeSupervisor(record, Path(home) / "kv")
        engine = boss.engine = make_engine(boss._inbox.put)
        boss.load["memory_limit_bytes"] = 0
        for number in range(count):
            give_back()
            before_load = footprint_bytes()
            engine.handle(Load(record=record, kv_dir=str(boss.kv_dir), **boss.load))
            boss.until(Loaded)
            engine.handle(Warm())
            boss.until(Warmed)
            loaded = footprint_bytes()
            boss.turn(prompt_tokens(PROMPT_TOKENS, number), max_tokens=MADE_TOKENS)
            generated = footprint_bytes()
            engine.handle(UnloadOrder())
            said = boss.until(Unloaded)
            one = Unload(
                weights_bytes=record.weights_bytes,
                before_load=before_load,
                loaded=loaded,
                generated=generated,
                unloaded=footprint_bytes(),
                active_after=said.active_after,
                leaked=len(said.leaked),
            )
            print(json.dumps(asdict(one)), flush=True)
        engine.close()
    return 0
