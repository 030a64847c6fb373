"""KV on disk of eight agents with one system prompt of 1,024 tokens, over that of one agent."""

from collections.abc import Sequence

from benchmarks.homes import ask, daemon_with, ids, kv_files
from benchmarks.measure import MIB, Verdict, base_parser, conclude, console

TARGET = 1.3
AGENTS = 8
SYSTEM = 1024
OWN, ANSWER = 150, 60
KINDS = ("llama", "gemma3")
ABOUT = """\
Tiny models. Each agent's session begins with the same 1,024 ids, then 150 ids of its own and 60
tokens of answer. Blocks are counted as files on disk after all sessions were checkpointed by a
swap; tails, what follows an agent's last full block, are apart."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints bytes for each kind, and the verdicts."""
    options = base_parser("shared-prefix", __doc__, n=1).parse_args(arguments)
    console.print(ABOUT)
    return conclude(
        *(
            Verdict(f"KV of {AGENTS} agents over one's, {kind}", _measure(kind), TARGET)
            for kind in KINDS
            for _ in range(options.n)
        )
    )


def _measure(kind: str) -> float:
    daemon = daemon_with(tiny=(("a", kind), ("b", "llama")))
    with daemon:
        client = daemon.client()
        sizes = []
        for agent in range(AGENTS):
            prompt = ids(SYSTEM, 1) + ids(OWN, 50 + agent)
            ask(client, "a", tokens=prompt, session=f"agent{agent}", max_tokens=ANSWER)
            if agent in (0, AGENTS - 1):
                client.swap("b")
                sizes.append(sum(kv_files(daemon.home, "blocks").values()))
        tails = kv_files(daemon.home, "tails")
    console.print(
        f"{kind}: blocks of one agent {sizes[0] / MIB:.3f} MiB, of {AGENTS} {sizes[1] / MIB:.3f}"
        f" MiB; {len(tails)} tails {sum(tails.values()) / MIB:.3f} MiB"
    )
    return sizes[1] / sizes[0]
