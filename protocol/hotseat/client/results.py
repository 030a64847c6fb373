"""Replies as the views they carry. Pure."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.replies import Reply
from hotseat.protocol.views import ModelView, SessionView

T = TypeVar("T")
CALL_S: Final = 30.0
"""A daemon that answers pings but not this is stuck; reads take it milliseconds."""


class ModelsResult(msgspec.Struct, frozen=True):
    """What `models` answers."""

    models: tuple[ModelView, ...]


class SessionsResult(msgspec.Struct, frozen=True):
    """What `sessions` answers."""

    sessions: tuple[SessionView, ...]


def typed(reply: Reply, kind: Callable[..., T]) -> T:
    """The result as its view; a field of the wrong type is a difference of versions."""
    result: Any = reply.result
    try:
        converted: T = msgspec.convert(result, kind)
    except msgspec.ValidationError as error:
        raise HotseatError(
            "bad_frame",
            f"daemon's answer is not a {kind.__name__.lstrip('_')}: {error}; client and daemon "
            "are of different versions",
        ) from error
    return converted
