"""Who may come in: the name a request came by, the page it came from, the key it brings, its size.

Looked at before any path is. The rules are functions; the class is an ASGI application around
another one. Must not know dialects.
"""

import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotseat.gateway.callers import SCOPE_KEY, Caller
from hotseat.gateway.depth import is_deeper
from hotseat.gateway.settings import LOOPBACK
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MAX_DEPTH, MAX_MESSAGE_BYTES

OPEN_PATHS: Final = frozenset({"/", "/health/live", "/health/ready"})
"""Nothing of a conversation, a model or a name is told there."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_CROWDED: Final = 503
_NOBODY: Final = Caller()
_PREFLIGHT: Final = "access-control-request-method"
FindCaller = Callable[[str], Caller | None]


class DoorPolicy(Struct, frozen=True, kw_only=True):
    """`hosts` are names without ports, `origins` whole ones."""

    hosts: frozenset[str] = LOOPBACK
    origins: frozenset[str] = frozenset()
    max_body_bytes: int = MAX_MESSAGE_BYTES


class Refusal(Struct, frozen=True):
    """Why somebody stays outside."""

    status: int
    code: str
    message: str


def look_at(policy: DoorPolicy, scope: Scope, find: FindCaller) -> Refusal | Caller:
    """Who comes in, or why not. `scope` is ASGI's of a request; `find` knows the keys.

    On paths that are open to all, whoever comes is nobody in particular.
    """
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    host = host_of(headers.get("host", ""))
    if host not in policy.hosts:
        text = f"this server is not {host or 'nameless'}; use {', '.join(sorted(policy.hosts))}"
        return Refusal(421, "misdirected", text)
    origin = headers.get("origin")
    if origin is not None and origin not in policy.origins:
        text = f"pages of {origin} may not come here; [http] origins lists those that may"
        return Refusal(403, "foreign_origin", text)
    is_open = scope["path"] in OPEN_PATHS or _is_preflight(scope["method"], headers)
    caller = _NOBODY if is_open else find(_given_key(headers))
    if caller is None:
        text = "the key is missing or wrong; `hotseat gateway --print-env` prints it"
        return Refusal(401, "unauthorized", text)
    return _judge_body(policy, scope["method"], headers) or caller


def _is_preflight(method: str, headers: dict[str, str]) -> bool:
    """A browser asks for a page whose origin was let in; it cannot bring a key."""
    return method == "OPTIONS" and "origin" in headers and _PREFLIGHT in headers


def _judge_body(policy: DoorPolicy, method: str, headers: dict[str, str]) -> Refusal | None:
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > policy.max_body_bytes:
        return too_large(policy)
    has_body = length not in ("", "0") or "transfer-encoding" in headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method not in _SAFE and has_body and kind != "application/json":
        text = f"a body is application/json, not {kind or 'of no type'}"
        return Refusal(415, "unsupported_media_type", text)
    return None


def too_large(policy: DoorPolicy) -> Refusal:
    """The refusal of a body that is too long, declared or not."""
    text = f"the body is longer than {policy.max_body_bytes} bytes; send less"
    return Refusal(413, "body_too_large", text)


def host_of(value: str) -> str:
    """The name in a Host header, lower case, without its port and brackets."""
    name = value.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def _given_key(headers: dict[str, str]) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")


def refuse_deep(body: bytes) -> None:
    """Raises HotseatError (invalid_request) for JSON that nests deeper than the wire takes.

    Before it is decoded. Whether brackets match is the decoder's business.
    """
    if is_deeper(body, MAX_DEPTH):
        text = f"body: brackets nest deeper than {MAX_DEPTH}; flatten it"
        raise HotseatError("invalid_request", text, limit=MAX_DEPTH)


class BodyTooLargeError(Exception):
    """A body without a declared length grew beyond the limit; whoever reads it answers."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Door:
    """An ASGI application that lets requests through to `inside`, or answers them itself."""

    def __init__(self, inside: ASGIApp, policy: DoorPolicy, find: FindCaller) -> None:
        self._inside = inside
        self._policy = policy
        self._find = find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; websockets end here."""
        if scope["type"] == "lifespan":
            await self._inside(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        found = look_at(self._policy, scope, self._find)
        if isinstance(found, Refusal):
            await _send_refusal(send, scope["path"], found)
            return
        scope[SCOPE_KEY] = found
        await self._inside(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        size = 0

        async def take() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._policy.max_body_bytes:
                raise BodyTooLargeError(too_large(self._policy))
            return message

        return take


async def refuse_crowd(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI application for connections that are too many."""
    del receive
    text = "there are too many connections; end some, or ask again in a second"
    refusal = Refusal(_CROWDED, "too_many_connections", text)
    await _send_refusal(
        send, scope["path"], refusal, (b"retry-after", b"1"), (b"connection", b"close")
    )


async def _send_refusal(
    send: Send, path: str, refusal: Refusal, *more: tuple[bytes, bytes]
) -> None:
    body = msgspec.json.encode(told_refusal(path, refusal))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-should-retry", b"true" if refusal.status == _CROWDED else b"false"),
        (b"x-request-id", f"req_{secrets.token_hex(12)}".encode()),
        *more,
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def told_refusal(path: str, refusal: Refusal) -> dict[str, Any]:
    """The body in the dialect of a path."""
    kinds = {
        401: "authentication_error",
        403: "permission_error",
        413: "request_too_large",
        _CROWDED: "overloaded_error",
    }
    error = {
        "type": kinds.get(refusal.status, "invalid_request_error"),
        "message": refusal.message,
    }
    return in_dialect(path, error, refusal.code)


def in_dialect(path: str, error: dict[str, Any], code: str) -> dict[str, Any]:
    """An error without a handler, in the words of a path; `error` is a type and a message."""
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": error}
    if path.startswith("/api/"):
        return {"error": error["message"]}
    return {"error": {**error, "code": code, "param": None}}
