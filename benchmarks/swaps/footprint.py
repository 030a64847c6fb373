"""Memory of daemon, worker and standby together after many swaps against after two: no creep."""

import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.measure import (
    MIB,
    Arm,
    Verdict,
    base_parser,
    conclude,
    console,
    print_arms,
    ratio,
)

TARGET = 1.02
EARLY = 2
SAMPLES = 9
PAUSE_S = 0.3
SETTLE_S = 2.0
PROCESSES = 3


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the tree's memory as swaps go by, in both modes, and the verdicts."""
    parser = base_parser("footprint", __doc__, n=50)
    options = parser.parse_args(arguments)
    console.print(
        f"two tiny models, a turn after each swap; memory of the whole tree (daemon, worker,"
        f" standby): median of {SAMPLES} looks when the standby is ready and at rest; PSS shares"
        " out pages that several processes map"
    )
    verdicts = []
    for mode in ("process", "in-process"):
        early, late = tree_after(mode, options.n)
        verdicts.append(
            Verdict(
                f"footprint after {options.n} swaps over after {EARLY}, {mode}",
                ratio(late, early),
                TARGET,
            )
        )
    return conclude(*verdicts)


def tree_after(mode: str, swaps: int) -> tuple[Arm, Arm]:
    """PSS after two swaps and at the end."""
    from tests.support.daemons.live_daemon import LiveDaemon
    from tests.support.models.tiny_models import register_tiny

    looked_at = sorted({EARLY, *range(10, swaps, 10), swaps})
    pss = {count: Arm(f"PSS after {count}", "MiB") for count in looked_at}
    anonymous = {count: Arm(f"anonymous after {count}", "MiB") for count in looked_at}
    daemon = LiveDaemon(standby=True)
    for seed, name in enumerate(("a", "b")):
        register_tiny(daemon.home, name, "llama", seed=seed)
    with daemon:
        client = daemon.client()
        turn(client, daemon, "a")
        for count in range(1, swaps + 1):
            model = "ba"[count % 2 == 0]
            report = client.swap(model, mode=mode)
            assert report.mode == mode, report
            turn(client, daemon, model)
            if count in pss:
                time.sleep(SETTLE_S)
                for _ in range(SAMPLES):
                    shared, own = tree_memory(daemon.process.pid)
                    pss[count].samples.append(shared / MIB)
                    anonymous[count].samples.append(own / MIB)
                    time.sleep(PAUSE_S)
    print_arms(f"tree memory, {mode} swaps", [*pss.values(), *anonymous.values()])
    return pss[EARLY], pss[looked_at[-1]]


def turn(client, daemon, model: str) -> None:
    """A short turn, then a standby."""
    from tests.support.daemons.live_daemon import wait_for

    client.generate(model, prompt="Water runs down the street, and", max_tokens=8).result()
    wait_for(lambda: client.status().standby.ready, 60.0, "standby ready")
    wait_for(lambda: len(daemon.workers()) == PROCESSES - 1, 10.0, "worker and standby only")


def tree_memory(pid: int) -> tuple[int, int]:
    """(PSS, anonymous bytes) of the process and all below it."""
    root = psutil.Process(pid)
    pss = anonymous = 0
    for process in [root, *root.children(recursive=True)]:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        fields = {line.split(":")[0]: line.split() for line in lines[1:]}
        pss += int(fields["Pss"][1]) * 1024
        anonymous += (int(fields["Anonymous"][1]) + int(fields["Swap"][1])) * 1024
    return pss, anonymous
