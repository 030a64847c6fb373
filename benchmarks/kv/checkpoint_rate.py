"""Checkpoint of a session of 1.04 GiB of KV over writing and syncing as many bytes directly."""

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.kv.raw_disk import DEPTH, PIECE_BYTES, write_directly
from benchmarks.measure import (
    GIB,
    MIB,
    Arm,
    Verdict,
    base_parser,
    conclude,
    console,
    paired_ratio,
    print_arms,
    ratio,
    touch_memory,
)

TARGET = 0.5
TOUCHED = 5 * GIB
ABOUT = """\
The worker's keeper and writer, no model: caches in memory, none of it on disk; 33 blocks and a
tail are captured, digested, written, synced and named, until Checkpointed.
  raw: O_DIRECT, {depth} writes of {piece} MiB under way, one new file, one fsync."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints both arms in MB/s, and the verdict."""
    parser = base_parser("checkpoint-rate", __doc__, n=8)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    options = parser.parse_args(arguments)
    from benchmarks.kv.large_session import LargeSession, large_record

    console.print(ABOUT.format(depth=DEPTH, piece=PIECE_BYTES // MIB))
    touch_memory(TOUCHED)
    raw, ours = Arm("raw write and sync", "MB/s"), Arm("hotseat: checkpoint", "MB/s")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        kv_dir, file = Path(folder) / "kv", Path(folder) / "raw"
        session = LargeSession(kv_dir, large_record())
        caches = session.compute()
        size = -(-sum(cache.nbytes for cache in caches) // PIECE_BYTES) * PIECE_BYTES
        for number in range(options.n + 1):
            samples = []
            for arm in (raw, ours) if number % 2 else (ours, raw):
                shutil.rmtree(kv_dir, ignore_errors=True)
                file.unlink(missing_ok=True)
                if arm is raw:
                    samples.append((raw, size / write_directly(file, size) / 1e6))
                else:
                    started = time.monotonic()
                    written = session.checkpoint(caches).bytes_written
                    samples.append((ours, written / (time.monotonic() - started) / 1e6))
            for arm, rate in samples if number else ():
                arm.samples.append(rate)
        session.close()
    print_arms(f"{size / GIB:.2f} GiB of KV to disk", [raw, ours])
    console.print(f"median of the paired ratios: {paired_ratio(ours, raw):.3f}")
    return conclude(Verdict("checkpoint over a raw write", ratio(ours, raw), TARGET, ">="))
