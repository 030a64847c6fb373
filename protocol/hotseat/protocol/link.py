"""Frames between supervisor and worker: messages as bytes and back, epoch on each. Pure.

Both ends run the same version, so the link is a stream of bytes that carries MessagePack by
msgspec with tagged structs and may carry binary. Token ids travel packed (`tokens.pack_tokens`).
"""

import struct
from typing import Final, NamedTuple

import msgspec

from hotseat.protocol.ids import Epoch
from hotseat.protocol.limits import MIB
from hotseat.protocol.link_orders import ToWorker
from hotseat.protocol.link_reports import FromWorker

_ENCODER = msgspec.msgpack.Encoder()
_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_HEAD: Final = struct.Struct("<IQ")
"""Before every body: its length in bytes, the epoch."""
MAX_BODY_BYTES: Final = 64 * MIB


class LinkFrame(NamedTuple):
    """One message as it travels."""

    epoch: Epoch
    body: bytes


def encode_link(epoch: Epoch, message: ToWorker | FromWorker) -> bytes:
    """Head and body, to be written as they are. Raises ValueError beyond the limit."""
    body = _ENCODER.encode(message)
    if len(body) > MAX_BODY_BYTES:
        kind = type(message).__name__
        raise ValueError(f"{kind} of {len(body)} bytes; the limit of a frame is {MAX_BODY_BYTES}")
    return _HEAD.pack(len(body), epoch) + body


class LinkReader:
    """Frames out of a stream that comes in pieces of any size."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[LinkFrame]:
        """Frames that are complete with `data`. Raises ValueError for one that is too long.

        What comes behind such a frame cannot be read any more.
        """
        rest = self._rest
        rest += data
        found = []
        at = 0
        while len(rest) - at >= _HEAD.size:
            length, epoch = _HEAD.unpack_from(rest, at)
            if length > MAX_BODY_BYTES:
                raise ValueError(f"a frame of {length} bytes; the limit is {MAX_BODY_BYTES}")
            end = at + _HEAD.size + length
            if end > len(rest):
                break
            found.append(LinkFrame(Epoch(epoch), bytes(rest[at + _HEAD.size : end])))
            at = end
        del rest[:at]
        return found


def decode_to_worker(body: bytes) -> ToWorker:
    """Raises ValueError for anything malformed (both ends are ours: a defect)."""
    return _TO_WORKER.decode(body)


def decode_from_worker(body: bytes) -> FromWorker:
    """Raises ValueError for anything malformed (both ends are ours: a defect)."""
    return _FROM_WORKER.decode(body)
