"""What every path says of an exchange: whose it is, and an answer of JSON with its id."""

import secrets
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

SESSION_HEADER: Final = "x-hotseat-session"
LEFT_OUT_HEADER: Final = "x-hotseat-left-out"
OWNER: Final = "hotseat.key"
"""Where the door writes into ASGI's scope whose key a request came with."""
_LONGEST_LABEL: Final = 128
_LONGEST_HEADER: Final = 1024
_OWN_IDS: Final = ("x-claude-code-session-id", "session-id", "thread-id", "x-session-id")


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON, with an id of its own."""
    return Response(
        msgspec.json.encode(value),
        status_code=status,
        media_type="application/json",
        headers=identity() | (headers or {}),
    )


def identity() -> dict[str, str]:
    """The id of an exchange; no other has it."""
    return {"x-request-id": f"req_{secrets.token_hex(12)}"}


def left_out_header(left_out: tuple[str, ...]) -> dict[str, str]:
    """Tells what of a body has no effect."""
    if not left_out:
        return {}
    # Kinds come from the body: nothing but printable ASCII may stand in a header.
    told = ", ".join(left_out).encode("unicode_escape").decode("ascii")
    return {LEFT_OUT_HEADER: told[:_LONGEST_HEADER].strip() or "something without a name"}


def owner_of(request: Request) -> str:
    """Whose key it came with: sessions and responses are theirs. Empty where there is one key."""
    return str(request.scope.get(OWNER, ""))


def label_of(request: Request) -> str:
    """The agent that asks: its product, and the id it gives itself if it gives one.

    Such an id is no conversation: titles, summaries and helpers run under the same one.
    """
    product = request.headers.get("user-agent", "").partition(" ")[0].partition("/")[0]
    own = next((found for name in _OWN_IDS if (found := request.headers.get(name))), "")
    return f"{product or 'http'}/{own}"[:_LONGEST_LABEL] if own else product[:_LONGEST_LABEL]
