"""Eight forks of a context of 4,096 tokens: how many tails are written, what is computed again."""

import statistics
from collections.abc import Sequence

from benchmarks.homes import Talk, daemon_with, ids, kv_files
from benchmarks.measure import MIB, Arm, Verdict, base_parser, conclude, console, print_arms

FORKS = 8
CONTEXT = 4096 + 50
MESSAGE, ANSWER = 24, 16
KINDS = ("llama", "gemma3")
ABOUT = """\
Tiny models. A session of 4,146 tokens is checkpointed, forked eight times, then each fork gets a
message of 24 ids of its own and answers 16 tokens; then all is checkpointed by a swap. Computed
beyond: what a fork's turn ran through the model besides its message and the token before it, of
which no KV is kept."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints what was written and computed for each kind, and the verdicts."""
    base_parser("fork", __doc__, n=1).parse_args(arguments)
    console.print(ABOUT)
    verdicts = []
    for kind in KINDS:
        for is_live in (True, False):
            verdicts += _measure(kind, is_live=is_live)
    return conclude(*verdicts)


def _measure(kind: str, *, is_live: bool) -> list[Verdict]:
    where = "live" if is_live else "cold"
    daemon = daemon_with(tiny=(("a", kind), ("b", "llama")))
    with daemon:
        client = daemon.client()
        origin = Talk(client, "a", "origin")
        origin.turn(ids(CONTEXT, 1), 1)
        client.swap("b")
        if is_live:
            # The context is in memory again, and its files are there all the same.
            client.swap("a")
            origin.turn(ids(4, 2), 1)
        before = {kind: kv_files(daemon.home, kind) for kind in ("blocks", "tails")}
        written_before = client.disk().bytes_written
        beyond, first = [], Arm(f"{kind}, {where}: first token of a fork")
        for number in range(FORKS):
            client.fork_session("a", "origin", f"fork{number}")
            fork = Talk(client, "a", f"fork{number}", origin.held)
            turn = fork.turn(ids(MESSAGE, 10 + number), ANSWER)
            beyond.append(turn.done.usage.computed_tokens - MESSAGE - 1)
            first.samples.append(turn.first_token_s)
        client.swap("b")
        written = client.disk().bytes_written - written_before
        new = {
            kind: kv_files(daemon.home, kind).keys() - files.keys()
            for kind, files in before.items()
        }
        own = {f"fork{number}" for number in range(FORKS)}
        sessions = [view for view in client.sessions("a") if view.session in own]
    origin_tails = 1 if is_live else 0
    print_arms(f"forks of a context of {CONTEXT} tokens, {kind}, {where}", [first])
    console.print(
        f"{kind}, {where}: {len(new['tails'])} tails and {len(new['blocks'])} blocks written,"
        f" {written / MIB:.3f} MiB; computed beyond the message {beyond};"
        f" tokens of the forks {statistics.median(view.tokens for view in sessions):.0f}"
    )
    figure = f"{kind}, {where}"
    return [
        Verdict(f"tails written by {FORKS} forks, {figure}", len(new["tails"]) - origin_tails, 8),
        Verdict(f"blocks written by {FORKS} forks, {figure}", len(new["blocks"]), 0),
        Verdict(f"tokens computed beyond the new ones, {figure}", max(beyond), 0),
    ]
