"""Input items of Responses to messages, and what the reasoning in them says. Pure.

One reply of a model comes back as several items in a row: reasoning, message, calls. They are one
message again here, as the model knows it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from hotseat.gateway.asked import LeftOut, refuse, unsupported
from hotseat.gateway.phases import without_phases
from hotseat.gateway.responses.tools import flat_name
from hotseat.protocol.messages import Message, Role, ToolCall

Opener = Callable[[str], str | None]
"""What sealed reasoning says; None if it was sealed somewhere else."""
_ROLES: Final[tuple[Role, ...]] = ("system", "developer", "user", "assistant")
_WORDS: Final = frozenset({"input_text", "output_text", "text", "refusal", "summary_text"})


class InputPart(Struct, kw_only=True):
    """A part of a content."""

    type: str
    text: str | None = None
    refusal: str | None = None


class InputItem(Struct, kw_only=True):
    """An entry of `input`; which fields count depends on its type."""

    type: str | None = None
    role: str | None = None
    content: str | list[InputPart] | None = None
    name: str | None = None
    namespace: str | None = None
    call_id: str | None = None
    arguments: Any = None
    input: str | None = None
    output: str | list[InputPart] | None = None
    summary: list[InputPart] | None = None
    encrypted_content: str | None = None


class Reply:
    """What a model said in items that follow each other."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []
        self._thoughts: list[str] = []
        self._is_open = False

    def say(self, text: str) -> None:
        """A message."""
        self._texts.append(text)
        self._is_open = True

    def call(self, call: ToolCall) -> None:
        """A call."""
        self._calls.append(call)
        self._is_open = True

    def think(self, text: str) -> None:
        """Reasoning; alone it is no reply."""
        self._thoughts.append(text)

    def take(self) -> list[Message]:
        """The reply, if there is one; there is none then."""
        found = []
        if self._is_open:
            found.append(
                Message(
                    role="assistant",
                    content="".join(self._texts),
                    tool_calls=tuple(self._calls),
                    reasoning="".join(self._thoughts) or None,
                )
            )
        self._texts, self._calls, self._thoughts = [], [], []
        self._is_open = False
        return found


def read_items(
    items: Sequence[InputItem], opened: Opener, left_out: LeftOut
) -> tuple[Message, ...]:
    """Messages of an input. Raises `HotseatError` with the path of what is wrong."""
    messages: list[Message] = []
    reply = Reply()
    for at, item in enumerate(items):
        kind = item.type or ("message" if item.role is not None else "")
        path = f"input[{at}]"
        match kind:
            case "message" if item.role == "assistant":
                reply.say(_text(item.content, f"{path}.content", left_out))
            case "message":
                messages += reply.take()
                messages.append(_message(item, path, left_out))
            case "function_call" | "custom_tool_call":
                reply.call(_call(item, path))
            case "function_call_output" | "custom_tool_call_output":
                messages += reply.take()
                messages.append(_result(item, path, left_out))
            case "reasoning":
                reply.think(_thought(item, opened))
            case "item_reference":
                raise unsupported(path, "items are not kept by their ids; send the item itself")
            case "":
                raise refuse(f"{path}.type", "is missing")
            case _:
                left_out.note(f"input {kind}")
    return (*messages, *reply.take())


def _message(item: InputItem, path: str, left_out: LeftOut) -> Message:
    role = next((known for known in _ROLES if known == item.role), None)
    if role is None:
        raise refuse(f"{path}.role", f"{item.role!r} is none of {', '.join(_ROLES)}")
    return Message(role=role, content=_text(item.content, f"{path}.content", left_out))


def _call(item: InputItem, path: str) -> ToolCall:
    if not item.name:
        raise refuse(f"{path}.name", "is missing")
    arguments = item.arguments
    if item.type == "custom_tool_call":
        arguments = {"input": item.input or ""}
    if not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments or {}).decode()
    name = flat_name(item.namespace, item.name)
    return ToolCall(id=item.call_id or "", name=name, arguments=arguments or "{}")


def _result(item: InputItem, path: str, left_out: LeftOut) -> Message:
    text = _text(item.output, f"{path}.output", left_out)
    return Message(role="tool", tool_call_id=item.call_id, content=text)


def _thought(item: InputItem, opened: Opener) -> str:
    """Ours as it was; of others what can be read, which may be nothing."""
    if item.encrypted_content:
        return without_phases(opened(item.encrypted_content) or "")
    content = item.content if isinstance(item.content, list) else []
    return without_phases("".join(part.text or "" for part in content or item.summary or []))


def _text(given: str | list[InputPart] | None, path: str, left_out: LeftOut) -> str:
    if given is None or isinstance(given, str):
        return given or ""
    texts = []
    for at, part in enumerate(given):
        if part.type in _WORDS:
            texts.append(part.text or part.refusal or "")
            continue
        kind = part.type.removeprefix("input_")
        texts.append(left_out.part(f"{path}[{at}]", kind))
    return "".join(texts)
