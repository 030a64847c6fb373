"""Client library for agent runtimes: msgpack, msgspec and pyzmq; no mlx and no daemon."""

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
