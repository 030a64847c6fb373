"""Bytes written to disk per byte of KV generated, over a long session with pauses and swaps."""

from collections.abc import Sequence

import msgspec

from benchmarks.homes import Talk, daemon_with, ids, kv_files
from benchmarks.measure import MIB, Verdict, base_parser, conclude, console
from hotseat.protocol.model import RECORD_FILE, ModelRecord

TARGET = 1.5
KINDS = ("llama", "gemma3")
TURNS, SWAP_EVERY = 30, 3
MESSAGE, ANSWER = 100, 200
IDLE_S = 0.3
SETTINGS = f"[kv]\nidle_checkpoint_s = {IDLE_S}\n"
ABOUT = f"""\
Tiny models, one session, {TURNS} turns of {MESSAGE} ids in and {ANSWER} tokens out. After every
turn nothing is asked until the idle checkpoint (after {IDLE_S} s instead of 30) has written the
tail; after every third turn another model is seated, and this one again for the next turn.
Written: all KV files, as the daemon counts them. Generated: K and V of every token in every
layer, windows included."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints bytes for each kind, and the verdicts."""
    base_parser("wear", __doc__, n=1).parse_args(arguments)
    console.print(ABOUT)
    return conclude(
        *(Verdict(f"bytes written per KV byte, {kind}", _measure(kind), TARGET) for kind in KINDS)
    )


def _measure(kind: str) -> float:
    daemon = daemon_with(tiny=(("a", kind), ("b", "llama")), settings=SETTINGS)
    from tests.support.daemons.live_daemon import wait_for

    with daemon:
        client = daemon.client()
        talk, swaps = Talk(client, "a", "s"), 0
        for turn in range(TURNS):
            done = talk.turn(ids(MESSAGE, turn), ANSWER).done
            assert done.usage.completion_tokens == ANSWER
            held = done.usage.prompt_tokens + ANSWER - 1
            wait_for(
                lambda held=held: client.session("a", "s").durable_tokens >= held,
                20.0,
                f"{held} tokens durable",
            )
            if (turn + 1) % SWAP_EVERY == 0:
                swaps += 1
                client.swap("b")
        tokens = client.session("a", "s").tokens
        written = client.disk().bytes_written
        view = next(model for model in client.models() if model.name == "a")
        full_bytes = view.kv_bytes_per_token
        data = (daemon.home / "models" / "a" / RECORD_FILE).read_bytes()
        record = msgspec.json.decode(data, type=ModelRecord)
        generated = tokens * sum(
            layer.kv_heads * (layer.k_dim + layer.v_dim) * record.dtype_bytes
            for layer in record.layers
        )
        left = sum(sum(kv_files(daemon.home, part).values()) for part in ("blocks", "tails"))
    console.print(
        f"{kind}: {tokens} tokens, {swaps} swaps; KV generated {generated / MIB:.2f} MiB"
        f" ({full_bytes} B a token in layers that keep all), written {written / MIB:.2f} MiB,"
        f" on disk at the end {left / MIB:.2f} MiB: written over that {written / left:.3f}"
    )
    return written / generated
