"""The body of Messages as Anthropic's packages and agents send it, to what is asked. Pure."""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from hotseat.gateway.asked import (
    Asked,
    LeftOut,
    named_tool,
    refuse,
    tool_of,
    unsupported,
)
from hotseat.gateway.phases import without_phases
from hotseat.protocol.messages import Message, ResponseFormat, Sampling, Tool, ToolCall, ToolChoice

ATTRIBUTION: Final = "x-anthropic-billing-header:"
"""A client puts this line first into its system text, with a value that changes from conversation
to conversation: with it no two of them would begin alike."""
IGNORED: Final = (
    *("metadata", "service_tier", "cache_control", "container", "context_management", "betas"),
    *("inference_geo", "speed", "user_profile_id"),
)
"""Nothing hangs on them here."""
REFUSED: Final = {"mcp_servers": "nobody here calls servers of tools; call them and give tools"}


class Block(Struct, kw_only=True):
    """A block of content; which fields count depends on its type."""

    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None
    tool_use_id: str | None = None
    content: "str | list[Block] | None" = None
    is_error: bool | None = None
    source: dict[str, Any] | None = None


class Spoken(Struct, kw_only=True):
    """One message as it is sent."""

    role: str
    content: str | list[Block]


class OfferedTool(Struct, kw_only=True):
    """One entry of `tools`; a `type` other than custom is a tool of the server."""

    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class Choice(Struct, kw_only=True):
    """`tool_choice`."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Struct, kw_only=True):
    """`thinking`."""

    type: str


class OutputFormat(Struct, kw_only=True):
    """A form of the answer."""

    type: str
    schema: dict[str, Any] | None = None


class OutputConfig(Struct, kw_only=True):
    """`output_config`."""

    effort: str | None = None
    format: OutputFormat | None = None


class Diagnostics(Struct, kw_only=True):
    """`diagnostics`: asks what of a former prompt does not begin this one."""

    previous_message_id: str | None = None


class CountBody(Struct, kw_only=True):
    """POST /v1/messages/count_tokens, and what Messages shares with it."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: Annotated[list[Spoken], Meta(min_length=1)]
    system: str | list[Block] | None = None
    tools: list[OfferedTool] | None = None
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None


class MessagesBody(CountBody, kw_only=True):
    """POST /v1/messages."""

    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=10)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: list[str] | None = None
    diagnostics: Diagnostics | None = None
    stream: bool | None = None


def read_messages(data: bytes) -> Asked:
    """What a request asks for. Raises `HotseatError` with the path of what is wrong."""
    body = _decode(data, MessagesBody)
    return _asked(
        body,
        max_tokens=body.max_tokens,
        sampling=Sampling(temperature=body.temperature, top_p=body.top_p, top_k=body.top_k),
        stop=tuple(text for text in body.stop_sequences or [] if text),
        is_streamed=bool(body.stream),
        compared_to=(body.diagnostics.previous_message_id or "") if body.diagnostics else None,
    )


def read_count(data: bytes) -> Asked:
    """What is to be counted."""
    return _asked(_decode(data, CountBody))


def _decode(data: bytes, kind: Any) -> Any:
    try:
        plain = msgspec.json.decode(data)
        if isinstance(plain, dict):
            for name, reason in REFUSED.items():
                if plain.get(name):
                    raise unsupported(name, reason)
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        raise refuse(path.rstrip("`").removeprefix(".") or "body", reason) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise refuse("body", f"not JSON that can be read: {error}") from error


def _asked(body: CountBody, **more: Any) -> Asked:
    left_out = LeftOut()
    system = _system(body.system, left_out)
    messages = [Message(role="system", content=system)] if system else []
    for at, spoken in enumerate(body.messages):
        messages += _messages(spoken, at, left_out)
    choice = body.tool_choice
    tools = _tools(body.tools or [], choice, left_out)
    config = body.output_config
    return Asked(
        model=body.model,
        messages=tuple(messages),
        tools=tools,
        tool_choice=_choice(choice, tools),
        parallel_calls=False if choice and choice.disable_parallel_tool_use else None,
        response_format=_format(config.format if config else None),
        thinks=None if body.thinking is None else body.thinking.type != "disabled",
        effort=config.effort if config else None,
        **left_out.told(),
        **more,
    )


def _system(given: str | list[Block] | None, left_out: LeftOut) -> str:
    if given is None or isinstance(given, str):
        texts = [given or ""]
    else:
        texts = _each(given, "system", left_out)
    return "\n".join(kept for text in texts if (kept := without_attribution(text)))


def without_attribution(text: str) -> str:
    """System text without the line that names who pays for it."""
    if not text.startswith(ATTRIBUTION):
        return text
    return text.partition("\n")[2].lstrip("\n")


def _messages(spoken: Spoken, at: int, left_out: LeftOut) -> list[Message]:
    if spoken.role not in ("user", "assistant", "system"):
        raise refuse(f"messages[{at}].role", f"{spoken.role!r} is none of user, assistant, system")
    if isinstance(spoken.content, str):
        return [Message(role=_role(spoken.role), content=spoken.content)]
    if spoken.role == "assistant":
        return [_reply(spoken.content, at, left_out)]
    path = f"messages[{at}].content"
    results = [
        Message(
            role="tool",
            tool_call_id=block.tool_use_id,
            content=_result(block, f"{path}[{number}]", left_out),
        )
        for number, block in enumerate(spoken.content)
        if block.type == "tool_result"
    ]
    rest = [
        _words(block, f"{path}[{number}]", left_out)
        for number, block in enumerate(spoken.content)
        if block.type != "tool_result"
    ]
    if rest or not results:
        results.append(Message(role=_role(spoken.role), content="".join(rest)))
    return results


def _role(role: str) -> Literal["user", "assistant", "system"]:
    if role == "assistant":
        return "assistant"
    return "system" if role == "system" else "user"


def _reply(blocks: list[Block], at: int, left_out: LeftOut) -> Message:
    calls, texts, thoughts = [], [], []
    for number, block in enumerate(blocks):
        if block.type == "tool_use":
            if not block.name:
                raise refuse(f"messages[{at}].content[{number}].name", "is missing")
            arguments = msgspec.json.encode(block.input if block.input is not None else {}).decode()
            calls.append(ToolCall(id=block.id or "", name=block.name, arguments=arguments))
        elif block.type == "thinking":
            thoughts.append(without_phases(block.thinking or ""))
        elif block.type != "redacted_thinking":
            texts.append(_words(block, f"messages[{at}].content[{number}]", left_out))
    return Message(
        role="assistant",
        content="".join(texts),
        tool_calls=tuple(calls),
        reasoning="\n".join(filter(None, thoughts)) or None,
    )


def _result(block: Block, path: str, left_out: LeftOut) -> str:
    given = block.content
    parts = [given] if isinstance(given, str) else _each(given or [], f"{path}.content", left_out)
    text = "".join(parts)
    return f"Error: {text}" if block.is_error else text


def _each(blocks: list[Block], path: str, left_out: LeftOut) -> list[str]:
    return [_words(block, f"{path}[{at}]", left_out) for at, block in enumerate(blocks)]


def _words(block: Block, path: str, left_out: LeftOut) -> str:
    """Text of a block; what is no text is named in its place."""
    if block.type == "text":
        return block.text or ""
    source = block.source or {}
    if block.type == "document" and source.get("type") == "text":
        return str(source.get("data", ""))
    return left_out.part(path, block.type)


def _tools(given: list[OfferedTool], choice: Choice | None, left_out: LeftOut) -> tuple[Tool, ...]:
    tools = []
    for at, tool in enumerate(given):
        path = f"tools[{at}]"
        if tool.type not in (None, "custom"):
            if choice is not None and choice.type == "tool" and choice.name == tool.name:
                raise unsupported(f"{path}.type", f"{tool.type!r} cannot be run here")
            left_out.note(f"tool {tool.type}")
            continue
        tools.append(tool_of(path, tool.name, tool.description, tool.input_schema, tool.strict))
    return tuple(tools)


def _choice(given: Choice | None, tools: tuple[Tool, ...]) -> ToolChoice | None:
    if given is None:
        return None
    if given.type == "tool":
        return named_tool("tool_choice.name", given.name or "", tools)
    words: dict[str, ToolChoice] = {"auto": "auto", "any": "required", "none": "none"}
    return words[given.type]


def _format(given: OutputFormat | None) -> ResponseFormat | None:
    if given is None:
        return None
    if given.type != "json_schema" or given.schema is None:
        raise refuse("output_config.format", "is a json_schema with a schema")
    return ResponseFormat(type="json_schema", schema=given.schema)
