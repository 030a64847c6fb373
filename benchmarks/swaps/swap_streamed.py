"""Swap to a model of which a part is in memory over the swap to it whole: only that part is read.

The same dense model both ways, seated in turns from a tiny one, its files dropped from the page
cache before each swap. Every figure is the daemon's own report of the swap.
"""

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.homes import OTHER, daemon_with, wait_quiet
from benchmarks.measure import (
    MIB,
    Arm,
    Verdict,
    base_parser,
    conclude,
    console,
    drop_pages,
    paired_ratio,
    print_arms,
)
from benchmarks.proof.dense_models import dense_model

SIZE_MB = 1400
SHARE = 0.6
"""Of the weights that the limit leaves room for."""
ABOVE = 0.10


def main(arguments: Sequence[str] = ()) -> int:
    """Prints swaps and their loads both ways, and the verdict."""
    options = base_parser("swap-streamed", __doc__, n=10).parse_args(arguments)
    folder = dense_model(options.cache, SIZE_MB, 1)
    names = ("whole: swap", "streamed: swap", "whole: load", "streamed: load")
    arms = {name: Arm(name, "s") for name in names}
    shares = []
    daemon = daemon_with([folder], tiny=[(OTHER, "llama")], standby=True)
    with daemon:
        client = daemon.client()
        whole = client.plan(folder.name)
        for turn in range(options.n):
            ways = ("whole", "streamed") if turn % 2 else ("streamed", "whole")
            for way in ways:
                _limit(daemon, client, whole, SHARE if way == "streamed" else None)
                client.swap(OTHER)
                wait_quiet(client, daemon)
                drop_pages(folder)
                report = client.swap(folder.name)
                arms[f"{way}: swap"].samples.append(report.total_s)
                arms[f"{way}: load"].samples.append(report.phases.load_s)
                if way == "streamed":
                    shares.append(client.status().streamed.resident_bytes / whole.weights_bytes)
    share = statistics.median(shares)
    print_arms(f"a model of {whole.weights_bytes / MIB:.0f} MiB, page cache cold", arms.values())
    console.print(f"share of the weights that is in memory, rooms included: {share:.3f}")
    loads = paired_ratio(arms["streamed: load"], arms["whole: load"])
    console.print(f"load over load: {loads:.3f}")
    swaps = paired_ratio(arms["streamed: swap"], arms["whole: swap"])
    return conclude(Verdict("swap to it streamed over swap to it whole", swaps, share + ABOVE))


def _limit(daemon: Any, client: Any, whole: Any, share: float | None) -> None:
    """Room for this share of the weights and a context; for all of them if it is None."""
    text = ""
    if share is not None:
        fixed = whole.overhead_bytes + whole.standby_bytes + whole.prefill_peak_bytes
        size = fixed + whole.sessions[0].bytes_per_session + int(share * whole.weights_bytes)
        text = f"[memory]\nlimit_bytes = {size}\n"
    (daemon.home / "config.toml").write_text(f'[seat]\nstandby = "on"\n{text}')
    client.reload()
