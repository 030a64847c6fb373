"""What other processes hold for good, as far as anybody can say: the least of a while. Pure."""

from typing import Final

from msgspec import Struct

WINDOW_S: Final = 60.0
"""What is held for less, by a build for instance, changes no plan."""


class Lasting(Struct, frozen=True):
    """What others held at moments of the last while.

    `seen` are pairs of seconds and bytes; what is more than at a later moment is left out.
    """

    seen: tuple[tuple[float, int], ...] = ()

    def with_sample(self, held_bytes: int, now: float) -> "Lasting":
        """`now`: seconds of a clock that does not go back."""
        kept = (one for one in self.seen if now - one[0] < WINDOW_S and one[1] < held_bytes)
        return Lasting((*kept, (now, held_bytes)))

    @property
    def least_bytes(self) -> int:
        """Of the last while; 0 until something was measured."""
        return self.seen[0][1] if self.seen else 0
