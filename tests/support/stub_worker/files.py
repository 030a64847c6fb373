"""KV files of the stub: JSON that names what it stands for, under the names of the real worker."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from hotseat.protocol.failpoints import reach
from hotseat.protocol.ids import BlockId, Epoch, Tag
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_orders import TailRef
from hotseat.protocol.link_reports import BlockWritten, FromWorker, TailWritten
from hotseat.protocol.tokens import block_chain, pack_tokens, root_id


class StubFiles:
    def __init__(
        self,
        send: Callable[[FromWorker], None],
        kv_dir: Path,
        tag: Tag,
        epoch: Epoch,
        kind: Literal["files", "none"],
    ) -> None:
        self._send = send
        self._kv_dir = kv_dir
        self._tag = tag
        self._epoch = epoch
        self._kind = kind
        self._written: set[BlockId] = set()
        self._tails: dict[str, list[int]] = {}
        self._sequence = 0

    def write_blocks(self, ids: list[int]) -> None:
        if self._kind == "none":
            return
        parent = root_id(self._tag)
        for index, block in enumerate(block_chain(self._tag, ids)):
            if block not in self._written:
                self._written.add(block)
                name = block_name(block)
                size = self._write(name, self._block_facts(block))
                self._send(
                    BlockWritten(
                        block=block, parent=parent, index=index, file=name, size_bytes=size
                    )
                )
            parent = block

    def is_durable(self, session: str, ids: list[int]) -> bool:
        """True if all of `ids` is on disk, or none of it has to be."""
        is_whole = len(ids) % BLOCK_TOKENS == 0
        return is_whole or self._kind == "none" or self._tails.get(session) == ids

    def write_tail(self, session: str, ids: list[int]) -> int:
        self._tails[session] = list(ids)
        parent = [root_id(self._tag), *block_chain(self._tag, ids)][-1]
        tokens = pack_tokens(ids[len(ids) // BLOCK_TOKENS * BLOCK_TOKENS :])
        self._sequence += 1
        name = f"tails/{self._epoch}-{self._sequence}-{os.urandom(4).hex()}.kv"
        size = self._write(name, self._tail_facts(parent, tokens))
        self._send(
            TailWritten(
                session=session, parent=parent, tokens=tokens, hint=b"", file=name, size_bytes=size
            )
        )
        return size

    def has_block(self, block: BlockId) -> bool:
        return self._matches(block_name(block), self._block_facts(block))

    def has_tail(self, tail: TailRef) -> bool:
        return self._matches(tail.file, self._tail_facts(tail.parent, tail.tokens))

    def _block_facts(self, block: BlockId) -> dict[str, str]:
        return {"tag": self._tag, "block": block}

    def _tail_facts(self, parent: BlockId, tokens: bytes) -> dict[str, str]:
        return {"tag": self._tag, "parent": parent, "tokens": tokens.hex()}

    def _write(self, name: str, facts: dict[str, str]) -> int:
        path = self._kv_dir / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        data = json.dumps(facts).encode()
        temporary = path.with_name(f".{path.name}.{self._epoch}.tmp")
        reach("kv.writing")
        temporary.write_bytes(data)
        reach("kv.synced")
        temporary.rename(path)
        reach("kv.published")
        return len(data)

    def _matches(self, name: str, facts: dict[str, str]) -> bool:
        try:
            return bool(json.loads((self._kv_dir / name).read_bytes()) == facts)
        except (OSError, ValueError):
            return False


def block_name(block: BlockId) -> str:
    return f"blocks/{block[:2]}/{block}.kv"
