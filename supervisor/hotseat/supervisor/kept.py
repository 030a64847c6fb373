"""Replies as they are stored, and what a reader gets of a stored one. Pure."""

import msgspec
from msgspec import Struct

from hotseat.protocol.replies import Chunk, ChunkPart, Done, ErrorBody
from hotseat.protocol.tokens import pack_tokens, unpack_tokens
from hotseat.supervisor.core.streams import Emission


class KeptReply(Struct, frozen=True, kw_only=True):
    """How a request ended. `text_ends`: packed, characters of text after each completion token.

    Text that came with several tokens counts behind the last of them, as in a running stream.
    """

    done: Done | None = None
    error: ErrorBody | None = None
    text_ends: bytes = b""

    @property
    def end(self) -> Done | ErrorBody:
        """The message that ends the stream."""
        if self.done is not None:
            return self.done
        return self.error or ErrorBody(code="internal", message="the stored reply is empty")

    def chunk_from(self, offset: int) -> Chunk | None:
        """All output after `offset` completion tokens; None when there is none."""
        if self.done is None:
            return None
        ends = unpack_tokens(self.text_ends)
        if offset > len(ends):
            return None
        start = ends[offset - 1] if offset else 0
        tokens = self.done.tokens[offset:]
        text = self.done.text[start:]
        if not tokens and not text:
            return None
        parts = (ChunkPart(type="text", text=text),) if text else ()
        return Chunk(seq=0, offset_tokens=offset, tokens=tokens, parts=parts)


def keep_done(done: Done, emissions: list[Emission]) -> KeptReply:
    """A reply with the places where its text can be cut."""
    ends: list[int] = []
    length = 0
    for emission in emissions:
        if emission.tokens:
            ends.extend([length] * (len(emission.tokens) - 1))
            ends.append(length + len(emission.text))
        length += len(emission.text)
    return KeptReply(done=done, text_ends=pack_tokens(ends))


def encode_kept(kept: KeptReply) -> bytes:
    """For the catalogue."""
    return msgspec.msgpack.encode(kept)


def decode_kept(data: bytes) -> KeptReply:
    """From the catalogue."""
    return msgspec.msgpack.decode(data, type=KeptReply)
