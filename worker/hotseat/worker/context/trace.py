"""What stands in the KV of one sequence: its tokens, the steps they took, its blocks. Pure."""

from collections.abc import Sequence

from msgspec import Struct

from hotseat.protocol.ids import BlockId, Tag
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.tokens import block_id, pack_tokens, root_id
from hotseat.worker.context.steps import StepLog
from hotseat.worker.store.kv_format import StatePart


class Snapshot(Struct, frozen=True):
    """What the recurrent layers held after the first `position` tokens."""

    position: int
    states: tuple[StatePart, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the states."""
        return sum(memoryview(state.data).nbytes for state in self.states)


class Trace:
    """Tokens in KV with their block ids. `stored_blocks` leading blocks are on disk or on the way.

    `tail_at` is the position of the newest durable tail, None without one. With recurrent layers
    there are `snapshots_at`, positions whose snapshots are on disk or on the way, and `snapshot`,
    the one in memory that a live context can go back to. `chain`: ids known already.
    """

    def __init__(
        self,
        tag: Tag,
        tokens: list[int],
        log: StepLog,
        stored_blocks: int = 0,
        chain: Sequence[BlockId] = (),
        *,
        is_recurrent: bool = False,
    ) -> None:
        self._tag = tag
        self.is_recurrent = is_recurrent
        self.snapshot: Snapshot | None = None
        self.snapshots_at: set[int] = set()
        self.tokens = tokens
        self.log = log
        self.chain = list(chain[: len(tokens) // BLOCK_TOKENS])
        self.stored_blocks = stored_blocks
        self.in_files = 0
        """So many leading blocks are in no memory any more: only in files that are open."""
        self.tail_at: int | None = None
        self._extend_chain()

    @property
    def position(self) -> int:
        """How many tokens have KV."""
        return len(self.tokens)

    @property
    def boundary(self) -> int:
        """Position of the last full block's end."""
        return len(self.chain) * BLOCK_TOKENS

    @property
    def is_tail_stored(self) -> bool:
        """True if nothing of the last partial block would be lost with the process."""
        if self.is_recurrent:
            return self.position in self.snapshots_at
        return self.position in (self.boundary, self.tail_at)

    def parent(self, index: int) -> BlockId:
        """Id of the block before block `index`, or the root."""
        return self.chain[index - 1] if index else root_id(self._tag)

    def stored_block(self, index: int) -> tuple[BlockId, BlockId, bytes]:
        """Block `index` as a reader wants it: (block, parent, packed tokens)."""
        begin = index * BLOCK_TOKENS
        tokens = pack_tokens(self.tokens[begin : begin + BLOCK_TOKENS])
        return self.chain[index], self.parent(index), tokens

    def feed(self, tokens: list[int]) -> bool:
        """Note one step that put `tokens` into KV; True if it completed a block."""
        self.tokens.extend(tokens)
        if self.log.advance(len(tokens)):
            self._extend_chain()
            return True
        return False

    def trim(self, position: int) -> None:
        """Forget what comes after `position`."""
        del self.tokens[position:]
        blocks = position // BLOCK_TOKENS
        del self.chain[blocks:]
        self.stored_blocks = min(self.stored_blocks, blocks)
        self.log = self.log.cut(position)
        self.tail_at = None
        self.snapshots_at = {one for one in self.snapshots_at if one <= position}

    def forget_stored(self, index: int) -> None:
        """Block `index` is not on disk, so nothing can be behind it either."""
        self.stored_blocks = max(min(self.stored_blocks, index), self.in_files)
        self.tail_at = None
        end = (index + 1) * BLOCK_TOKENS
        self.snapshots_at = {one for one in self.snapshots_at if one < end}

    def _extend_chain(self) -> None:
        while len(self.tokens) >= self.boundary + BLOCK_TOKENS:
            start = self.boundary
            block = self.tokens[start : start + BLOCK_TOKENS]
            self.chain.append(block_id(self._tag, self.parent(len(self.chain)), block))
