"""Is the sampler on time while a big model loads; what do watching, resting, `status` cost?

Must not know how samples are taken: it subscribes like `hotseat top` and reads the process table.
"""

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.measure import (
    Arm,
    Verdict,
    base_parser,
    conclude,
    console,
    print_arms,
    touch_memory,
)
from benchmarks.random_models import random_model

BIG_MB = 2100
SMALL_MB = 100
STARTS = 20
SETTLED = frozenset({"empty", "ready", "failed"})


def main(arguments: Sequence[str]) -> int:
    parser = base_parser("telemetry", __doc__, n=6)
    parser.add_argument("--quiet-s", type=float, default=60.0, help="length of each rest (60)")
    options = parser.parse_args(arguments)
    folders = [random_model(options.cache, size, 0) for size in (SMALL_MB, BIG_MB)]
    touch_memory(3_000_000_000)
    daemon = _daemon(folders)
    try:
        empty = _rest(daemon, "nothing seated", options.quiet_s)
        gaps, status = _loads(daemon, folders, options.n)
        seated = _rest(daemon, "a model seated, nobody asks", options.quiet_s)
        starts = _starts(daemon)
        watched = _watched(daemon, options.quiet_s / 3)
    finally:
        daemon.__exit__()
    print_arms("milliseconds", [gaps, status, starts])
    console.print(
        f"CPU of the daemon: {empty:.2f} % with nothing seated, {seated:.2f} % with an idle model,"
        f" {watched:.2f} % with an idle model and a watcher"
    )
    return conclude(
        Verdict(
            "mean gap of samples while loading, ms, at most", statistics.mean(gaps.samples), 210
        ),
        Verdict(
            "mean gap of samples while loading, ms, at least",
            statistics.mean(gaps.samples),
            190,
            ">=",
        ),
        Verdict("p99 gap of samples while loading, ms", _p99(gaps), 250),
        Verdict("status p99 while loading, ms", _p99(status), 50),
        Verdict("`hotseat status` from start to end, ms", statistics.median(starts.samples), 250),
        Verdict("sampling five times a second and telling it, % CPU", watched - seated, 2.0),
        Verdict("idle daemon, % CPU", empty, 0.2),
        Verdict("idle daemon with a seated model and a standby, % CPU", seated, 0.2),
    )


def _daemon(folders):
    from tests.support.daemons.live_daemon import LiveDaemon

    from hotseat.library.importing import import_model

    daemon = LiveDaemon(standby=True)
    for folder in folders:
        import_model(folder, daemon.home, folder.name, lambda _phase, _percent: None)
    return daemon.start()


def _loads(daemon, folders, count: int) -> tuple[Arm, Arm]:
    """Gaps between samples of seatings of the big model, and how long status took meanwhile."""
    gaps, status = Arm("gap between samples", "ms"), Arm("status", "ms")
    small, big = (folder.name for folder in folders)
    with daemon.client() as client, daemon.client() as asker:
        for _ in range(count):
            client.swap(small)
            is_over = threading.Event()
            asking = threading.Thread(target=_ask, args=(asker, is_over, status))
            with client.events(topics=["telemetry"]) as events:
                first = events.next(timeout_s=5.0)
                asking.start()
                client.swap(big)
                is_over.set()
                asking.join()
                times = [first.at]
                while (item := events.next(timeout_s=0.0)) is not None:
                    times.append(item.at)
            # The first sample comes at once for a new watcher, out of the rhythm.
            gaps.samples += [(later - earlier) * 1000 for earlier, later in pairwise(times[1:])]
    return gaps, status


def _ask(client, is_over: threading.Event, arm: Arm) -> None:
    while not is_over.wait(0.01):
        started = time.monotonic()
        client.status()
        arm.samples.append((time.monotonic() - started) * 1000)


def _rest(daemon, what: str, quiet_s: float) -> float:
    """CPU of the daemon in percent of one core, without any client."""
    console.print(f"resting for {quiet_s:.0f} s: {what}")
    time.sleep(10)
    return _cpu(daemon, quiet_s)


def _starts(daemon) -> Arm:
    """The command as a shell starts it, with its answer."""
    arm = Arm("hotseat status as a command", "ms")
    for _ in range(STARTS):
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "hotseat.cli.main", "status"],
            env=daemon.environment(),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        arm.samples.append((time.monotonic() - started) * 1000)
    return arm


def _watched(daemon, quiet_s: float) -> float:
    with daemon.client() as client, client.events(topics=["telemetry"]) as events:
        reader = threading.Thread(
            target=lambda: [None for _ in iter(events.next, None)], daemon=True
        )
        reader.start()
        time.sleep(1)
        return _cpu(daemon, quiet_s)


def _cpu(daemon, quiet_s: float) -> float:
    pid = daemon.process.pid
    before, started = _cpu_s(pid), time.monotonic()
    time.sleep(quiet_s)
    return (_cpu_s(pid) - before) / (time.monotonic() - started) * 100


def _cpu_s(pid: int) -> float:
    """Seconds on a core, all threads: in nanoseconds where the kernel tells (ticks are 10 ms)."""
    threads = [*Path(f"/proc/{pid}/task").glob("*/schedstat")]
    if threads:
        return sum(int(file.read_text().split()[0]) for file in threads) / 1e9
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _p99(arm: Arm) -> float:
    return sorted(arm.samples)[min(len(arm.samples) - 1, int(0.99 * len(arm.samples)))]
