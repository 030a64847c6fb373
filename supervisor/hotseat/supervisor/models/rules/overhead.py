"""What a worker of a model holds beside what MLX has in use, from several quiet moments. Pure.

On Metal a footprint can run gibibytes ahead of MLX's own count after one long prompt. The most
that was ever seen would make a model unfit for good; the middle of many does not.
"""

from typing import Final

from msgspec import Struct

from hotseat.protocol.limits import GIB

QUIET_S: Final = 2.0
"""Without work for so long: what MLX counts is from the same moment as the footprint."""
SAMPLES: Final = 20
CAP_BYTES: Final = 2 * GIB
"""Interpreter, libraries and Metal's heaps are less by far: more is memory of something else."""


class Overhead(Struct, frozen=True, kw_only=True):
    """The newest samples, bytes, one of each quiet time."""

    samples: tuple[int, ...] = ()

    def with_sample(self, size_bytes: int) -> "Overhead":
        """After one more quiet moment."""
        sample = min(max(size_bytes, 0), CAP_BYTES)
        return Overhead(samples=(*self.samples, sample)[-SAMPLES:])

    @property
    def size_bytes(self) -> int | None:
        """To plan with: the median, of an even number the larger; None before the first sample."""
        return sorted(self.samples)[len(self.samples) // 2] if self.samples else None


class Quiet(Struct, frozen=True, kw_only=True):
    """Since when a worker has had nothing to do; `of` is different for each quiet time."""

    of: tuple[int, int] = (0, 0)
    since: float = 0.0
    is_sampled: bool = False

    def seen(self, of: tuple[int, int], now: float) -> "Quiet":
        """After another look at an idle worker."""
        return self if of == self.of else Quiet(of=of, since=now)

    def is_due(self, now: float) -> bool:
        """True when the one sample of this quiet time can be taken."""
        return not self.is_sampled and now - self.since >= QUIET_S
