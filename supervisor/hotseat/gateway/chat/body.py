"""The body of a chat or a completion as OpenAI's packages send it, to what is asked. Pure.

Every field that the packages can send is known by name: done, without effect here, or refused.
docs/http.md lists them. What nobody knows is ignored.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from hotseat.gateway.asked import (
    Asked,
    LeftOut,
    named_tool,
    refuse,
    seed_of,
    tool_of,
    unsupported,
)
from hotseat.gateway.phases import without_phases
from hotseat.protocol.limits import MAX_LOGPROBS
from hotseat.protocol.messages import (
    Message,
    ResponseFormat,
    Role,
    Sampling,
    Tool,
    ToolCall,
    ToolChoice,
)

IGNORED: Final = (
    *("metadata", "user", "service_tier", "store", "safety_identifier", "verbosity"),
    *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "prediction"),
    *("stream_options", "moderation"),
)
"""Nothing hangs on them here."""
REFUSED: Final = {
    "audio": "no model here speaks",
    "web_search_options": "nobody here searches the web; give a tool of your own",
    "functions": "send `tools` instead",
    "function_call": "send `tool_choice` instead",
    "suffix": "no model here fills in the middle",
    "best_of": "one answer is all there is",
    "echo": "the prompt is not said again",
}
_NOTHING: Final[tuple[Any, ...]] = (None, False, 1, "", [], "none")
"""Values of those that ask for nothing."""
_LONGEST_ID: Final = 10
"""Digits of a token's id."""


class Function(Struct, kw_only=True):
    """What a call or a tool is of."""

    name: str
    arguments: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Call(Struct, kw_only=True):
    """A call of a former reply."""

    id: str = ""
    type: str = "function"
    function: Function | None = None


class ContentPart(Struct, kw_only=True):
    """A part of a content; only text and refusals are words."""

    type: str
    text: str | None = None
    refusal: str | None = None


class ChatMessage(Struct, kw_only=True):
    """One message as it is sent."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class OfferedTool(Struct, kw_only=True):
    """One entry of `tools`."""

    type: str = "function"
    function: Function | None = None


class ChosenTool(Struct, kw_only=True):
    """A `tool_choice` that is no word."""

    type: str = "function"
    function: Function | None = None


class JsonSchema(Struct, kw_only=True):
    """The form of an answer."""

    schema: dict[str, Any] | None = None


class Format(Struct, kw_only=True):
    """`response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Struct, kw_only=True):
    """`stream_options`."""

    include_usage: bool | None = None


class Drawn(Struct, kw_only=True):
    """How tokens are drawn, in chats and completions alike."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=0)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=10)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0, le=10)] | None = None
    logit_bias: dict[str, float] | None = None
    stop: str | list[str] | None = None
    n: Annotated[int, Meta(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class ChatBody(Drawn, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    tools: list[OfferedTool] | None = None
    tool_choice: str | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: Format | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)] | None = None
    reasoning_effort: str | None = None
    modalities: list[str] | None = None


class TextBody(Drawn, kw_only=True):
    """POST /v1/completions."""

    prompt: str | list[str]
    logprobs: Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)] | None = None


def read_chat(data: bytes) -> Asked:
    """What a chat asks for. Raises `HotseatError` with the path of what is wrong."""
    body = _decode(data, ChatBody)
    if body.modalities and any(kind != "text" for kind in body.modalities):
        raise unsupported("modalities", "no model here speaks; ask for text")
    tools = _tools(body.tools or [])
    left_out = LeftOut()
    messages = [_message(one, at, left_out) for at, one in enumerate(body.messages)]
    count = body.top_logprobs or 1
    drawn = _drawn(body)
    return Asked(
        messages=tuple(messages),
        tools=tools,
        tool_choice=_choice(body.tool_choice, tools),
        parallel_calls=body.parallel_tool_calls,
        response_format=_format(body.response_format),
        logprobs=count if body.logprobs else 0,
        thinks=None if body.reasoning_effort is None else body.reasoning_effort != "none",
        effort=body.reasoning_effort,
        **left_out.told(),
        **drawn,
    )


def read_text(data: bytes) -> Asked:
    """What a completion asks for."""
    body = _decode(data, TextBody)
    prompt = body.prompt
    if isinstance(prompt, list):
        if len(prompt) != 1:
            raise unsupported("prompt", "one prompt at a time; send a request for each")
        prompt = prompt[0]
    return Asked(prompt=prompt, logprobs=body.logprobs or 0, **_drawn(body))


def _decode(data: bytes, kind: Any) -> Any:
    try:
        plain = msgspec.json.decode(data)
        if isinstance(plain, dict):
            for name, reason in REFUSED.items():
                value = plain.get(name)
                if value is True or value not in _NOTHING:  # True equals 1
                    raise unsupported(name, reason)
        body = msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        raise refuse(path.rstrip("`").removeprefix(".") or "body", reason) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise refuse("body", f"not JSON that can be read: {error}") from error
    if body.n is not None and body.n > 1:
        raise unsupported("n", "one answer at a time; send a request for each")
    return body


def _drawn(body: Drawn) -> dict[str, Any]:
    most = body.max_completion_tokens
    bias = tuple(_bias(token, value) for token, value in (body.logit_bias or {}).items())
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return {
        "model": body.model,
        "max_tokens": body.max_tokens if most is None else most,
        "sampling": Sampling(
            temperature=body.temperature,
            top_p=body.top_p,
            top_k=body.top_k,
            min_p=body.min_p,
            seed=seed_of(body.seed),
            repetition_penalty=body.repetition_penalty,
            presence_penalty=body.presence_penalty,
            frequency_penalty=body.frequency_penalty,
            logit_bias=bias,
        ),
        "stop": tuple(text for text in stop if text),
        "is_streamed": bool(body.stream),
        "wants_usage": bool(body.stream_options and body.stream_options.include_usage),
    }


def _bias(token: str, value: float) -> tuple[int, float]:
    if not token.isdecimal() or len(token) > _LONGEST_ID:
        raise refuse(f"logit_bias.{token}", "keys are token ids")
    return int(token), value


def _message(given: ChatMessage, at: int, left_out: LeftOut) -> Message:
    roles: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")
    role = next((known for known in roles if known == given.role), None)
    if role is None:
        raise refuse(f"messages[{at}].role", f"{given.role!r} is none of {', '.join(roles)}")
    calls = [
        ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments or "{}")
        for call in given.tool_calls or []
        if call.function is not None
    ]
    return Message(
        role=role,
        content=_content(given.content, f"messages[{at}].content", left_out),
        name=given.name,
        tool_calls=tuple(calls),
        tool_call_id=given.tool_call_id,
        reasoning=without_phases(given.reasoning_content or given.reasoning or "") or None,
    )


def _content(given: str | list[ContentPart] | None, path: str, left_out: LeftOut) -> str | None:
    if given is None or isinstance(given, str):
        return given
    texts = []
    for at, part in enumerate(given):
        if part.type in ("text", "refusal"):
            texts.append(part.text or part.refusal or "")
            continue
        kind = part.type.removeprefix("input_").removesuffix("_url")
        texts.append(left_out.part(f"{path}[{at}]", kind))
    return "".join(texts)


def _tools(given: list[OfferedTool]) -> tuple[Tool, ...]:
    tools = []
    for at, tool in enumerate(given):
        path = f"tools[{at}]"
        made = tool.function
        if tool.type != "function" or made is None:
            raise unsupported(f"{path}.type", f"{tool.type!r} cannot be run here; use functions")
        tools.append(
            tool_of(f"{path}.function", made.name, made.description, made.parameters, made.strict)
        )
    return tuple(tools)


def _choice(given: str | ChosenTool | None, tools: tuple[Tool, ...]) -> ToolChoice | None:
    if given is None:
        return None
    words: dict[str, ToolChoice] = {"auto": "auto", "none": "none", "required": "required"}
    if isinstance(given, str) and given in words:
        return words[given]
    if isinstance(given, ChosenTool) and given.function is not None:
        return named_tool("tool_choice", given.function.name, tools)
    raise refuse("tool_choice", "is auto, none, required or a function")


def _format(given: Format | None) -> ResponseFormat | None:
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return ResponseFormat(type="json_object")
    if given.json_schema is None or given.json_schema.schema is None:
        raise refuse("response_format.json_schema.schema", "is missing")
    return ResponseFormat(type="json_schema", schema=given.json_schema.schema)
