"""The checkpoint phase of a swap against the context served before it: it writes tails only."""

import time
import zlib
from collections.abc import Sequence

from benchmarks.measure import (
    Arm,
    Verdict,
    base_parser,
    conclude,
    console,
    print_arms,
    ratio,
    touch_memory,
)

TARGET = 1.3
BLOCK = 256
TAIL = 200
LENGTHS = tuple(blocks * BLOCK + TAIL for blocks in (1, 8, 32))
TOUCHED = 1 << 30
CONTEXT = 16384


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the phase by context length, and the verdict on its ends."""
    parser = base_parser("checkpoint", __doc__, n=12)
    options = parser.parse_args(arguments)
    from tests.support.daemons.live_daemon import LiveDaemon
    from tests.support.models.tiny_models import register_tiny

    console.print(
        f"tiny llama, contexts of {', '.join(map(str, LENGTHS))} tokens, each with a tail of"
        f" {TAIL}; the full blocks are on disk by write-behind when the swap is asked for"
    )
    touch_memory(TOUCHED)
    daemon = LiveDaemon(standby=True)
    for seed, name in enumerate(("a", "b")):
        register_tiny(daemon.home, name, "llama", seed=seed, context=CONTEXT)
    arms = [Arm(f"checkpoint after {length} tokens", "ms") for length in LENGTHS]
    written = [Arm(f"written in it after {length} tokens", "KiB") for length in LENGTHS]
    with daemon:
        client = daemon.client()
        for turn in range(options.n + 1):
            order = list(range(len(LENGTHS)))
            for index in order if turn % 2 else reversed(order):
                report = checkpoint_of(client, LENGTHS[index], f"{turn}-{index}")
                if turn:  # the first round warms files and caches of the daemon
                    arms[index].samples.append(1e3 * report.phases.checkpoint_s)
                    written[index].samples.append(report.bytes_written / 1024)
    print_arms("checkpoint phase against context length", [*arms, *written])
    return conclude(
        Verdict(
            f"checkpoint phase, {LENGTHS[-1]} over {LENGTHS[0]} tokens",
            ratio(arms[-1], arms[0]),
            TARGET,
        )
    )


def checkpoint_of(client, length: int, session: str):
    """The report of a swap away from a model that has just served so long a context."""
    from tests.support.daemons.live_daemon import wait_for

    wait_for(lambda: client.status().standby.ready, 60.0, "standby ready")
    client.swap("a")
    made = client.generate(
        "a", tokens=_ids(length, session), session=session, max_tokens=1
    ).result()
    held = made.usage.prompt_tokens  # the answer's one token is not in KV
    full = length // BLOCK * BLOCK
    wait_for(
        lambda: client.session("a", session).durable_tokens >= full,
        60.0,
        f"{full} tokens of {held} durable",
    )
    wait_for(lambda: client.status().standby.ready, 60.0, "standby ready")
    time.sleep(0.3)
    return client.swap("b", mode="process")


def _ids(count: int, session: str) -> list[int]:
    """Different for every session, so that no block is shared."""
    state = zlib.crc32(session.encode())
    ids = []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        ids.append(5 + (state >> 8) % 500)
    return ids
