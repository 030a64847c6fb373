"""What a request asks for, in no dialect. Pure."""

from typing import Any, Final

import msgspec
from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import (
    Message,
    NamedTool,
    ResponseFormat,
    Sampling,
    Tool,
    ToolChoice,
)

_SEEDS: Final = 2**53


class Unread(Struct, frozen=True):
    """A part that no model here can read, and where it stands in the body."""

    path: str
    kind: str


class LeftOut:
    """What of a body has no effect, as it is read."""

    def __init__(self) -> None:
        self._kinds: dict[str, None] = {}
        self._unread: list[Unread] = []

    def note(self, kind: str) -> None:
        """Something that nobody here can run."""
        self._kinds[kind] = None

    def part(self, path: str, kind: str) -> str:
        """A part that is no text; what stands in its place, on a line of its own."""
        self.note(kind)
        self._unread.append(Unread(path, kind))
        return f"\n[{kind} left out: this model takes text only]\n"

    def told(self) -> dict[str, Any]:
        """Fields of `Asked`."""
        return {"left_out": tuple(self._kinds), "unread": tuple(self._unread)}


class Asked(Struct, frozen=True, kw_only=True):
    """A request for the daemon. Exactly one of `messages` and `prompt` is given.

    `left_out`: what of the body has no effect on the answer although somebody may expect it.
    """

    model: str
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    max_tokens: int | None = None
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    logprobs: int = 0
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_calls: bool | None = None
    response_format: ResponseFormat | None = None
    thinks: bool | None = None
    """Whether the model is to think aloud; None: as its template likes it."""
    effort: str | None = None
    """How much it thinks, in the words of whoever asks."""
    is_streamed: bool = False
    wants_usage: bool = False
    compared_to: str | None = None
    """Id of the answer that this prompt should begin like; empty: a later one will ask."""
    has_call_ids: bool = True
    """Whether calls and results come back with the ids they went out with."""
    left_out: tuple[str, ...] = ()
    unread: tuple[Unread, ...] = ()

    def options(self, known_arguments: frozenset[str]) -> dict[str, Any]:
        """Keywords of `AsyncClient.generate`; the template's arguments only if it knows them."""
        given: dict[str, Any] = {
            name: value
            for name in ("messages", "prompt", "max_tokens", "parallel_calls", "response_format")
            if (value := getattr(self, name)) is not None
        }
        plain = msgspec.to_builtins(self.sampling)
        given |= {name: value for name, value in plain.items() if value is not None}
        if self.stop:
            given["stop"] = self.stop
        if self.logprobs:
            given["logprobs"] = self.logprobs
        if self.tools:
            given["tools"] = self.tools
            if self.tool_choice is not None:
                given["tool_choice"] = self.tool_choice
        if arguments := self.template_args(known_arguments):
            given["template_args"] = arguments
        return given

    def template_args(self, known: frozenset[str]) -> dict[str, Any]:
        """What the chat template is told of thinking, in its own words."""
        told: dict[str, Any] = {}
        if self.thinks is not None:
            told["enable_thinking"] = self.thinks
        if self.effort is not None:
            told["reasoning_effort"] = self.effort
        return {name: value for name, value in told.items() if name in known}


def seed_of(given: int | None) -> int | None:
    """A seed of the wire. Packages take any number, also below zero; the wire takes 53 bits."""
    return None if given is None else given % _SEEDS


def refuse(path: str, reason: str) -> HotseatError:
    """The error of a field that is wrong."""
    return HotseatError("invalid_request", f"{path}: {reason}", field=path)


def unsupported(path: str, reason: str) -> HotseatError:
    """The error of a field that means something nobody here can do."""
    return HotseatError("unsupported_feature", f"{path}: {reason}", field=path)


def tool_of(path: str, name: Any, description: Any, parameters: Any, strict: Any) -> Tool:
    """A tool of the wire. Raises invalid_request."""
    plain = {
        "function": {
            "name": name,
            "description": description or "",
            "parameters": parameters or {},
            "strict": bool(strict),
        }
    }
    try:
        return msgspec.convert(plain, Tool)
    except msgspec.ValidationError as error:
        raise refuse(path, str(error)) from error


def named_tool(path: str, name: str, tools: tuple[Tool, ...]) -> NamedTool:
    """A choice of one tool that has to be among those given."""
    if all(tool.function.name != name for tool in tools):
        raise refuse(path, f"there is no tool {name!r} among `tools`")
    return NamedTool(name=name)
