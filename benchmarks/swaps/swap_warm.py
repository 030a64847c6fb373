"""Process swap over its raw cost, weights in the page cache: the swap may add little to it."""

from collections.abc import Sequence

from benchmarks.measure import (
    Verdict,
    base_parser,
    conclude,
    console,
    paired_ratio,
    print_arms,
    ratio,
    read_pages,
    touch_memory,
)
from benchmarks.random_models import random_model, weights_bytes
from benchmarks.swaps.swap_arms import BareArm, HotseatArm

TARGET = 1.10
SPREAD = 1.5
SIZE_MB = 2100
ROUND = 2
"""Swaps there and back before the samples: only then it is known which model may be next, and the
weights of both lie in memory that was touched ahead."""
COPIES = 6
"""Memory that is touched, in models: two processes each side of a swap, and both page caches."""


def main(arguments: Sequence[str] = ()) -> int:
    """Prints both arms, their parts and the verdict."""
    parser = base_parser("swap-warm", __doc__, n=30)
    parser.add_argument("--size-mb", type=int, default=SIZE_MB, help=f"weights ({SIZE_MB})")
    options = parser.parse_args(arguments)
    folders = [random_model(options.cache, options.size_mb, seed) for seed in (0, 1)]
    size = weights_bytes(folders[0])
    console.print(
        f"two random models of {size / 1e9:.2f} GB (float32, experts: a token is cheap); process"
        " swap, standby ready and idle before each, its memory touched; the bare arm has its next"
        " process imported and idle"
    )
    touch_memory(COPIES * size)
    bare, ours = BareArm(folders[0]), HotseatArm(folders)
    try:
        for turn in range(1, options.n + ROUND + 1):
            target = folders[turn % 2]
            for arm in (bare, ours) if turn % 2 else (ours, bare):
                read_pages(target)
                arm.swap(target)
            if turn <= ROUND:
                console.print(f"before the samples: {bare.forget():.3f} s, {ours.forget():.3f} s")
    finally:
        bare.close()
        ours.close()
    print_arms(
        "request for B to B's first token, page cache warm",
        [bare.arm, *bare.parts.values(), ours.arm, *ours.parts.values()],
    )
    paired = paired_ratio(ours.arm, bare.arm)
    console.print(
        f"median of the paired ratios: {paired:.3f}; bare max/median {bare.arm.spread:.2f}"
    )
    return conclude(
        Verdict("process swap over bare acts, warm", ratio(ours.arm, bare.arm), TARGET),
        Verdict("max/median of the process swap", ours.arm.spread, SPREAD),
    )
