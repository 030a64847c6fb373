"""Restore of 1.06 GiB of KV from cold disk over reading as many bytes past the page cache."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx

from benchmarks.kv.raw_disk import DEPTH, PIECE_BYTES, read_directly, write_directly
from benchmarks.measure import (
    GIB,
    MIB,
    Arm,
    Verdict,
    base_parser,
    conclude,
    console,
    drop_pages,
    paired_ratio,
    print_arms,
    ratio,
    touch_memory,
)

TARGET = 0.5
TOUCHED = 5 * GIB
ABOUT = """\
The worker's reader and rebuilder, no model: 33 blocks and a tail are read, verified and become
caches of mlx that are evaluated. Pages of the files are dropped before every run.
  raw: O_DIRECT, {depth} reads of {piece} MiB under way, one file, bytes thrown away."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints both arms in MB/s, and the verdict."""
    parser = base_parser("restore-rate", __doc__, n=8)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    options = parser.parse_args(arguments)
    from benchmarks.kv.large_session import LargeSession, large_record

    console.print(ABOUT.format(depth=DEPTH, piece=PIECE_BYTES // MIB))
    touch_memory(TOUCHED)
    raw, ours = Arm("raw read", "MB/s"), Arm("hotseat: read, verify, rebuild", "MB/s")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        kv_dir, file = Path(folder) / "kv", Path(folder) / "raw"
        session = LargeSession(kv_dir, large_record())
        caches = session.compute()
        size = sum(cache.nbytes for cache in caches)
        session.checkpoint(caches)
        del caches
        read_size = -(-size // PIECE_BYTES) * PIECE_BYTES
        write_directly(file, read_size)
        for number in range(options.n + 1):
            samples = []
            for arm in (raw, ours) if number % 2 else (ours, raw):
                stayed = drop_pages(Path(folder))
                assert stayed < 0.01, stayed
                if arm is raw:
                    samples.append((raw, read_size / read_directly(file, read_size) / 1e6))
                else:
                    mx.clear_cache()  # no memory is left over from the run before
                    started = time.monotonic()
                    session.restore()
                    samples.append((ours, size / (time.monotonic() - started) / 1e6))
            for arm, rate in samples if number else ():
                arm.samples.append(rate)
        session.close()
    print_arms(f"{size / GIB:.2f} GiB of KV from cold disk", [raw, ours])
    console.print(f"median of the paired ratios: {paired_ratio(ours, raw):.3f}")
    return conclude(Verdict("restore over a raw read", ratio(ours, raw), TARGET, ">="))
