"""Decode rate beside ten times the live budget in cold sessions, over a daemon without limits."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.homes import Talk, daemon_with, ids
from benchmarks.measure import (
    GIB,
    MIB,
    Arm,
    Verdict,
    base_parser,
    conclude,
    console,
    print_arms,
    ratio,
    touch_memory,
)

TARGET = 0.95
BUDGET_TOKENS, SESSION_TOKENS, TIMES = 8192, 2000, 10
ANSWER = 800
ABOUT = """\
Tiny llama. Constrained: a KV budget of {budget:.1f} MiB, sessions of 2,000 tokens until all of
them hold ten times that, all but the newest given up from memory; each sample is the next turn of
the oldest one, restored from disk. Unconstrained: the default budget, a session of the same
length whose KV is in memory. 800 tokens are decoded; the rate is from the first to the last at
the client."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints both arms, and the verdict."""
    options = base_parser("cold-sessions", __doc__, n=16).parse_args(arguments)
    per_token = _bytes_per_token()
    budget = BUDGET_TOKENS * per_token
    console.print(ABOUT.format(budget=budget / MIB))
    touch_memory(GIB)
    tight = daemon_with(tiny=(("a", "llama"),), settings=f"[memory]\nkv_budget_bytes = {budget}\n")
    wide = daemon_with(tiny=(("a", "llama"),))
    free, cold = Arm("unconstrained", "tok/s"), Arm("10x in cold sessions", "tok/s")
    restored = []
    with tight, wide:
        clients = tight.client(), wide.client()
        count = math.ceil(TIMES * BUDGET_TOKENS / SESSION_TOKENS)
        talks = [_open(clients[0], number) for number in range(count)]
        known = [_open(clients[1], number) for number in range(options.n)]
        views = clients[0].sessions("a")
        is_cold = [view.state == "cold" for view in views]
        console.print(
            f"{sum(view.tokens for view in views) * per_token / budget:.1f} times the budget in"
            f" {len(views)} sessions, {sum(is_cold)} of them cold"
        )
        for number in range(options.n):
            for arm, talk in _order(number, (free, known[number]), (cold, talks[number])):
                turn = talk.turn(ids(8, 300), ANSWER)
                arm.samples.append(turn.decode_rate)
                if arm is cold:
                    restored.append(turn.done.usage.disk_tokens)
    print_arms("decode rate", [free, cold])
    console.print(f"restored from disk per turn: {statistics.median(restored):.0f} tokens (median)")
    return conclude(Verdict("decode rate beside cold sessions", ratio(cold, free), TARGET, ">="))


def _order(number: int, *pairs: Any) -> Any:
    return pairs if number % 2 else pairs[::-1]


def _open(client: Any, number: int) -> Talk:
    talk = Talk(client, "a", f"s{number}")
    talk.turn(ids(SESSION_TOKENS - 2, number), 2)
    return talk


def _bytes_per_token() -> int:

    from tests.support.models import tiny_models as tiny

    return 3 * tiny.KV_HEADS * 2 * tiny.HEAD_DIM * 4
