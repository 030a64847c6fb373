"""Server-sent events as bytes. Pure.

There is never an `id:` line and never a lone `retry:`: a client package in wide use makes an empty
event of the comment that follows one, and fails on it.
"""

from typing import Any, Final

import msgspec

COMMENT: Final = b": hotseat\n\n"
"""A sign of life that no client takes for an event."""
DONE: Final = b"data: [DONE]\n\n"
MEDIA_TYPE: Final = "text/event-stream"
_ENCODER: Final = msgspec.json.Encoder()


def data_event(value: Any) -> bytes:
    """An event without a name."""
    return b"data: " + _ENCODER.encode(value) + b"\n\n"


def named_event(name: str, value: Any) -> bytes:
    """An event with its name in front."""
    return b"event: " + name.encode() + b"\n" + data_event(value)
