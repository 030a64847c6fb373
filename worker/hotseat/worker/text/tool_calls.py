"""Text of a tool call, as a model writes it, to calls and back; mlx-lm's parsers do the reading.

Must not know requests, streams or how a call is found in the output.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.messages import Tool, ToolCall

_ID_DIGITS: Final = 9
"""Mistral's templates insist on ids of nine letters or digits; no other minds."""


class ParsedCall(Struct, frozen=True):
    """A call; `arguments` is JSON text of an object, `id` is empty unless the model gave one."""

    name: str
    arguments: str
    id: str = ""


class CallError(ValueError):
    """What looked like a call is none; the text says why."""


def read_calls(text: str, tokenizer: Any, tools: Sequence[Tool]) -> list[ParsedCall]:
    """Calls in what stood between the marks. Raises CallError."""
    try:
        parsed = tokenizer.tool_parser(text, [plain_tool(tool) for tool in tools])
    except Exception as error:
        # The parsers raise whatever their regular expressions and ast.literal_eval raise, and
        # may quote what the model said: half a character in it could not be sent.
        reason = " ".join(str(error).split()) or type(error).__name__
        shown = reason[:200].encode(errors="backslashreplace").decode()
        raise CallError(f"the model's call cannot be read: {shown}") from error
    calls = parsed if isinstance(parsed, list) else [parsed]
    if not calls:
        raise CallError("the model's call names no function")
    return [_as_call(call) for call in calls]


def write_calls(calls: Sequence[ToolCall], parser: str) -> str:
    """Text of calls as a model writes it whose calls `parser` reads; empty where that is not known.

    For chat templates that show no calls: the model does as it sees itself do.
    """
    made = [(call.name, json.loads(call.arguments or "{}")) for call in calls]
    if parser == "pythonic":
        listed = (f"{name}({_as_keywords(given)})" for name, given in made)
        return f"<|tool_call_start|>[{', '.join(listed)}]<|tool_call_end|>"
    if parser == "json_tools":
        texts = (
            json.dumps({"name": name, "arguments": given}, ensure_ascii=False)
            for name, given in made
        )
        return "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in texts)
    return ""


def _as_keywords(given: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in given.items())


def call_id(request: RequestKey, index: int) -> str:
    """Id of the call at `index` of a request: the same again when the request is resumed."""
    return hashlib.blake2b(f"{request}:{index}".encode()).hexdigest()[:_ID_DIGITS]


def plain_tool(tool: Tool) -> dict[str, Any]:
    """The dict that chat templates and parsers read."""
    spec = tool.function
    function: dict[str, Any] = {"name": spec.name, "description": spec.description}
    function["parameters"] = spec.parameters or {"type": "object", "properties": {}}
    return {"type": tool.type, "function": function}


def _as_call(call: Any) -> ParsedCall:
    if not isinstance(call, dict) or not isinstance(call.get("name"), str) or not call["name"]:
        raise CallError("the model's call names no function")
    name, given = call["name"], call.get("id")
    _check_whole(name, "the name of a function")
    arguments = call.get("arguments", {})
    try:
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise CallError(f"arguments of {name} are no JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise CallError(f"arguments of {name} are {type(arguments).__name__}, not an object")
    _check_whole(text, f"arguments of {name}")
    chosen = given if isinstance(given, str) else ""
    _check_whole(chosen, f"the id of a call of {name}")
    return ParsedCall(name, text, chosen)


def _check_whole(text: str, what: str) -> None:
    """Raises CallError for text that no frame can hold: JSON can name half a character alone."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        raise CallError(f"{what} holds {half}, half of a character") from error
