"""Errors of the daemon in the words of each dialect. Pure.

The texts are looked for by agents: by them they compact a conversation, wait, or give up.
"""

import math
from typing import Any, Final

from hotseat.protocol.errors import HotseatError

_SECONDS: Final = (1, 60)
"""Retry-After is obeyed to the letter, so it is neither nothing nor for ever."""
_OPENAI_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_CODES: Final = {
    "unknown_model": "model_not_found",
    "context_overflow": "context_length_exceeded",
    "bad_frame": "invalid_request",  # frames are made here, of what the body holds
}
_FORBIDDEN: Final = "forbidden"
_OVERLOADED: Final = frozenset({"draining", "shutting_down", "daemon_unreachable"})


class ForbiddenError(HotseatError):
    """What a key may not do; the table of the wire knows no keys."""

    def __init__(self, message: str) -> None:
        super().__init__("invalid_request", message)


def code_of(error: HotseatError) -> str:
    """The code as OpenAI's packages know it."""
    return _FORBIDDEN if isinstance(error, ForbiddenError) else _CODES.get(error.code, error.code)


def message_of(error: HotseatError) -> str:
    """One sentence; of a prompt that is too long the words by which agents know it."""
    if error.code != "context_overflow":
        return error.message
    facts = error.facts
    tokens = facts.get("prompt_tokens")
    limits = [facts.get("context_tokens"), facts.get("kv_fit_tokens")]
    known = [int(limit) for limit in limits if isinstance(limit, int)]
    if not isinstance(tokens, int) or not known:
        return error.message
    most = min(known) - 1
    return (
        f"prompt is too long: {tokens} tokens > {most} maximum (this model's maximum context "
        f"length is {most} tokens)"
    )


def status_of(error: HotseatError) -> int:
    """The HTTP status."""
    return 403 if isinstance(error, ForbiddenError) else error.spec.http_status


def headers_of(error: HotseatError) -> dict[str, str]:
    """Whether and when asking again makes sense."""
    retryable = bool(getattr(error, "retryable", error.spec.retryable))
    headers = {"x-should-retry": "true" if retryable else "false"}
    if retryable:
        low, high = _SECONDS
        wait_s = error.retry_after_s if error.retry_after_s is not None else low
        headers["retry-after"] = str(min(max(math.ceil(wait_s), low), high))
    return headers


def openai_error(error: HotseatError) -> dict[str, Any]:
    """Body of Chat, Completions and Responses."""
    status = status_of(error)
    field = error.facts.get("field")
    code = code_of(error)
    if error.code == "session_missing" and field == "previous_response_id":
        code = "previous_response_not_found"
    return {
        "error": {
            "message": message_of(error),
            "type": _OPENAI_TYPES.get(status, "server_error"),
            "param": field if isinstance(field, str) else None,
            "code": code,
        }
    }


def anthropic_error(error: HotseatError, request_id: str) -> dict[str, Any]:
    """Body of Messages."""
    kind = _ANTHROPIC_TYPES.get(status_of(error), "api_error")
    if error.code in _OVERLOADED:
        kind = "overloaded_error"
    return {
        "type": "error",
        "error": {"type": kind, "message": message_of(error)},
        "request_id": request_id,
    }
