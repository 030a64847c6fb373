"""The body of Responses as OpenAI's packages and Codex send it, to what is asked. Pure.

Every field that the packages can send is known by name: done, without effect here, or refused.
docs/http.md lists them. What nobody knows is ignored.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from hotseat.gateway.asked import Asked, LeftOut, refuse, seed_of, unsupported
from hotseat.gateway.responses.items import InputItem, Opener, read_items
from hotseat.gateway.responses.tools import ChosenTool, OfferedTool, choose, open_toolbox
from hotseat.protocol.limits import MAX_LOGPROBS
from hotseat.protocol.messages import Message, ResponseFormat, Sampling

IGNORED: Final = (
    *("user", "safety_identifier", "service_tier", "prompt_cache_key"),
    *("prompt_cache_retention", "stream_options", "truncation", "max_tool_calls", "moderation"),
    *("context_management", "access_programs", "image", "background_options", "personality"),
)
"""Nothing hangs on them here."""
REFUSED: Final = {
    "conversation": "conversations are not kept by id; send the history or previous_response_id",
    "background": "nothing runs without its client; stream it",
    "prompt": "there are no stored prompts; send `input`",
}
_ENCRYPTED: Final = "reasoning.encrypted_content"
_LOGPROBS: Final = "message.output_text.logprobs"


class TextFormat(Struct, kw_only=True):
    """`text.format`."""

    type: Literal["text", "json_object", "json_schema"]
    schema: dict[str, Any] | None = None


class TextConfig(Struct, kw_only=True):
    """`text`."""

    format: TextFormat | None = None


class Reasoning(Struct, kw_only=True):
    """`reasoning`; a summary is always there, and is all that was thought."""

    effort: str | None = None


class CacheOptions(Struct, kw_only=True):
    """`prompt_cache_options`; what asks for a comparison is done, the rest has no effect."""

    comparison_response_id: str | None = None


class CountBody(Struct, kw_only=True):
    """POST /v1/responses/input_tokens, and what Responses shares with it."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    input: str | list[InputItem] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[OfferedTool] | None = None
    tool_choice: str | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    text: TextConfig | None = None


class ResponsesBody(CountBody, kw_only=True):
    """POST /v1/responses."""

    include: list[str] | None = None
    max_output_tokens: Annotated[int, Meta(ge=0)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=10)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)] | None = None
    store: bool | None = None
    stream: bool | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_options: CacheOptions | None = None


class Told(Struct, frozen=True, kw_only=True):
    """What an answer repeats of its request."""

    model: str
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: Any = "auto"
    parallel_tool_calls: bool = True
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    metadata: dict[str, str] = {}
    reasoning: dict[str, Any] = {}
    text: dict[str, Any] = {}
    store: bool = True


class ReadResponse(Struct, frozen=True, kw_only=True):
    """A body that was read. `asked.messages` are those of the input alone."""

    asked: Asked
    told: Told
    wants_encrypted: bool = False
    origins: dict[str, tuple[str, str]] = {}

    @property
    def system(self) -> tuple[Message, ...]:
        """What `instructions` are to the model; they are not kept for the next answer."""
        words = self.told.instructions
        return (Message(role="system", content=words),) if words else ()


def read_response(data: bytes, opened: Opener) -> ReadResponse:
    """What a request asks for. Raises `HotseatError` with the path of what is wrong."""
    plain = _decode(data)
    body = _typed(plain, ResponsesBody)
    include = body.include or []
    count = body.top_logprobs or (1 if _LOGPROBS in include else 0)
    read = _read(
        body,
        opened,
        max_tokens=body.max_output_tokens,
        sampling=Sampling(
            temperature=body.temperature,
            top_p=body.top_p,
            top_k=body.top_k,
            min_p=body.min_p,
            seed=seed_of(body.seed),
        ),
        logprobs=count,
        is_streamed=bool(body.stream),
        compared_to=body.prompt_cache_options and body.prompt_cache_options.comparison_response_id,
    )
    return msgspec.structs.replace(
        read, told=_told(body, plain), wants_encrypted=_ENCRYPTED in include
    )


def read_count(data: bytes, opened: Opener) -> ReadResponse:
    """What is to be counted."""
    return _read(_typed(_decode(data), CountBody), opened)


def _decode(data: bytes) -> dict[str, Any]:
    try:
        plain = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise refuse("body", f"not JSON that can be read: {error}") from error
    if not isinstance(plain, dict):
        raise refuse("body", "is an object")
    for name, reason in REFUSED.items():
        if plain.get(name):
            raise unsupported(name, reason)
    return plain


def _typed(plain: dict[str, Any], kind: Any) -> Any:
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        raise refuse(path.rstrip("`").removeprefix(".") or "body", reason) from error


def _read(body: CountBody, opened: Opener, **more: Any) -> ReadResponse:
    left_out = LeftOut()
    given = body.input
    if isinstance(given, str):
        messages: tuple[Message, ...] = (Message(role="user", content=given),)
    else:
        messages = read_items(given or [], opened, left_out)
    if not messages:
        raise refuse("input", "holds no message; send one")
    choice, box = choose(body.tool_choice, open_toolbox(body.tools or []))
    for kind in box.left_out:
        left_out.note(kind)
    effort = body.reasoning.effort if body.reasoning else None
    asked = Asked(
        model=body.model,
        messages=messages,
        tools=box.tools,
        tool_choice=choice,
        parallel_calls=body.parallel_tool_calls,
        response_format=_format(body.text.format if body.text else None),
        thinks=None if effort is None else effort != "none",
        effort=effort,
        **left_out.told(),
        **more,
    )
    told = Told(
        model=body.model,
        instructions=body.instructions,
        previous_response_id=body.previous_response_id,
    )
    return ReadResponse(asked=asked, told=told, origins=dict(box.origins))


def _told(body: ResponsesBody, plain: dict[str, Any]) -> Told:
    parallel = body.parallel_tool_calls
    return Told(
        model=body.model,
        instructions=body.instructions,
        previous_response_id=body.previous_response_id,
        tools=tuple(plain.get("tools") or ()),
        tool_choice=plain.get("tool_choice") or "auto",
        parallel_tool_calls=True if parallel is None else parallel,
        max_output_tokens=body.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        metadata=body.metadata or {},
        reasoning=plain.get("reasoning") or {},
        text={"format": {"type": "text"}} | (plain.get("text") or {}),
        store=body.store is not False,
    )


def _format(given: TextFormat | None) -> ResponseFormat | None:
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return ResponseFormat(type="json_object")
    if given.schema is None:
        raise refuse("text.format.schema", "is missing")
    return ResponseFormat(type="json_schema", schema=given.schema)
