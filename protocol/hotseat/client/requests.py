"""Builds requests from what a caller writes, and refuses what the wire would refuse. Pure."""

import difflib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypedDict, Unpack

import msgspec

from hotseat.protocol.codec import encode_client, unpack_body
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import RequestId, is_request_id
from hotseat.protocol.limits import DEFAULT_CREDIT_BYTES, MAX_FRAME_BYTES, PROTOCOL_MAX
from hotseat.protocol.messages import (
    ClientMessage,
    Generate,
    Message,
    NamedTool,
    ResponseFormat,
    Sampling,
    Tool,
)
from hotseat.protocol.unknown_fields import refuse_unknown

MessageLike = Message | Mapping[str, Any]
_SAMPLING_FIELDS: Final = frozenset(Sampling.__struct_fields__)
_MESSAGE_LISTS: Final = ("messages", "append")
_STRUCTS: Final = frozenset({"tools", "tool_choice", "response_format", "template_args"})


class GenerateOptions(TypedDict, total=False):
    """Keywords of `generate`; protocol.md says what each means."""

    messages: Sequence[MessageLike]
    prompt: str
    tokens: Sequence[int]
    session: str
    append: Sequence[MessageLike] | str
    expect_turn: int
    queue: bool
    rerender: bool
    persist: bool
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Sequence[tuple[int, float]]
    stop: Sequence[str] | str
    logprobs: int
    swap: Literal["auto", "wait", "never"]
    on_vanish: Literal["cancel", "finish", "hold"]
    priority: int
    deadline_s: float
    hold_s: float
    yield_: bool
    next_model: str
    tools: Sequence[Tool | Mapping[str, Any]]
    tool_choice: str | NamedTool | Mapping[str, Any]
    parallel_calls: bool
    response_format: ResponseFormat | Mapping[str, Any]
    template_args: Mapping[str, Any]
    agent: str


def new_request_id() -> RequestId:
    """64 random bits: unique within a client for all practical purposes."""
    return RequestId(os.urandom(8).hex())


def choose_request_id(request_id: str | None) -> RequestId:
    """The caller's id if it is one, or a new one."""
    if request_id is None:
        return new_request_id()
    if not is_request_id(request_id):
        raise HotseatError(
            "invalid_request",
            f"request id {request_id!r} must be 1-64 characters out of letters, digits and ._:-",
            request_id=request_id,
        )
    return RequestId(request_id)


def build_generate(
    model: str, credit_bytes: int = DEFAULT_CREDIT_BYTES, **options: Unpack[GenerateOptions]
) -> Generate:
    """Typed request out of keywords; None means "not given". Unknown ones are refused."""
    _refuse_unknown(options)
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    sampling = {name: given.pop(name) for name in _SAMPLING_FIELDS & given.keys()}
    if isinstance(given.get("stop"), str):
        given["stop"] = (given["stop"],)
    for name in _STRUCTS & given.keys():
        given[name] = msgspec.to_builtins(given[name])
    for name in _MESSAGE_LISTS:
        if name in given and not isinstance(given[name], str):
            given[name] = [_plain(message) for message in given[name]]
    if "yield_" in given:
        given["yield"] = given.pop("yield_")  # a word of Python; on the wire it is `yield`
    if "tokens" in given:
        given["tokens"] = list(given["tokens"])
    plain = {"model": model, "sampling": sampling, "credit_bytes": credit_bytes, **given}
    refuse_unknown(plain, Generate, "generate")
    try:
        return msgspec.convert(plain, Generate)
    except msgspec.ValidationError as error:
        raise HotseatError("invalid_request", f"generate: {error}") from error


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    """Raises invalid_request for a keyword that `generate` does not have, with near matches."""
    known = GenerateOptions.__annotations__
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
            raise HotseatError(
                "invalid_request",
                f"generate: there is no keyword {name!r}; {hint}",
                field=name,
                near=near,
            )


def as_message(message: MessageLike) -> Message:
    """A message as its type; raises `HotseatError` naming the field that is wrong."""
    plain = _plain(message)
    refuse_unknown(plain, Message, "message")
    try:
        return msgspec.convert(plain, Message)
    except msgspec.ValidationError as error:
        raise HotseatError("invalid_request", f"message: {error}") from error


def _plain(message: MessageLike) -> Any:
    return msgspec.to_builtins(message) if isinstance(message, Message) else message


def encode_checked(
    message: ClientMessage,
    request_id: RequestId,
    limit_bytes: int = MAX_FRAME_BYTES,
    version: int = PROTOCOL_MAX,
) -> list[bytes]:
    """Frames of a message that the daemon can decode; anything else is refused here."""
    try:
        frames = encode_client(message, request_id, version)
    except (ValueError, TypeError, OverflowError) as error:
        raise HotseatError("invalid_request", f"request cannot be packed: {error}") from error
    body = frames[-1]
    if len(body) > limit_bytes:
        raise HotseatError(
            "invalid_request",
            f"request of {len(body)} bytes exceeds the limit of {limit_bytes}; send less, or "
            "use a session and append",
            size_bytes=len(body),
            limit_bytes=limit_bytes,
        )
    # Structs do not check themselves when they are built; decoding finds what the daemon would.
    unpack_body(body, type(message))
    return frames
