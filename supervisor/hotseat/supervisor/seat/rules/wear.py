"""When a worker has run long enough to be replaced by a fresh one at a quiet moment. Pure.

Metal keeps at most 499,000 buffers in a process and MLX's count grows with the tokens computed
(about 300,000 tokens reach it); a footprint that creeps is memory nobody gets back otherwise.
"""

from typing import Final

from msgspec import Struct

from hotseat.protocol.limits import MIB

WORN_TOKENS: Final = 250_000
CREEP_SHARE: Final = 0.25
CREEP_LEAST_BYTES: Final = 512 * MIB


class Wear(Struct, frozen=True, kw_only=True):
    """What a worker did since its model was seated. Footprints are bytes, of a quiet worker."""

    epoch: int = 0
    tokens: int = 0
    first_footprint: int | None = None
    last_footprint: int | None = None

    def with_tokens(self, epoch: int, tokens: int) -> "Wear":
        """After computing more tokens; another epoch begins anew."""
        if epoch != self.epoch:
            return Wear(epoch=epoch, tokens=tokens)
        return Wear(
            epoch=epoch,
            tokens=self.tokens + tokens,
            first_footprint=self.first_footprint,
            last_footprint=self.last_footprint,
        )

    def with_footprint(self, epoch: int, size_bytes: int) -> "Wear":
        """After measuring it while nothing ran; live contexts are taken off by the caller."""
        tokens = self.tokens if epoch == self.epoch else 0
        first = self.first_footprint if epoch == self.epoch else None
        return Wear(
            epoch=epoch,
            tokens=tokens,
            first_footprint=size_bytes if first is None else first,
            last_footprint=size_bytes,
        )


def worn_reason(wear: Wear) -> str:
    """Why the worker should be replaced; empty when it should not."""
    if wear.tokens >= WORN_TOKENS:
        return f"{wear.tokens} tokens computed"
    if wear.first_footprint is None or wear.last_footprint is None:
        return ""
    crept = wear.last_footprint - wear.first_footprint
    if crept > max(CREEP_LEAST_BYTES, CREEP_SHARE * wear.first_footprint):
        return f"footprint grew by {crept / MIB:.0f} MiB"
    return ""
