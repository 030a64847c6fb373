"""Whether what a worker had wired is back after its end. Pure; diagnosis, never a reason to fail.

Wired memory of a Mac is in use by every program that draws. So the worker's own part is looked
for, and nobody waits for it long: whether the next model fits is asked of available memory alone.
"""

from typing import Final

from msgspec import Struct

from hotseat.protocol.limits import GIB

STRANDED_BYTES: Final = GIB
"""Less than that not back is other programs' doing, or an end that was not waited for."""
MAX_STRANDED: Final = 3
"""Ends in a row that strand pages, after which only a restart of the Mac is left."""
WAIT_S: Final = 5.0
"""A process that ended in order gives its wired pages back within seconds, or not at all."""
BACK_SHARE: Final = 0.8
"""Of a worker's own that counts as all: other programs wire and unwire meanwhile."""


class Wired(Struct, frozen=True, kw_only=True):
    """What a worker had wired when it was told to end, and what was wired then all in all."""

    own_bytes: int
    at_end_bytes: int


def wired_of_worker(
    at_end_bytes: int | None, before_load_bytes: int | None, footprint_bytes: int | None
) -> Wired | None:
    """The worker's own: not more than it held, nor than was wired since before its load.

    None where the system does not tell what is wired.
    """
    if at_end_bytes is None:
        return None
    since = max(at_end_bytes - (before_load_bytes or 0), 0)
    return Wired(own_bytes=min(footprint_bytes or 0, since), at_end_bytes=at_end_bytes)


def not_back_bytes(wired: Wired | None, now_bytes: int | None) -> int | None:
    """What of it is still wired, 0 when enough is back; None where the system does not tell."""
    if now_bytes is None:
        return None
    if wired is None:
        return 0
    back = max(wired.at_end_bytes - now_bytes, 0)
    return 0 if back >= BACK_SHARE * wired.own_bytes else wired.own_bytes - back


class Strands(Struct, frozen=True, kw_only=True):
    """Ends of workers in a row whose wired pages did not come back, and of the newest how many."""

    in_a_row: int = 0
    not_back_bytes: int = 0

    @property
    def wants_restart(self) -> bool:
        """True when it is no accident any more."""
        return self.in_a_row >= MAX_STRANDED


def after_end(known: Strands, not_back: int | None) -> Strands:
    """One more end; an end whose pages came back makes all before it past."""
    if not not_back or not_back <= STRANDED_BYTES:
        return Strands()
    return Strands(in_a_row=known.in_a_row + 1, not_back_bytes=not_back)
