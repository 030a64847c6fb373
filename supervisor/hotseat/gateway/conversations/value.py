"""What makes two histories the same conversation. Pure.

Clients send everything again with each request, and not to the byte: the JSON of arguments is
spaced anew, text comes in parts, reasoning is left out. Equal by value is what counts.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from hotseat.protocol.messages import Message, Tool

_BYTES: Final = 16
_ROOT_DIGITS: Final = 24
_PREFIX: Final = "http:"


class Head(Struct, frozen=True, kw_only=True):
    """What stands before all messages. `owner`: whose key it came with; empty without keys."""

    owner: str
    model: str
    tools: tuple[Tool, ...] = ()
    template_args: Mapping[str, Any] = {}


class Point(Struct, frozen=True):
    """A place where somebody may go on: behind the reply that ends the first `count` messages."""

    count: int
    digest: bytes


class Traced(Struct, frozen=True, kw_only=True):
    """A history as it is looked for. `root`: head and all before the first reply, hex digits."""

    root: str
    points: tuple[Point, ...]


def trace(head: Head, messages: Sequence[Message]) -> Traced:
    """All points of a history, first to last."""
    running = hashlib.blake2b(_encoded(head), digest_size=_BYTES)
    root = ""
    points: list[Point] = []
    for number, message in enumerate(messages):
        is_reply = message.role == "assistant"
        if is_reply and not root:
            root = running.hexdigest()
        running.update(_encoded(_value(message)))
        if is_reply:
            points.append(Point(number + 1, running.digest()))
    return Traced(root=(root or running.hexdigest())[:_ROOT_DIGITS], points=tuple(points))


def open_points(traced: Traced, count: int) -> list[Point]:
    """Points with something new behind them in a history of `count` messages, longest first."""
    return [point for point in reversed(traced.points) if point.count < count]


def prefix_of(root: str) -> str:
    """What the names of all sessions of conversations with this root begin with."""
    return f"{_PREFIX}{root}:"


def branch_prefix(session: str) -> str:
    """The same for a branch of a session; one of a session with a name of its own has no root."""
    own, _, _ = session.rpartition(":")
    return f"{own}:" if session.startswith(_PREFIX) and own else _PREFIX


def is_made_here(session: str) -> bool:
    """True for sessions that the gateway made by itself."""
    return session.startswith(_PREFIX)


def same_head(head: Head, instructions: str | None) -> str:
    """A short digest of what must be equal for a turn to be appended; hex digits."""
    own = hashlib.blake2b(_encoded(head), digest_size=6)
    own.update(_encoded(instructions))
    return own.hexdigest()


def _value(message: Message) -> list[Any]:
    content = message.content
    text = content if isinstance(content, str) else _joined(message)
    if message.role == "assistant":
        # Clients trim replies, and the line break before a call is no content to them.
        text = text.strip()
    return [
        "system" if message.role == "developer" else message.role,
        text,
        message.name,
        message.tool_call_id,
        [[call.id, call.name, _as_json(call.arguments)] for call in message.tool_calls],
    ]


def _joined(message: Message) -> str:
    parts = message.content if isinstance(message.content, tuple) else ()
    return "".join(part.text or "" for part in parts)


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _encoded(value: Any) -> bytes:
    """Bytes that are equal for equal values and never run into one another."""
    plain = msgspec.to_builtins(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode() + b"\n"
