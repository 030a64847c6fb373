"""The bodies of chat and generate as Ollama's clients send them, to what is asked. Pure.

Fields that are no part of these structs have no effect here: docs/http.md lists those that the
client package can send.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from hotseat.gateway.asked import Asked, LeftOut, refuse, tool_of, unsupported
from hotseat.protocol.limits import MAX_LOGPROBS
from hotseat.protocol.messages import Message, ResponseFormat, Role, Sampling, Tool, ToolCall

LATEST: Final = ":latest"
"""What clients put behind a name without a tag."""


class Options(Struct, kw_only=True):
    """`options`: how tokens are drawn. `num_ctx` and other facts of a server have no effect."""

    num_predict: int | None = None
    temperature: Annotated[float, Meta(ge=0, le=10)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    repeat_penalty: Annotated[float, Meta(ge=0, le=10)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None


class Called(Struct, kw_only=True):
    """What is called: arguments are an object here."""

    name: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)


class Call(Struct, kw_only=True):
    """A call of a former reply."""

    function: Called
    id: str | None = None


class Said(Struct, kw_only=True):
    """One message as it is sent."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class OfferedFunction(Struct, kw_only=True):
    """A function that may be called."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class OfferedTool(Struct, kw_only=True):
    """One entry of `tools`."""

    function: OfferedFunction
    type: str | None = None


class Body(Struct, kw_only=True):
    """What chat and generate share."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    stream: bool | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: Options | None = None
    keep_alive: float | str | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)] | None = None


class ChatBody(Body, kw_only=True):
    """POST /api/chat."""

    messages: list[Said] | None = None
    tools: list[OfferedTool] | None = None


class GenerateBody(Body, kw_only=True):
    """POST /api/generate."""

    prompt: str | None = None
    system: str | None = None
    suffix: str | None = None
    raw: bool | None = None
    images: list[Any] | None = None


class NamedBody(Struct, kw_only=True):
    """POST /api/show."""

    model: str | None = None
    name: str | None = None


class Order(Struct, frozen=True, kw_only=True):
    """What a body asks for: an answer, or, where it says nothing to a model, the seat for it.

    `asked` None: `model` takes the seat, or gives it up if `gives_up`.
    """

    model: str
    asked: Asked | None
    gives_up: bool = False


def read_chat(data: bytes) -> Order:
    """What a chat asks for. Raises `HotseatError` with the path of what is wrong."""
    body = decode(data, ChatBody)
    if not body.messages:
        return Order(model=body.model, asked=None, gives_up=_gives_up(body.keep_alive))
    left_out = LeftOut()
    messages = [_message(one, at, left_out) for at, one in enumerate(body.messages)]
    tools = tuple(_tool(tool, at) for at, tool in enumerate(body.tools or []))
    asked = _asked(body, left_out, messages=tuple(messages), tools=tools)
    return Order(model=body.model, asked=asked)


def read_generate(data: bytes) -> Order:
    """What a completion asks for; a prompt is a user's message unless it is `raw`."""
    body = decode(data, GenerateBody)
    if body.suffix:
        raise unsupported("suffix", "no model here fills in the middle")
    if not body.prompt:
        return Order(model=body.model, asked=None, gives_up=_gives_up(body.keep_alive))
    if body.raw:
        return Order(model=body.model, asked=_asked(body, LeftOut(), prompt=body.prompt))
    left_out = LeftOut()
    messages = [Message(role="system", content=body.system)] if body.system else []
    messages.append(Message(role="user", content=_content(body.prompt, body.images, "", left_out)))
    return Order(model=body.model, asked=_asked(body, left_out, messages=tuple(messages)))


def decode(data: bytes, kind: Any) -> Any:
    """A body of that kind. Raises invalid_request."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        raise refuse(path.rstrip("`").removeprefix(".") or "body", reason) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise refuse("body", f"not JSON that can be read: {error}") from error


def _asked(body: Any, left_out: LeftOut, **what: Any) -> Asked:
    options = body.options or Options()
    most, seed = options.num_predict, options.seed
    stop = [options.stop] if isinstance(options.stop, str) else options.stop or []
    return Asked(
        model=body.model,
        # Below zero: until the model ends, or its window does.
        max_tokens=most if most is not None and most >= 0 else None,
        sampling=Sampling(
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            min_p=options.min_p,
            seed=seed if seed is not None and seed >= 0 else None,
            repetition_penalty=options.repeat_penalty,
            presence_penalty=options.presence_penalty,
            frequency_penalty=options.frequency_penalty,
        ),
        stop=tuple(text for text in stop if text),
        logprobs=(body.top_logprobs or 1) if body.logprobs else 0,
        response_format=_format(body.format),
        thinks=None if body.think is None else bool(body.think),
        effort=body.think if isinstance(body.think, str) and body.think else None,
        is_streamed=body.stream is not False,
        has_call_ids=False,
        **left_out.told(),
        **what,
    )


def _gives_up(keep_alive: float | str | None) -> bool:
    if isinstance(keep_alive, str):
        return keep_alive.rstrip("smh") == "0"
    return keep_alive == 0


def _format(given: str | dict[str, Any] | None) -> ResponseFormat | None:
    if not given:
        return None
    if isinstance(given, str):
        return ResponseFormat(type="json_object")
    return ResponseFormat(type="json_schema", schema=given)


def _message(given: Said, at: int, left_out: LeftOut) -> Message:
    roles: tuple[Role, ...] = ("system", "user", "assistant", "tool")
    role = next((known for known in roles if known == given.role), None)
    if role is None:
        raise refuse(f"messages[{at}].role", f"{given.role!r} is none of {', '.join(roles)}")
    calls = [
        ToolCall(
            id=call.id or f"call_{at}_{number}",
            name=call.function.name,
            arguments=msgspec.json.encode(call.function.arguments).decode(),
        )
        for number, call in enumerate(given.tool_calls or [])
    ]
    return Message(
        role=role,
        content=_content(given.content or "", given.images, f"messages[{at}].", left_out),
        reasoning=given.thinking,
        tool_calls=tuple(calls),
        name=given.tool_name,
        # Without an id it finds its call by name, wherever the history is put together.
        tool_call_id=(given.tool_call_id or None) if role == "tool" else None,
    )


def _content(text: str, images: list[Any] | None, path: str, left_out: LeftOut) -> str:
    lines = [left_out.part(f"{path}images[{at}]", "image") for at in range(len(images or ()))]
    return "".join([text, *lines])


def _tool(given: OfferedTool, at: int) -> Tool:
    made = given.function
    return tool_of(f"tools[{at}].function", made.name, made.description, made.parameters, None)
