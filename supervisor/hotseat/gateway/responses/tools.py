"""Tools of Responses: functions, those of a namespace, and what nobody here can run. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from hotseat.gateway.asked import named_tool, refuse, tool_of, unsupported
from hotseat.protocol.messages import Tool, ToolChoice

_JOINT: Final = "__"


class OfferedTool(Struct, kw_only=True):
    """One entry of `tools`, or one of the functions in a namespace."""

    type: str
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    tools: "list[OfferedTool] | None" = None


class ChosenTool(Struct, kw_only=True):
    """A `tool_choice` that is no word."""

    type: str
    name: str | None = None
    namespace: str | None = None
    mode: str | None = None
    tools: "list[ChosenTool] | None" = None


class Toolbox(Struct, frozen=True, kw_only=True):
    """What a model is shown. `origins`: its name of a function, to namespace and name there."""

    tools: tuple[Tool, ...] = ()
    origins: Mapping[str, tuple[str, str]] = {}
    left_out: tuple[str, ...] = ()


def flat_name(namespace: str | None, name: str) -> str:
    """The name by which a model knows a function of a namespace."""
    if not namespace:
        return name
    return f"{namespace}{'' if namespace.endswith(_JOINT) else _JOINT}{name}"


def open_toolbox(given: Sequence[OfferedTool]) -> Toolbox:
    """Functions, flattened; hosted and custom tools are left out. Raises invalid_request."""
    tools: list[Tool] = []
    origins: dict[str, tuple[str, str]] = {}
    left_out: list[str] = []
    for at, entry in enumerate(given):
        path = f"tools[{at}]"
        if entry.type == "function":
            tools.append(_function(path, entry, entry.name))
        elif entry.type == "namespace":
            for number, inner in enumerate(entry.tools or []):
                if inner.type != "function":
                    left_out.append(f"tool {inner.type}")
                    continue
                flat = flat_name(entry.name, inner.name)
                origins[flat] = entry.name, inner.name
                tools.append(_function(f"{path}.tools[{number}]", inner, flat))
        else:
            left_out.append(f"tool {entry.type}")
    return Toolbox(tools=tuple(tools), origins=origins, left_out=tuple(left_out))


def _function(path: str, tool: OfferedTool, name: str) -> Tool:
    return tool_of(path, name, tool.description, tool.parameters, tool.strict)


def choose(given: str | ChosenTool | None, box: Toolbox) -> tuple[ToolChoice | None, Toolbox]:
    """How the model is to choose, and from what."""
    if given is None:
        return None, box
    if isinstance(given, ChosenTool):
        return _chosen(given, box)
    words: dict[str, ToolChoice] = {"auto": "auto", "none": "none", "required": "required"}
    if given not in words:
        raise refuse("tool_choice", f"{given!r} is none of {', '.join(words)}, nor a function")
    if given == "required" and not box.tools and box.left_out:
        kinds = ", ".join(box.left_out)
        raise unsupported("tool_choice", f"nobody here can run what there is ({kinds})")
    return words[given], box


def _chosen(given: ChosenTool, box: Toolbox) -> tuple[ToolChoice | None, Toolbox]:
    if given.type == "function":
        return named_tool("tool_choice", flat_name(given.namespace, given.name or ""), box.tools), (
            box
        )
    if given.type != "allowed_tools":
        text = f"{given.type!r} cannot be run here; choose a function"
        raise unsupported("tool_choice.type", text)
    allowed = {
        flat_name(tool.namespace, tool.name or "")
        for tool in given.tools or []
        if tool.type == "function"
    }
    kept = tuple(tool for tool in box.tools if tool.function.name in allowed)
    if not kept:
        raise refuse("tool_choice.tools", "names no function that is among `tools`")
    choice: ToolChoice = "required" if given.mode == "required" else "auto"
    return choice, Toolbox(tools=kept, origins=box.origins, left_out=box.left_out)
