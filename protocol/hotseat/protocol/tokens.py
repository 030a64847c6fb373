"""Token ids as bytes (unsigned 32-bit little endian) and the content address of KV blocks. Pure."""

import hashlib
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Final

from hotseat.protocol.ids import BlockId, Tag
from hotseat.protocol.limits import BLOCK_TOKENS

_DIGEST_BYTES: Final = 16
_BIG_ENDIAN: Final = sys.byteorder == "big"


def pack_tokens(tokens: Iterable[int]) -> bytes:
    """Four bytes per token, little endian."""
    packed = array("I", tokens)
    if _BIG_ENDIAN:
        packed.byteswap()
    return packed.tobytes()


def unpack_tokens(data: bytes) -> list[int]:
    """Inverse of `pack_tokens`; a length that is no multiple of four is a ValueError."""
    packed = array("I")
    packed.frombytes(data)
    if _BIG_ENDIAN:
        packed.byteswap()
    return packed.tolist()


def root_id(tag: Tag) -> BlockId:
    """Parent of the first block of every sequence under `tag`."""
    return BlockId(hashlib.blake2b(b"root:" + tag.encode(), digest_size=_DIGEST_BYTES).hexdigest())


def block_id(tag: Tag, parent: BlockId, tokens: Sequence[int]) -> BlockId:
    """Content address of a full block: equal prefixes under one tag have equal ids."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    digest.update(b"block:" + tag.encode() + b":" + parent.encode() + b":")
    digest.update(pack_tokens(tokens))
    return BlockId(digest.hexdigest())


def block_chain(tag: Tag, tokens: Sequence[int]) -> list[BlockId]:
    """Ids of all full blocks of a sequence, in order; the tail has none."""
    parent = root_id(tag)
    chain = []
    for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        parent = block_id(tag, parent, tokens[start : start + BLOCK_TOKENS])
        chain.append(parent)
    return chain
