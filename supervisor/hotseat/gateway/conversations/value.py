"""What makes two histories the same conversation. Pure.

Clients send everything again with each request, and not to the byte: the JSON of arguments is
spaced anew, text comes in parts, reasoning is left out. Equal by value is what counts.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from hotseat.gateway.callers import KEY_MARK, owned
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MAX_DEPTH
from hotseat.protocol.messages import Message, Tool

_BYTES: Final = 16
_ROOT_DIGITS: Final = 24
SYSTEM_ROLES: Final = frozenset({"system", "developer"})
_PREFIX: Final = "http:"
_BRIEF: Final = "-brief"
_MADE_HERE: Final = re.compile(
    rf"(?:{KEY_MARK}[^:]+:)?{_PREFIX}([0-9a-f]{{{_ROOT_DIGITS}}}:)?[0-9a-f]{{8}}({_BRIEF})?"
)


class Head(Struct, frozen=True, kw_only=True):
    """What stands before all messages. `owner`: whose key it came with; empty without keys.

    `is_brief`: nobody wants it kept; such conversations have sessions of their own. `has_ids`
    False: clients drop the ids of calls, so calls are equal by names and arguments.
    """

    owner: str
    model: str
    tools: tuple[Tool, ...] = ()
    template_args: Mapping[str, Any] = {}
    is_brief: bool = False
    has_ids: bool = True


class Point(Struct, frozen=True):
    """A place where somebody may go on: behind the reply that ends the first `count` messages."""

    count: int
    digest: bytes


class Traced(Struct, frozen=True, kw_only=True):
    """A history as it is looked for. `root`: head and all before the first reply, hex digits.

    `head`: the head alone; `kind`: with all before the first user message.
    """

    head: bytes
    root: str
    kind: bytes
    points: tuple[Point, ...]


def trace(head: Head, messages: Sequence[Message]) -> Traced:
    """All points of a history, first to last."""
    running = hashlib.blake2b(_encoded(head), digest_size=_BYTES)
    own = running.digest()
    root, kind = "", b""
    points: list[Point] = []
    for number, message in enumerate(messages):
        is_reply = message.role == "assistant"
        if not kind and message.role not in SYSTEM_ROLES:
            kind = running.digest()
        if is_reply and not root:
            root = running.hexdigest()
        running.update(_encoded(_value(message, has_ids=head.has_ids)))
        if is_reply:
            points.append(Point(number + 1, running.digest()))
    root = (root or running.hexdigest())[:_ROOT_DIGITS]
    return Traced(head=own, root=root, kind=kind or running.digest(), points=tuple(points))


def system_text(messages: Sequence[Message]) -> str:
    """What is said before the first user message."""
    leading = itertools.takewhile(lambda message: message.role in SYSTEM_ROLES, messages)
    return "\n".join(_text_of(message) for message in leading)


def open_points(traced: Traced, count: int) -> list[Point]:
    """Points with something new behind them in a history of `count` messages, longest first."""
    return [point for point in reversed(traced.points) if point.count < count]


def prefix_of(owner: str, root: str) -> str:
    """What the names of all sessions of conversations with this root begin with."""
    return owned(owner, f"{_PREFIX}{root}:")


def branch_prefix(owner: str, session: str) -> str:
    """The same for a branch of a session; one that a client named has no root."""
    made = _MADE_HERE.fullmatch(session)
    return owned(owner, f"{_PREFIX}{made[1] or ''}" if made else _PREFIX)


def name_of(prefix: str, nonce: str, *, is_brief: bool) -> str:
    """A name for a new session."""
    return f"{prefix}{nonce}{_BRIEF if is_brief else ''}"


def is_kept_briefly(session: str) -> bool:
    """True for sessions that were made here for those who want nothing kept."""
    made = _MADE_HERE.fullmatch(session)
    return made is not None and made[2] is not None


def is_made_here(session: str) -> bool:
    """True for sessions that the gateway made by itself."""
    return _MADE_HERE.fullmatch(session) is not None


def same_head(head: Head, instructions: str | None) -> str:
    """A short digest of what must be equal for a turn to be appended; hex digits."""
    own = hashlib.blake2b(_encoded(head), digest_size=6)
    own.update(_encoded(instructions or None))
    return own.hexdigest()


def digest_of(*values: Any) -> bytes:
    """The same for values that are equal; messages are compared by what they say."""
    running = hashlib.blake2b(digest_size=_BYTES)
    for value in values:
        running.update(_encoded(_value(value) if isinstance(value, Message) else value))
    return running.digest()


def _value(message: Message, *, has_ids: bool = True) -> list[Any]:
    text = _text_of(message)
    if message.role == "assistant":
        # Clients trim replies, and the line break before a call is no content to them.
        text = text.strip()
    return [
        "system" if message.role == "developer" else message.role,
        text,
        message.name,
        message.tool_call_id if has_ids else None,
        [
            [call.id if has_ids else None, call.name, _as_json(call.arguments)]
            for call in message.tool_calls
        ],
    ]


def _text_of(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(part.text or "" for part in message.content or ())


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _encoded(value: Any) -> bytes:
    """Bytes that are equal for equal values and never run into one another."""
    try:
        plain = msgspec.to_builtins(value)
        return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    except RecursionError as error:
        text = f"tools or arguments are nested too deeply; send at most {MAX_DEPTH} levels"
        raise HotseatError("invalid_request", text) from error
