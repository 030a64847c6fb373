"""Block arithmetic: how many blocks of 256 tokens a KV budget holds for a model. Pure.

Recomputed from the budget and the record at every seating; nothing of the model before it stays.
Blocks are the unit of accounting and of disk, not of MLX memory.
"""

from msgspec import Struct

from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.model import STATES_HELD, ModelRecord


class BlockGeometry(Struct, frozen=True, kw_only=True):
    """What a block and a sequence cost.

    `window_bytes` is what one sequence takes whatever its length: full sliding windows, recurrent
    state and the snapshot it can go back to.
    """

    block_bytes: int
    window_bytes: int


class BlockPool(Struct, frozen=True, kw_only=True):
    """Blocks of one seating: used + free = total, always."""

    geometry: BlockGeometry
    total: int
    used: int = 0

    @property
    def free(self) -> int:
        """Blocks that can still be taken."""
        return self.total - self.used

    def take(self, blocks: int) -> "BlockPool | None":
        """The pool with `blocks` more used, or None when it has not that many."""
        if blocks < 0 or blocks > self.free:
            return None
        return BlockPool(geometry=self.geometry, total=self.total, used=self.used + blocks)

    def give_back(self, blocks: int) -> "BlockPool":
        """The pool with `blocks` fewer used; giving back what was not taken is a ValueError."""
        if not 0 <= blocks <= self.used:
            raise ValueError(f"{blocks} blocks given back, {self.used} are used")
        return BlockPool(geometry=self.geometry, total=self.total, used=self.used - blocks)


def block_geometry(record: ModelRecord) -> BlockGeometry:
    """Bytes of a block in the layers that keep every token, and of all the others."""
    return BlockGeometry(
        block_bytes=BLOCK_TOKENS * record.kv_bytes_per_token,
        window_bytes=record.window_bytes + STATES_HELD * record.state_bytes,
    )


def blocks_for_tokens(tokens: int, geometry: BlockGeometry) -> int:
    """Blocks that a sequence of `tokens` takes, its fixed bytes counted as blocks, rounded up.

    A model of windows or recurrent layers only has blocks of no bytes; these are then one block
    per sequence.
    """
    if tokens <= 0:
        return 0
    full = -(-tokens // BLOCK_TOKENS)
    if geometry.block_bytes == 0:
        return 1
    return full + -(-geometry.window_bytes // geometry.block_bytes)


def block_pool(record: ModelRecord, budget_bytes: int) -> BlockPool:
    """An unused pool as large as the budget allows; never larger than it."""
    geometry = block_geometry(record)
    unit = geometry.block_bytes or geometry.window_bytes
    total = max(budget_bytes, 0) // unit if unit else 0
    return BlockPool(geometry=geometry, total=total)
