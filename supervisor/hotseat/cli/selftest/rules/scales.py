"""How much of everything a run measures. Names no folder and no model."""

from typing import Final

from msgspec import Struct

from hotseat.protocol.limits import MIB


class Scale(Struct, frozen=True, kw_only=True):
    """One size of a run; the last word of a field is its unit, plain counts have none."""

    name: str
    takes: str
    syncs: int = 100
    commits: int = 100
    store_bytes: int = 256 * MIB
    touch_bytes: int = 512 * MIB
    kills: int = 10
    round_trips: int = 500
    fresh_starts: int = 3
    pairs: int = 2
    rows: tuple[int, ...] = (1, 2, 4)
    chunks_tokens: tuple[int, ...] = ()
    """Prefill at these chunk sizes too, beside the model's own."""
    prompt_tokens: int = 512
    new_tokens: int = 128
    rests_s: tuple[float, ...] = (0.0, 1.0, 5.0, 15.0)
    swaps: int = 3
    looks_s: tuple[float, ...] = (0.1, 0.5, 2.0)
    worker_kills: int = 1
    exact_tokens: int = 200
    neighbours: tuple[int, ...] = (1, 3)
    long_words: int = 800
    soak_s: float = 0.0
    limit_s: float = 120.0
    """For an entry; one that waits by design gets its waiting on top."""
    shares_daemon: bool = False
    """Entries follow each other in one process, with one daemon, as long as that goes well."""


QUICK: Final = Scale(name="quick", takes="5 minutes", soak_s=0.0)
FULL: Final = Scale(
    name="full",
    takes="25 minutes",
    syncs=200,
    commits=200,
    store_bytes=1024 * MIB,
    touch_bytes=1024 * MIB,
    pairs=3,
    chunks_tokens=(512, 1024),
    prompt_tokens=2048,
    new_tokens=256,
    rests_s=(0.0, 1.0, 5.0, 30.0, 120.0),
    swaps=10,
    looks_s=(0.1, 0.5, 2.0, 10.0),
    worker_kills=3,
    exact_tokens=500,
    long_words=3000,
    limit_s=600.0,
)
TINY: Final = Scale(
    name="tiny",
    takes="half a minute",
    syncs=3,
    commits=3,
    store_bytes=1 * MIB,
    touch_bytes=256 * MIB,
    kills=1,
    round_trips=20,
    fresh_starts=1,
    pairs=1,
    rows=(1, 2),
    prompt_tokens=40,
    new_tokens=12,
    rests_s=(0.0, 0.1),
    swaps=1,
    looks_s=(0.0,),
    worker_kills=1,
    exact_tokens=24,
    neighbours=(1,),
    long_words=60,
    limit_s=90.0,
    shares_daemon=True,
)
"""For the tests of hotseat itself."""
SCALES: Final = {scale.name: scale for scale in (QUICK, FULL, TINY)}
