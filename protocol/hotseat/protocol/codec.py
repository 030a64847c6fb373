"""Frames to structs and back, with every limit of the wire. Bytes in, objects out; no sockets.

A message is `[version, kind, request id, body]`; the body is a MessagePack map.
Raises `HotseatError` (bad_frame, unknown_kind, invalid_request, version_mismatch) and nothing else.
"""

import binascii
import math
import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar, get_args

import msgpack
import msgspec

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestId, is_request_id
from hotseat.protocol.limits import (
    MAX_DEPTH,
    MAX_FRAME_BYTES,
    MAX_FRAMES,
    MAX_ITEMS,
    MAX_MESSAGE_BYTES,
    MAX_PLAIN_TOKENS,
    MAX_SAFE_INTEGER,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
)
from hotseat.protocol.messages import ClientMessage, Generate
from hotseat.protocol.replies import DAEMON_KINDS, DaemonMessage, Done
from hotseat.protocol.tokens import pack_tokens, unpack_tokens
from hotseat.protocol.unknown_fields import unknown_fields

_ENVELOPE_FRAMES: Final = 4
_KIND_BYTES: Final = 32
T = TypeVar("T")
CLIENT_KINDS: dict[str, type[ClientMessage]] = {
    re.sub("(?<=.)(?=[A-Z])", "_", kind.__name__).lower(): kind for kind in get_args(ClientMessage)
}
"""By the name on the wire, which is the type's."""
_CLIENT_NAMES: Final = {kind: name for name, kind in CLIENT_KINDS.items()}
_DAEMON_NAMES: Final = {kind: name for name, kind in DAEMON_KINDS.items()}


class Envelope(msgspec.Struct, frozen=True):
    """The three frames in front of the body, checked but with the body still packed."""

    version: int
    kind: str
    request_id: RequestId
    body: bytes


def pack_body(message: msgspec.Struct) -> bytes:
    """MessagePack map of a struct, in the JSON-safe subset."""
    packed: bytes = msgpack.packb(msgspec.to_builtins(message, str_keys=True), use_bin_type=True)
    return packed


def unpack_body(data: bytes, kind: type[T]) -> T:
    """Typed struct from a body; errors name the path (`messages[2].content`)."""
    if len(data) > MAX_FRAME_BYTES:
        raise HotseatError(
            "bad_frame",
            f"body of {len(data)} bytes exceeds the limit of {MAX_FRAME_BYTES}; send less",
            size_bytes=len(data),
            limit_bytes=MAX_FRAME_BYTES,
        )
    plain = unpack_plain(data)
    if not isinstance(plain, dict):
        raise HotseatError("bad_frame", f"body is {type(plain).__name__}, not a map")
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise HotseatError("invalid_request", _with_path(str(error))) from error


def unpack_plain(data: bytes) -> Any:
    """MessagePack to plain objects under the limits of depth, items, keys and integers."""
    try:
        plain = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_str_len=MAX_FRAME_BYTES,
            max_bin_len=0,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise HotseatError("bad_frame", f"body is not MessagePack we accept: {reason}") from error
    _check_plain(plain)
    return plain


def _check_plain(plain: Any) -> None:
    """Depth, total items, string keys, range of numbers; without recursion."""
    stack = [(plain, 1)]
    items = 0
    while stack:
        value, depth = stack.pop()
        items += 1
        if depth > MAX_DEPTH:
            raise HotseatError("bad_frame", f"nesting exceeds {MAX_DEPTH} levels", limit=MAX_DEPTH)
        if items > MAX_ITEMS:
            raise HotseatError("bad_frame", f"more than {MAX_ITEMS} items", limit=MAX_ITEMS)
        if isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise HotseatError("bad_frame", f"map key of type {type(key).__name__}")
                stack.append((inner, depth + 1))
        elif isinstance(value, list):
            stack.extend((inner, depth + 1) for inner in value)
        elif isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER:
            raise HotseatError("bad_frame", "integer outside ±(2^53-1)")
        elif isinstance(value, float) and not math.isfinite(value):
            # Passes every comparison with a limit, and JSON has no way to write it.
            raise HotseatError("bad_frame", f"{value} is no number of JSON")


def _with_path(text: str) -> str:
    """Turns msgspec's "... - at `$.a[0]`" into "a[0]: ..."."""
    reason, _, path = text.partition(" - at `")
    path = path.rstrip("`").removeprefix("$").removeprefix(".")
    return f"{path}: {reason}" if path else reason


def open_envelope(frames: Sequence[bytes]) -> Envelope:
    """Checks counts, sizes, version, kind and request id of a received message."""
    total = sum(len(frame) for frame in frames)
    if len(frames) > MAX_FRAMES or total > MAX_MESSAGE_BYTES:
        raise HotseatError(
            "bad_frame",
            f"message of {len(frames)} frames, {total} bytes; limits are {MAX_FRAMES} frames, "
            f"{MAX_MESSAGE_BYTES} bytes",
            frames=len(frames),
            size_bytes=total,
        )
    if len(frames) != _ENVELOPE_FRAMES:
        raise HotseatError(
            "bad_frame", f"{len(frames)} frames; expected [version, kind, request id, body]"
        )
    version, kind, request_id, body = frames
    if not version.isdigit() or len(version) > 4:  # noqa: PLR2004 - a version has few digits
        raise HotseatError("bad_frame", "first frame is not a version number")
    if not PROTOCOL_MIN <= int(version) <= PROTOCOL_MAX:
        raise HotseatError(
            "version_mismatch",
            f"protocol {int(version)} is not spoken here ({PROTOCOL_MIN} to {PROTOCOL_MAX})",
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
        )
    try:
        kind_text, id_text = kind[:_KIND_BYTES].decode("ascii"), request_id.decode("ascii")
    except UnicodeDecodeError as error:
        raise HotseatError("bad_frame", "kind or request id is not ASCII") from error
    if not is_request_id(id_text):
        raise HotseatError(
            "bad_frame", "request id must be 1-64 characters out of letters, digits and ._:-"
        )
    return Envelope(int(version), kind_text, RequestId(id_text), body)


def decode_client(envelope: Envelope) -> ClientMessage:
    """Body of a message a client sent; a request notes the version it was written in."""
    kind = CLIENT_KINDS.get(envelope.kind)
    if kind is None:
        raise HotseatError("unknown_kind", f"unknown kind {envelope.kind!r}", kind=envelope.kind)
    message = unpack_body(envelope.body, kind)
    if isinstance(message, Generate):
        return msgspec.structs.replace(message, protocol=envelope.version)
    return message


def ignored_fields(envelope: Envelope) -> tuple[str, ...]:
    """What of a `generate` that was decoded before means nothing, as paths."""
    plain = msgpack.unpackb(envelope.body, raw=False)
    return tuple(field.path for field in unknown_fields(plain, Generate))


def decode_daemon(envelope: Envelope) -> DaemonMessage:
    """Body of a message the daemon sent."""
    kind = DAEMON_KINDS.get(envelope.kind)
    if kind is None:
        raise HotseatError("unknown_kind", f"unknown kind {envelope.kind!r}", kind=envelope.kind)
    message = unpack_body(envelope.body, kind)
    return _with_tokens(message) if isinstance(message, Done) else message


def encode_client(
    message: ClientMessage, request_id: RequestId, version: int = PROTOCOL_MAX
) -> list[bytes]:
    """Frames of a client message."""
    name = _CLIENT_NAMES[type(message)]
    return [str(version).encode(), name.encode(), request_id.encode(), pack_body(message)]


def encode_daemon(
    message: DaemonMessage, request_id: RequestId, version: int = PROTOCOL_MAX
) -> list[bytes]:
    """Frames of a daemon message."""
    if isinstance(message, Done):
        message = _with_packed_tokens(message)
    name = _DAEMON_NAMES[type(message)]
    return [str(version).encode(), name.encode(), request_id.encode(), pack_body(message)]


def _with_packed_tokens(done: Done) -> Done:
    """Long completions would break the limit of items: their ids travel as one string."""
    if len(done.tokens) <= MAX_PLAIN_TOKENS:
        return done
    packed = binascii.b2a_base64(pack_tokens(done.tokens), newline=False).decode()
    return msgspec.structs.replace(done, tokens=(), packed_tokens=packed)


def _with_tokens(done: Done) -> Done:
    if done.packed_tokens is None:
        return done
    try:
        tokens = unpack_tokens(binascii.a2b_base64(done.packed_tokens, strict_mode=True))
    except ValueError as error:
        raise HotseatError("invalid_request", f"packed_tokens: {error}") from error
    return msgspec.structs.replace(done, tokens=tuple(tokens), packed_tokens=None)
