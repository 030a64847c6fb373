"""Blocks whose files stay open, so that a layer's K and V can be read again and again.

Every part is verified when it is read first; from then on the file counts as the same while its
size and time are. A file that is unlinked meanwhile is read all the same. Knows no mlx.
"""

import threading
from pathlib import Path

from hotseat.protocol.ids import BlockId
from hotseat.protocol.model import ModelRecord
from hotseat.worker.store.direct_io import ALIGNMENT
from hotseat.worker.store.kv_file import OpenedKv, block_names
from hotseat.worker.store.kv_format import (
    KvDamagedError,
    LayerPart,
    check_identity,
    part_over,
    read_part,
)
from hotseat.worker.store.layout import check_block_parts
from hotseat.worker.store.reader import BlockToRead


class BlockLostError(Exception):
    """A block that a context is read from cannot be believed any more: the context is lost.

    `is_lasting`: the file must not be offered again.
    """

    def __init__(self, block: BlockId, file: str, reason: str, *, is_lasting: bool) -> None:
        super().__init__(f"block {block} of the context cannot be read: {reason}")
        self.block = block
        self.file = file
        self.reason = reason
        self.is_lasting = is_lasting


class KeptBlock:
    """One open file; `read` from any thread."""

    def __init__(self, kv_dir: Path, name: str, record: ModelRecord, block: BlockToRead) -> None:
        """Raises KvDamagedError."""
        self.block, parent, tokens = block
        self._name = name
        self._opened = OpenedKv(kv_dir, name, is_past_cache=True)
        try:
            header = self._opened.header
            check_identity(header, record.tag, parent, tokens)
            check_block_parts(header.parts, record.layers, record.kv_dtype)
            self._places = self._opened.places()
            self._stamp = self._opened.stamp()
        except BaseException:
            self._opened.close()
            raise
        self._lock = threading.Lock()
        self._verified: set[int] = set()

    def memory_bytes(self, entry: int) -> int:
        """How much memory `read` takes for a part."""
        return self._places[entry][0].size_bytes + 2 * ALIGNMENT

    def read(self, entry: int, memory: memoryview) -> LayerPart:
        """K and V of a layer, over `memory` (of `aligned_memory`). Raises BlockLostError."""
        part, offset = self._places[entry]
        try:
            region = self._opened.read(part.size_bytes, offset, memory)
            self._check_unchanged()
            if entry in self._verified:
                return part_over(part, region)
            found = read_part(part, region)
        except KvDamagedError as error:
            raise BlockLostError(
                self.block, self._name, error.reason, is_lasting=error.is_lasting
            ) from error
        with self._lock:
            self._verified.add(entry)
        return found

    def _check_unchanged(self) -> None:
        if self._opened.stamp() != self._stamp:
            raise KvDamagedError("changed while it was in use")

    def close(self) -> None:
        """Nobody reads it any more."""
        self._opened.close()


def keep_block(kv_dir: Path, record: ModelRecord, block: BlockToRead) -> KeptBlock:
    """The block under the last of its names that has it. Raises BlockLostError.

    A block is written under another name when what those before it have does not verify.
    """
    first: tuple[str, KvDamagedError] | None = None
    names = block_names(block[0])
    for name in [name for name in reversed(names) if (kv_dir / name).exists()] or names[:1]:
        try:
            return KeptBlock(kv_dir, name, record, block)
        except KvDamagedError as error:
            first = first or (name, error)
    assert first is not None  # noqa: S101 - a block has a name
    name, damage = first
    raise BlockLostError(block[0], name, damage.reason, is_lasting=damage.is_lasting) from damage
