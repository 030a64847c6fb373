"""Client library for agent runtimes: msgpack, msgspec and pyzmq; no mlx and no daemon.

Names are imported when they are first used, so that a command which only asks for the status does
not pay for asyncio.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hotseat.client.aio import AsyncClient
    from hotseat.client.errors import DaemonUnreachable, RequestFailed
    from hotseat.client.flow import (
        AsyncEvents,
        AsyncStream,
        arguments_of,
        calls_of,
        reasoning_of,
        text_of,
        tool_reply,
    )
    from hotseat.client.sync import Client, EventStream, Stream
    from hotseat.protocol.errors import HotseatError

__all__ = [
    "AsyncClient",
    "AsyncEvents",
    "AsyncStream",
    "Client",
    "DaemonUnreachable",
    "EventStream",
    "HotseatError",
    "RequestFailed",
    "Stream",
    "arguments_of",
    "calls_of",
    "reasoning_of",
    "text_of",
    "tool_reply",
]

_HOMES: Final = {
    "AsyncClient": "hotseat.client.aio",
    "AsyncEvents": "hotseat.client.flow",
    "AsyncStream": "hotseat.client.flow",
    "Client": "hotseat.client.sync",
    "DaemonUnreachable": "hotseat.client.errors",
    "EventStream": "hotseat.client.sync",
    "HotseatError": "hotseat.protocol.errors",
    "RequestFailed": "hotseat.client.errors",
    "Stream": "hotseat.client.sync",
    "arguments_of": "hotseat.client.flow",
    "calls_of": "hotseat.client.flow",
    "reasoning_of": "hotseat.client.flow",
    "text_of": "hotseat.client.flow",
    "tool_reply": "hotseat.client.flow",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What the library offers, imported or not."""
    return sorted(__all__)
