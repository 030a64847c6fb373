"""Calls of a history as a model would have written them, for chat templates that show none.

The model does as it sees itself do. Must not know templates.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from hotseat.protocol.messages import ToolCall

_LISTS: Final = {
    "granite": ("<|tool_call|>", ""),
    "phi": ("<|tool_call|>", "<|/tool_call|>"),
}
"""What stands around all calls of a reply as one JSON list."""


def write_calls(calls: Sequence[ToolCall], name: str) -> str:
    """Text of calls in the format `name`; empty where it is not written here."""
    made = [(call.name, json.loads(call.arguments or "{}")) for call in calls]
    if name == "pythonic":
        listed = (f"{function}({_as_keywords(given)})" for function, given in made)
        return f"<|tool_call_start|>[{', '.join(listed)}]<|tool_call_end|>"
    texts = [
        json.dumps({"name": function, "arguments": given}, ensure_ascii=False)
        for function, given in made
    ]
    if name == "json_tools":
        return "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in texts)
    if name in _LISTS:
        start, end = _LISTS[name]
        return f"{start}[{', '.join(texts)}]{end}"
    return ""


def _as_keywords(given: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in given.items())
