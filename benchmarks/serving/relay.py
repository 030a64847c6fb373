"""What the way from worker to client adds to a token, and how many tokens a second it carries."""

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Arm, Verdict, base_parser, conclude, console, print_arms

LATENCY_TARGET_MS, RATE_TARGET = 1.0, 10_000.0
PACE_S = 0.005
PACED_TOKENS, FLOOD_TOKENS = 1500, 20_000
READERS = 4
WORKER = Path(__file__).with_name("relay_worker.py")
ABOUT = """\
A stub worker with the product's own link sends one message a token; its text is the time of the
call that sends it. Client, supervisor and worker are processes of their own.
  latency: 200 tokens a second; from that call to the client's iterator.
  rate: as fast as the worker can; from the first token to the last at the client."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints latency and rate a run, and the verdicts on their medians."""
    options = base_parser("relay", __doc__, n=10).parse_args(arguments)
    console.print(ABOUT)
    from tests.support.daemons.live_daemon import LiveDaemon
    from tests.support.daemons.stub_home import QUIET, register

    os.environ["HOTSEAT_RELAY"] = str(PACE_S)

    class RelayDaemon(LiveDaemon):
        def environment(self):
            command = json.dumps([sys.executable, str(WORKER)])
            own = {"HOTSEAT_WORKER_COMMAND": command, "HOTSEAT_RELAY": str(PACE_S)}
            return super().environment() | own

    # Nothing to hold: a look at a file each step is a third of what a token takes here.
    daemon = RelayDaemon(stub={"hold_dir": ""}, settings=QUIET)
    register(daemon, "a", context_tokens=200_000)
    names = ("latency p50", "latency p99", "latency max")
    latency = [Arm(name, "ms") for name in names]
    alone, shared = Arm("rate, one reader", "tok/s"), Arm(f"rate, {READERS} readers", "tok/s")
    with daemon:
        client = daemon.client()
        for number in range(options.n + 1):
            waits = sorted(_waits_ms(client))
            found = [_run(client, FLOOD_TOKENS)]
            found.append(_run_together([daemon.client() for _ in range(READERS)]))
            if not number:
                continue
            p99 = waits[int(len(waits) * 0.99)]
            for arm, value in zip(
                (*latency, alone, shared),
                (statistics.median(waits), p99, waits[-1], *found),
                strict=True,
            ):
                arm.samples.append(value)
    print_arms(f"{PACED_TOKENS} tokens paced, {FLOOD_TOKENS} unpaced", [*latency, alone, shared])
    return conclude(
        Verdict("latency added to a token, p99, ms", latency[1].median, LATENCY_TARGET_MS),
        Verdict("tokens a second carried", alone.median, RATE_TARGET, ">="),
    )


def _waits_ms(client) -> list[float]:
    stream = client.generate("a", prompt="go", max_tokens=PACED_TOKENS, seed=2)
    waits = []
    for piece in stream.text():
        now = time.monotonic_ns()
        waits += [(now - int(sent)) / 1e6 for sent in piece.split()]
    stream.result()
    assert len(waits) == PACED_TOKENS
    return waits


def _run(client, tokens: int) -> float:
    stream = client.generate("a", prompt="go", max_tokens=tokens, seed=1)
    arrivals = [(time.monotonic(), len(chunk.tokens)) for chunk in stream]
    stream.result()
    assert sum(count for _, count in arrivals) == tokens
    (first_at, first), (last_at, _) = arrivals[0], arrivals[-1]
    return (tokens - first) / (last_at - first_at)


def _run_together(clients: Sequence) -> float:
    """All tokens of all readers over the time of the slowest."""
    started = time.monotonic()
    each = FLOOD_TOKENS // READERS
    threads = [threading.Thread(target=_run, args=(client, each)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - started
    for client in clients:
        client.close()
    return each * READERS / took_s
