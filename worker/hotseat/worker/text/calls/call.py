"""A tool call that was read from a model's words, and what is no call.

Must not know a format, a request or a stream.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.messages import FunctionSpec, Tool
from hotseat.worker.text.calls.values import (
    DECODER,
    MismatchError,
    fit_object,
    kind_of,
    required_arguments,
)

_ID_DIGITS: Final = 9
"""Mistral's templates insist on ids of nine letters or digits; no other minds."""
_NOTHING: Final = (None, "")


class ParsedCall(Struct, frozen=True):
    """A call; `arguments` is JSON text of an object, `id` is empty unless the model gave one."""

    name: str
    arguments: str
    id: str = ""


Found = tuple[list[ParsedCall], int]
"""Calls that stand at the beginning of a text, at least one, and where the last one ends."""


class CallError(ValueError):
    """What looked like a call is none: the text says why, without the model's words.

    `position` counts characters from the beginning of what stood between the marks.
    """

    def __init__(self, reason: str, position: int = 0) -> None:
        super().__init__(reason)
        self.position = position


class CallUnfinishedError(CallError):
    """The text ends inside a value: what follows may still complete the call."""


class CallNotBegunError(CallError):
    """Nothing of a call stands there: the mark was said in passing."""


def make_call(name: Any, arguments: Any, tools: Sequence[Tool], chosen: Any = "") -> ParsedCall:
    """A call with arguments as the tool's schema wants them. Raises CallError.

    `arguments` is an object, JSON text of one, or nothing where the tool requires nothing.
    """
    if not isinstance(name, str) or not name:
        raise CallError("the call names no function")
    _check_whole(name, "the name of the function")
    spec = next((tool.function for tool in tools if tool.function.name == name), None)
    given = _object_of(arguments, spec)
    try:
        if spec is not None and spec.parameters:
            given = fit_object(given, spec.parameters)
        text = json.dumps(given, ensure_ascii=False, allow_nan=False)
    except MismatchError as error:
        raise CallError(str(error)) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise CallError("the arguments are no JSON") from error
    _check_whole(text, "the arguments")
    identity = chosen if isinstance(chosen, str) else ""
    _check_whole(identity, "the id")
    return ParsedCall(name, text, identity)


def call_id(request: RequestKey, index: int) -> str:
    """Id of the call at `index` of a request: the same again when the request is resumed."""
    return hashlib.blake2b(f"{request}:{index}".encode()).hexdigest()[:_ID_DIGITS]


def plain_tool(tool: Tool) -> dict[str, Any]:
    """The dict that chat templates read."""
    spec = tool.function
    function: dict[str, Any] = {"name": spec.name, "description": spec.description}
    function["parameters"] = spec.parameters or {"type": "object", "properties": {}}
    return {"type": tool.type, "function": function}


def schema_of(name: str, tools: Sequence[Tool]) -> dict[str, Any]:
    """The schema of a tool's arguments; empty for a tool that nobody gave."""
    for tool in tools:
        if tool.function.name == name:
            return tool.function.parameters or {}
    return {}


def skip_space(text: str, at: int) -> int:
    """The first position from `at` on that holds no white space."""
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _object_of(arguments: Any, spec: FunctionSpec | None) -> dict[str, Any]:
    if isinstance(arguments, str) and arguments.strip():
        try:
            arguments = DECODER.decode(arguments)
        except (ValueError, RecursionError) as error:
            raise CallError("the arguments are no JSON") from error
    schema = (spec.parameters if spec is not None else None) or {}
    if arguments in _NOTHING and not required_arguments(schema, schema):
        return {}
    if not isinstance(arguments, dict):
        raise CallError(f"the arguments are {kind_of(arguments)}, not an object")
    return arguments


def _check_whole(text: str, what: str) -> None:
    """Raises CallError for text that no frame can hold: JSON can name half a character alone."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        raise CallError(f"{what} holds {half}, half of a character") from error
