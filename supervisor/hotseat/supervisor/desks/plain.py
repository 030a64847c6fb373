"""Views as dicts that JSON and MessagePack can hold: the last step of an answer."""

from typing import Any

import msgspec


def as_dict(view: msgspec.Struct) -> dict[str, Any]:
    """The JSON-safe form of a view."""
    plain: dict[str, Any] = msgspec.to_builtins(view, str_keys=True)
    return plain
