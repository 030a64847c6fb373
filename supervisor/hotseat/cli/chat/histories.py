"""Reads a history that a user gives: a JSON list of messages, or plain text."""

from typing import Any

import msgspec

from hotseat.client.requests import as_message
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message


def read_history(given: str) -> list[Message] | str:
    """Messages if it is a JSON list, else the text itself. Raises invalid_request."""
    if not given.lstrip().startswith("["):
        return given
    try:
        return [as_message(entry) for entry in msgspec.json.decode(given, type=list[Any])]
    except (msgspec.DecodeError, HotseatError) as error:
        raise HotseatError(
            "invalid_request",
            f"the history is no JSON list of messages ({error}); give "
            '[{"role": "user", "content": "..."}, ...]',
            field="messages",
        ) from error
