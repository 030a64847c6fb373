"""Replies as they are stored, and what a reader gets of a stored one. Pure."""

from collections.abc import Iterable
from itertools import accumulate

import msgspec
from msgspec import Struct

from hotseat.protocol.parts import join_parts, split_parts, text_part, units_of
from hotseat.protocol.replies import Chunk, ChunkPart, Done, ErrorBody
from hotseat.protocol.tokens import pack_tokens, unpack_tokens
from hotseat.supervisor.requests.rules.streams import MAX_CHUNK_ITEMS, Emission


class StoredReply(Struct, frozen=True, kw_only=True):
    """How a request ended. `text_ends`: packed, characters of text after each completion token.

    Text that came with several tokens counts behind the last of them, as in a running stream,
    unless it is known what each of them brought.
    """

    done: Done | None = None
    error: ErrorBody | None = None
    text_ends: bytes = b""
    parts: tuple[ChunkPart, ...] = ()
    """The whole output in order, where it is more than text; then the ends count its units."""

    @property
    def end(self) -> Done | ErrorBody:
        """The message that ends the stream."""
        if self.done is not None:
            return self.done
        return self.error or ErrorBody(code="internal", message="the stored reply is empty")

    def chunks_from(self, offset: int) -> list[Chunk]:
        """All output after `offset` completion tokens, in chunks that a frame can hold."""
        if self.done is None:
            return []
        ends = unpack_tokens(self.text_ends)
        if offset > len(ends):
            return []
        begin = ends[offset - 1] if offset else 0
        rest = split_parts(self.parts or text_part(self.done.text), begin)[1]
        chunks: list[Chunk] = []
        while True:
            tokens = self.done.tokens[offset : offset + MAX_CHUNK_ITEMS]
            after = offset + len(tokens)
            parts, rest = rest, ()
            if after < len(ends):
                parts, rest = split_parts(parts, ends[after - 1] - begin)
                begin = ends[after - 1]
            if tokens or parts:
                seq = len(chunks)
                chunks.append(Chunk(seq=seq, offset_tokens=offset, tokens=tokens, parts=parts))
            offset = after
            if offset >= len(ends):
                return chunks


def reply_of(done: Done, emissions: Iterable[Emission]) -> StoredReply:
    """A reply with the places where its text can be cut. `emissions` are gone through twice."""
    ends: list[int] = []
    length = 0
    has_parts = False
    for emission in emissions:
        has_parts = has_parts or bool(emission.parts)
        units = units_of(emission.all_parts)
        if emission.text_lengths:
            ends.extend(length + extent for extent in accumulate(emission.text_lengths))
        elif emission.tokens:
            ends.extend([length] * (len(emission.tokens) - 1))
            ends.append(length + units)
        length += units
    parts: tuple[ChunkPart, ...] = ()
    if has_parts:
        parts = join_parts(part for emission in emissions for part in emission.all_parts)
    return StoredReply(done=done, text_ends=pack_tokens(ends), parts=parts)


def encode_reply(stored: StoredReply) -> bytes:
    """For the catalogue."""
    return msgspec.msgpack.encode(stored)


def decode_reply(data: bytes) -> StoredReply:
    """From the catalogue."""
    return msgspec.msgpack.decode(data, type=StoredReply)
