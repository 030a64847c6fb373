"""What every path says of an exchange: whose it is, its answer of JSON, errors in its dialect."""

import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hotseat.gateway.accounts import wait_if_it_generates
from hotseat.gateway.callers import caller_of
from hotseat.gateway.door import BodyTooLargeError, refuse_deep, told_refusal
from hotseat.gateway.errors import anthropic_error, headers_of, openai_error, status_of
from hotseat.gateway.serving import CLOSED, ClientGoneError
from hotseat.protocol.errors import HotseatError

Handler = Callable[[Request], Awaitable[Response]]
Told = Callable[[HotseatError, str], dict[str, Any]]
_log = logging.getLogger("hotseat.gateway")
SESSION_HEADER: Final = "x-hotseat-session"
LEFT_OUT_HEADER: Final = "x-hotseat-left-out"
_LONGEST_LABEL: Final = 128
_LONGEST_HEADER: Final = 1024
_OWN_IDS: Final = ("x-claude-code-session-id", "session-id", "thread-id", "x-session-id")


def guarded_openai(handler: Handler) -> Handler:
    """Errors of a handler as OpenAI's packages read them."""
    return guarded(handler, lambda error, _request_id: openai_error(error))


def guarded_anthropic(handler: Handler) -> Handler:
    """Errors of a handler as Anthropic's packages read them."""
    return guarded(handler, anthropic_error)


def guarded(handler: Handler, told: Told) -> Handler:
    """Errors of a handler in the words of `told`, which gets the id of the exchange too."""

    async def kept(request: Request) -> Response:
        try:
            refuse_deep(await request.body())
            wait_if_it_generates(request.scope)
            return await handler(request)
        except HotseatError as error:
            return _told_failure(error, told)
        except (ClientGoneError, ClientDisconnect):
            return Response(status_code=CLOSED)
        except BodyTooLargeError as error:
            told_body = told_refusal(request.url.path, error.refusal)
            return answer(told_body, error.refusal.status, {"x-should-retry": "false"})
        except Exception as defect:  # noqa: BLE001 - task root: a client must hear of it in its words
            _log.exception("request.failed")
            found = HotseatError("internal", f"the gateway failed ({type(defect).__name__})")
            return _told_failure(found, told)

    return kept


def _told_failure(error: HotseatError, told: Told) -> Response:
    headers = headers_of(error) | identity()
    body = told(error, headers["x-request-id"])
    return answer(body, status=status_of(error), headers=headers)


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


def left_out_header(left_out: tuple[str, ...]) -> dict[str, str]:
    """Tells what of a body has no effect."""
    if not left_out:
        return {}
    # Kinds come from the body: nothing but printable ASCII may stand in a header.
    told = ", ".join(left_out).encode("unicode_escape").decode("ascii")
    return {LEFT_OUT_HEADER: told[:_LONGEST_HEADER].strip() or "something without a name"}


def owner_of(request: Request) -> str:
    """Whose key it came with: sessions and responses are theirs. Empty for the home's owner."""
    return caller_of(request.scope).name


def session_of(request: Request) -> str | None:
    """The session that a client names, as it is called at the daemon."""
    given = request.headers.get(SESSION_HEADER)
    return caller_of(request.scope).session(given) if given else None


def product_of(request: Request) -> str:
    """The program that asks, as it calls itself."""
    return request.headers.get("user-agent", "").partition(" ")[0].partition("/")[0]


def label_of(request: Request) -> str:
    """The agent that asks: its product, and the id it gives itself if it gives one.

    Such an id is no conversation: titles, summaries and helpers run under the same one. The key
    comes first if it is not the owner's.
    """
    product = product_of(request)
    own = next((found for name in _OWN_IDS if (found := request.headers.get(name))), "")
    label = f"{product or 'http'}/{own}" if own else product
    return caller_of(request.scope).label(label)[:_LONGEST_LABEL]
