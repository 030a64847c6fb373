"""Answers in JSON, and errors as each dialect tells them. Must not know what is asked."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hotseat.gateway.callers import caller_of
from hotseat.gateway.door import refuse_deep
from hotseat.gateway.errors import anthropic_error, headers_of, openai_error, status_of
from hotseat.gateway.serving import CLOSED, ClientGoneError
from hotseat.protocol.errors import HotseatError

Handler = Callable[[Request], Awaitable[Response]]
LONGEST_LABEL: Final = 128
_OWN_IDS: Final = ("x-claude-code-session-id", "session-id", "thread-id", "x-session-id")


def guarded_openai(handler: Handler) -> Handler:
    """Errors of a handler as OpenAI's packages read them."""
    return _guarded(handler, lambda error, _request_id: openai_error(error))


def guarded_anthropic(handler: Handler) -> Handler:
    """Errors of a handler as Anthropic's packages read them."""
    return _guarded(handler, anthropic_error)


def _guarded(handler: Handler, told: Callable[[HotseatError, str], dict[str, Any]]) -> Handler:
    async def guarded(request: Request) -> Response:
        try:
            refuse_deep(await request.body())
            return await handler(request)
        except HotseatError as error:
            headers = headers_of(error) | identity()
            body = told(error, headers["x-request-id"])
            return answer(body, status=status_of(error), headers=headers)
        except (ClientGoneError, ClientDisconnect):
            return Response(status_code=CLOSED)

    return guarded


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON, with an id of its own."""
    return Response(
        msgspec.json.encode(value),
        status_code=status,
        media_type="application/json",
        headers=identity() | (headers or {}),
    )


def identity() -> dict[str, str]:
    """The header by which an answer is known."""
    return {"x-request-id": f"req_{secrets.token_hex(12)}"}


def label_of(request: Request) -> str:
    """The agent that asks: its product, and the id it gives itself if it gives one.

    Such an id is no conversation: titles, summaries and helpers run under the same one. The key
    comes first if it is not the owner's.
    """
    product = request.headers.get("user-agent", "").partition(" ")[0].partition("/")[0]
    own = next((found for name in _OWN_IDS if (found := request.headers.get(name))), "")
    label = f"{product or 'http'}/{own}" if own else product
    return caller_of(request.scope).label(label)[:LONGEST_LABEL]
