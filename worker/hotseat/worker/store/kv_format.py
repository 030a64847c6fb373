"""Bytes of a KV file: what is laid out where, and what must hold before it is believed.

    prefix   64 bytes, little endian: magic, version, header length, file size, header digest,
             8 zero bytes, digest of the prefix so far
    header   MessagePack of `KvHeader`, padded with zeros to 64 bytes; the digest covers the padding
    parts    per cache entry: keys, padding, values, padding; one digest per part, padding included
    states   per array of recurrent layers: numbers, padding; one digest each. Snapshots only

Every byte of a file is under exactly one digest (xxh3, 128 bits: accidents, not attackers, are the
threat; names, tag, parent and tokens bind a file to its place). Offsets are not stored: they
follow from the shapes. Pure: must not open files and must not know mlx.
"""

import math
import struct
from typing import Annotated, Final

import msgspec
import xxhash
from msgspec import Meta, Struct

from hotseat.protocol.ids import BlockId, Tag
from hotseat.protocol.limits import MIB
from hotseat.protocol.model import FLOAT_BYTES, FloatType

FORMAT_VERSION: Final = 1
ALIGNMENT: Final = 64
PREFIX_BYTES: Final = 64
MAX_HEADER_BYTES: Final = 8 * MIB
DIGEST_BYTES: Final = 16
MAX_STATE_AXES: Final = 8
_MAGIC: Final = b"HOTSEAT\n"
_PREFIX: Final = struct.Struct("<8sIIQ16s8x")

Natural = Annotated[int, Meta(ge=0, le=2**40)]
Shape = tuple[Natural, Natural, Natural]
"""(kv_heads, tokens, dim)"""
Buffer = bytes | bytearray | memoryview


class KvDamagedError(Exception):
    """A KV file that must not be used; `reason` is short and stable enough to count by.

    `is_lasting`: the file itself is wrong or gone. False: this attempt failed (too many open
    files, no memory, no permission), the file may be fine.
    """

    def __init__(self, reason: str, *, is_lasting: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_lasting = is_lasting


class LayerPart(Struct, frozen=True, kw_only=True):
    """K and V of one cache entry, row-major (kv_heads, tokens, dim), little endian.

    `entry` is the index in the cache list. `tokens` is the number of newest tokens it holds.
    """

    entry: int
    tokens: int
    keys: Buffer
    values: Buffer
    k_shape: Shape
    v_shape: Shape
    dtype: FloatType


class StatePart(Struct, frozen=True, kw_only=True):
    """Array `slot` of the recurrent layer at cache `entry`, row-major, without the batch axis."""

    entry: int
    slot: int
    data: Buffer
    shape: tuple[Natural, ...]
    dtype: FloatType


class KvPayload(Struct, frozen=True, kw_only=True):
    """A block, a tail or a snapshot: `tokens` (packed ids) follow block `parent` under `tag`.

    Only a snapshot has `states`: those after the last of its tokens.
    """

    tag: Tag
    parent: BlockId
    tokens: bytes
    hint: bytes = b""
    parts: tuple[LayerPart, ...]
    states: tuple[StatePart, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of K, V and states."""
        numbers = sum(_nbytes(part.keys) + _nbytes(part.values) for part in self.parts)
        return numbers + sum(_nbytes(state.data) for state in self.states)


class PartHeader(Struct, frozen=True, kw_only=True, array_like=True):
    """A part without its bytes."""

    entry: Natural
    tokens: Natural
    dtype: FloatType
    k_shape: Shape
    v_shape: Shape
    digest: Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]

    @property
    def k_bytes(self) -> int:
        """Bytes of the keys."""
        return _shape_bytes(self.k_shape, self.dtype)

    @property
    def v_bytes(self) -> int:
        """Bytes of the values."""
        return _shape_bytes(self.v_shape, self.dtype)

    @property
    def v_offset(self) -> int:
        """Where the values start in the part."""
        return align(self.k_bytes)

    @property
    def size_bytes(self) -> int:
        """Bytes in the file, padding included."""
        return align(self.k_bytes) + align(self.v_bytes)


class StateHeader(Struct, frozen=True, kw_only=True, array_like=True):
    """A state without its bytes."""

    entry: Natural
    slot: Natural
    dtype: FloatType
    shape: Annotated[tuple[Natural, ...], Meta(max_length=MAX_STATE_AXES)]
    digest: Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]

    @property
    def data_bytes(self) -> int:
        """Bytes of the numbers."""
        return _shape_bytes(self.shape, self.dtype)

    @property
    def size_bytes(self) -> int:
        """Bytes in the file, padding included."""
        return align(self.data_bytes)


class KvHeader(Struct, frozen=True, kw_only=True):
    """Everything about a file but its numbers."""

    tag: Tag
    parent: BlockId
    tokens: bytes
    hint: bytes
    parts: tuple[PartHeader, ...]
    states: tuple[StateHeader, ...] = ()


class Prefix(Struct, frozen=True):
    """The fixed front of a file, verified against its own digest."""

    header_bytes: int
    file_bytes: int
    header_digest: bytes

    @property
    def payload_offset(self) -> int:
        """Where the first part starts."""
        return align(PREFIX_BYTES + self.header_bytes)


_ENCODER: Final = msgspec.msgpack.Encoder()
_HEADER: Final[msgspec.msgpack.Decoder[KvHeader]] = msgspec.msgpack.Decoder(KvHeader)


def align(size: int) -> int:
    """The next multiple of 64."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def digest(*pieces: Buffer) -> bytes:
    """xxh3, 128 bits, of the pieces one after another."""
    state = xxhash.xxh3_128()
    for piece in pieces:
        state.update(piece)
    return bytes(state.digest())


def encode_file(payload: KvPayload) -> list[Buffer]:
    """The file as pieces in order, without copying numbers; ValueError if shapes do not fit."""
    pieces: list[Buffer] = []
    headers = _encode_parts(payload, pieces)
    states = _encode_states(payload, pieces)
    body = _ENCODER.encode(
        KvHeader(
            tag=payload.tag,
            parent=payload.parent,
            tokens=payload.tokens,
            hint=payload.hint,
            parts=headers,
            states=states,
        )
    )
    padded = body + _padding(PREFIX_BYTES + len(body))
    total = PREFIX_BYTES + len(padded) + sum(len(piece) for piece in pieces)
    bare_prefix = _PREFIX.pack(_MAGIC, FORMAT_VERSION, len(body), total, digest(padded))
    return [bare_prefix + digest(bare_prefix) + padded, *pieces]


def _encode_parts(payload: KvPayload, pieces: list[Buffer]) -> tuple[PartHeader, ...]:
    headers = []
    for part in payload.parts:
        keys, values = flat(part.keys), flat(part.values)
        bare = PartHeader(
            entry=part.entry,
            tokens=part.tokens,
            dtype=part.dtype,
            k_shape=part.k_shape,
            v_shape=part.v_shape,
            digest=bytes(DIGEST_BYTES),
        )
        if keys.nbytes != bare.k_bytes or values.nbytes != bare.v_bytes:
            raise ValueError(
                f"cache entry {part.entry}: {keys.nbytes} and {values.nbytes} bytes for shapes "
                f"{part.k_shape} and {part.v_shape} of {part.dtype}"
            )
        region: list[Buffer] = [keys, _padding(keys.nbytes), values, _padding(values.nbytes)]
        headers.append(msgspec.structs.replace(bare, digest=digest(*region)))
        pieces += [piece for piece in region if len(piece)]
    return tuple(headers)


def _encode_states(payload: KvPayload, pieces: list[Buffer]) -> tuple[StateHeader, ...]:
    headers = []
    for state in payload.states:
        data = flat(state.data)
        bare = StateHeader(
            entry=state.entry,
            slot=state.slot,
            dtype=state.dtype,
            shape=state.shape,
            digest=bytes(DIGEST_BYTES),
        )
        if data.nbytes != bare.data_bytes:
            raise ValueError(
                f"state {state.slot} of cache entry {state.entry}: {data.nbytes} bytes for shape "
                f"{state.shape} of {state.dtype}"
            )
        region: list[Buffer] = [data, _padding(data.nbytes)]
        headers.append(msgspec.structs.replace(bare, digest=digest(*region)))
        pieces += [piece for piece in region if len(piece)]
    return tuple(headers)


def parse_prefix(data: Buffer, actual_bytes: int) -> Prefix:
    """Raises KvDamagedError unless the front is whole and the file has the length it states."""
    if len(data) < PREFIX_BYTES:
        raise KvDamagedError("truncated prefix")
    bare, stated = bytes(data[: _PREFIX.size]), bytes(data[_PREFIX.size : PREFIX_BYTES])
    magic, version, header_bytes, file_bytes, header_digest = _PREFIX.unpack(bare)
    if magic != _MAGIC:
        raise KvDamagedError("not a KV file")
    if digest(bare) != stated:
        raise KvDamagedError("prefix digest differs")
    if version != FORMAT_VERSION:
        raise KvDamagedError(f"format version {version}, not {FORMAT_VERSION}")
    if header_bytes > MAX_HEADER_BYTES:
        raise KvDamagedError("header too long")
    if file_bytes != actual_bytes:
        raise KvDamagedError(f"{actual_bytes} bytes, not {file_bytes}")
    return Prefix(header_bytes, file_bytes, header_digest)


def parse_header(prefix: Prefix, data: Buffer) -> KvHeader:
    """`data` is what lies between prefix and payload. Raises KvDamagedError."""
    if digest(data) != prefix.header_digest:
        raise KvDamagedError("header digest differs")
    try:
        header = _HEADER.decode(data[: prefix.header_bytes])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KvDamagedError(f"header does not decode: {error}") from error
    entries = [part.entry for part in header.parts]
    if len(set(entries)) != len(entries):
        raise KvDamagedError("a cache entry occurs twice")
    if any({part.k_shape[1], part.v_shape[1]} != {part.tokens} for part in header.parts):
        raise KvDamagedError("shapes contradict the number of tokens")
    if len({(state.entry, state.slot) for state in header.states}) != len(header.states):
        raise KvDamagedError("a state occurs twice")
    size = prefix.payload_offset + sum(part.size_bytes for part in header.parts)
    size += sum(state.size_bytes for state in header.states)
    if size != prefix.file_bytes:
        raise KvDamagedError("parts do not add up to the file")
    return header


def check_identity(
    header: KvHeader, tag: Tag, parent: BlockId | None, tokens: bytes | None
) -> None:
    """Raises KvDamagedError if the file belongs elsewhere; None is not compared."""
    if header.tag != tag:
        raise KvDamagedError("foreign tag")
    if parent is not None and header.parent != parent:
        raise KvDamagedError("other parent")
    if tokens is not None and header.tokens != tokens:
        raise KvDamagedError("other tokens")


def read_part(part: PartHeader, region: memoryview) -> LayerPart:
    """The part over `region` without a copy; raises KvDamagedError if its digest differs."""
    if digest(region) != part.digest:
        raise KvDamagedError(f"digest of cache entry {part.entry} differs")
    return part_over(part, region)


def part_over(part: PartHeader, region: memoryview) -> LayerPart:
    """The part over `region`, of which somebody knows that it is what was written."""
    return LayerPart(
        entry=part.entry,
        tokens=part.tokens,
        keys=region[: part.k_bytes],
        values=region[part.v_offset : part.v_offset + part.v_bytes],
        k_shape=part.k_shape,
        v_shape=part.v_shape,
        dtype=part.dtype,
    )


def read_state(state: StateHeader, region: memoryview) -> StatePart:
    """The state over `region` without a copy; raises KvDamagedError if its digest differs."""
    if digest(region) != state.digest:
        raise KvDamagedError(f"digest of state {state.slot} of cache entry {state.entry} differs")
    return StatePart(
        entry=state.entry,
        slot=state.slot,
        data=region[: state.data_bytes],
        shape=state.shape,
        dtype=state.dtype,
    )


def flat(data: Buffer) -> memoryview:
    """One-dimensional bytes over `data`; a view that is not contiguous is a ValueError."""
    view = memoryview(data)
    if view.nbytes == 0:
        return memoryview(b"")
    if not view.c_contiguous:
        raise ValueError("K and V must be contiguous")
    return view.cast("B")


def _nbytes(data: Buffer) -> int:
    return memoryview(data).nbytes


def _padding(size: int) -> bytes:
    return bytes(align(size) - size)


def _shape_bytes(shape: tuple[int, ...], dtype: FloatType) -> int:
    return math.prod(shape) * FLOAT_BYTES[dtype]
