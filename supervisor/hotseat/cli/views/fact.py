"""How the facts of events and log lines look to a person. For scripts there is --json."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

_CAUSE: Final = frozenset({"client", "request_id"})


def facts_text(facts: Mapping[str, Any]) -> str:
    """`name=value` pairs; what is None or an empty text is left out."""
    shown = {name: value for name, value in facts.items() if value is not None and value != ""}
    return " ".join(f"{name}={_value(value)}" for name, value in shown.items())


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        if value.keys() >= _CAUSE:  # who asked for a swap
            return f"{value['client']}/{value['request_id']}"
        return f"({facts_text(value)})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one) for one in value)}]"
    return msgspec.json.encode(value).decode()
