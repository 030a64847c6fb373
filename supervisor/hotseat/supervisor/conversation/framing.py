"""What stands around a conversation and its answer: tools, template arguments, forms. Pure.

Tools and template arguments are fixed by the first turn of a session; how an answer has to look is
each request's own. Raises `HotseatError` for what the model cannot honour: nothing is ignored.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Generate, Message, NamedTool, Tool
from hotseat.protocol.model import PROBE_VERSION, ModelRecord
from hotseat.supervisor.conversation.schemas.check import check_arguments, check_schema

_OWN_ARGUMENTS: Final = frozenset(
    {"messages", "tools", "add_generation_prompt", "tokenize", "chat_template", "return_dict"}
)
"""Names that rendering itself gives to a template."""
_OF_CHATS: Final = ("tools", "tool_choice", "template_args")
"""Fields that mean something to a chat template only."""


class Framing(Struct, frozen=True, kw_only=True):
    """What the chat template gets beside messages."""

    tools: tuple[Tool, ...] = ()
    template_args: dict[str, Any] = {}


def registered_before(record: ModelRecord) -> str:
    """What to do about a model that an older version registered; empty if there is nothing."""
    template = record.template
    if template.mode == "raw" or template.version >= PROBE_VERSION:
        return ""
    adapter = f" --adapter {record.adapter}" if record.adapter else ""
    return (
        "an older hotseat registered it and did not look for all that its chat template can do; "
        f"`hotseat import {record.source.path} --name {record.name}{adapter}` looks again"
    )


def check_form(request: Generate) -> None:
    """Refuses tools, forms and arguments that no session or model could make right."""
    if not isinstance(request.messages or request.append, tuple):
        for field in _OF_CHATS:
            if getattr(request, field) is not None:
                raise _unsupported(field, f"{field}: only chats have it; send messages")
    names = [tool.function.name for tool in request.tools or ()]
    for index, name in enumerate(names):
        if name in names[:index]:
            field = f"tools[{index}].function.name"
            raise _invalid(field, f"{field}: {name!r} is there twice; give each tool its own name")
    wanted = request.response_format
    if wanted is not None and (wanted.type == "json_schema") != (wanted.schema is not None):
        text = "response_format: a schema belongs to json_schema, and only to it"
        raise _invalid("response_format.schema", text)
    if wanted is not None and wanted.schema is not None:
        check_schema(wanted.schema, "response_format.schema")
    for name in sorted(_OWN_ARGUMENTS & set(request.template_args or ())):
        text = f"template_args.{name} is given by hotseat itself; leave it out"
        raise _invalid(f"template_args.{name}", text)


def has_schema(request: Generate, tools: Sequence[Tool]) -> bool:
    """True if the answer is held to a schema of the client's own, of `tools` or of the answer."""
    if request.response_format is not None and request.response_format.schema is not None:
        return True
    if request.tool_choice not in (None, "auto", "none"):
        return bool(tools)
    return request.tool_choice != "none" and any(tool.function.strict for tool in tools)


def frame_turn(request: Generate, record: ModelRecord, held: Framing | None, turn: int) -> Framing:
    """Tools and template arguments of this turn; `held` are those of the session it goes on with.

    Checks what was asked of the answer against what the model can do.
    """
    asked = Framing(tools=request.tools or (), template_args=request.template_args or {})
    framing = asked
    if held is not None:
        framing = Framing(
            tools=held.tools if request.tools is None else asked.tools,
            template_args=held.template_args
            if request.template_args is None
            else asked.template_args,
        )
        if framing != held and not request.rerender:
            field = "tools" if framing.tools != held.tools else "template_args"
            raise HotseatError(
                "session_diverged",
                f"{field} are fixed by the first turn of a session; set rerender to change them",
                field=field,
                turn=turn,
            )
    _check_tools(request, framing, record)
    _check_arguments(framing, record)
    return framing


def appends_exactly(record: ModelRecord, framing: Framing, reply: Message | None) -> bool:
    """True if a turn can be appended to the ids of the turns before, the last of them `reply`.

    What the template does not take of a reply is folded anew: its ids are others then.
    """
    template = record.template
    if template.mode != "exact" or (framing.tools and not template.append_tools):
        return False
    if reply is None:
        return True
    calls = reply.tool_calls
    folded = {
        "parallel_calls": len(calls) > 1,
        "text_with_calls": bool(calls and reply.content),
        "empty_replies": not (calls or reply.content),
    }
    return not any(folded.get(fold) for fold in template.folds)


def is_same_message(given: Message, held: Message) -> bool:
    """True if a client repeats a message of the session, in the form it knows it.

    Clients drop reasoning, write empty content as null, and space the JSON of arguments anew.
    """
    return (
        given.role == held.role
        and (given.content or "") == (held.content or "")
        and given.name == held.name
        and given.tool_call_id == held.tool_call_id
        and (given.reasoning or held.reasoning) == held.reasoning
        and _calls(given) == _calls(held)
    )


def _calls(message: Message) -> list[tuple[str, str, Any]]:
    return [(call.id, call.name, _as_json(call.arguments)) for call in message.tool_calls]


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _check_tools(request: Generate, framing: Framing, record: ModelRecord) -> None:
    choice = request.tool_choice or "auto"
    is_forced = choice not in ("auto", "none")
    template = record.template
    if is_forced and not framing.tools:
        text = "tool_choice: there are no tools to choose from; give tools"
        raise _invalid("tool_choice", text)
    names = [tool.function.name for tool in framing.tools]
    if isinstance(choice, NamedTool) and choice.name not in names:
        known = ", ".join(names)
        text = f"tool_choice: no tool is called {choice.name!r}; there are {known}"
        raise _invalid("tool_choice", text)
    if not framing.tools:
        return
    if not template.tools:
        raise _unsupported(
            "tools",
            f"the chat template of {record.name} has no place for tools; "
            f"{registered_before(record) or 'describe them in a message'}",
        )
    if not template.tool_parser and choice != "none":
        raise _unsupported(
            "tools",
            f"no parser is known for the calls of {record.name}; "
            f"{registered_before(record) or 'describe the tools in a message'}",
        )
    is_formed = request.response_format is not None and request.response_format.type != "text"
    if not template.forces_calls and (is_forced or (is_formed and choice == "auto")):
        field = "tool_choice" if is_forced else "response_format"
        raise _unsupported(
            field,
            f"{field}: calls of {record.name} (format {template.tool_parser}) cannot be "
            "constrained; use tool_choice auto without a response_format",
        )
    is_strict = choice == "auto" and any(tool.function.strict for tool in framing.tools)
    if is_strict and not template.forces_calls:
        field = "tools.function.strict"
        raise _unsupported(
            field,
            f"{field}: calls of {record.name} (format {template.tool_parser}) cannot be "
            "constrained; leave strict out",
        )
    if is_forced or is_strict or (is_formed and choice == "auto"):
        for index, tool in enumerate(framing.tools):
            where = f"tools[{index}].function.parameters"
            check_arguments(tool.function.parameters, where, template.tool_parser)


def _check_arguments(framing: Framing, record: ModelRecord) -> None:
    for name in framing.template_args:
        if name not in record.template.arguments:
            known = ", ".join(record.template.arguments) or "none"
            hint = registered_before(record) or f"it takes {known}"
            raise _unsupported(
                f"template_args.{name}",
                f"the chat template of {record.name} takes no {name!r}; {hint}",
            )


def _invalid(field: str, text: str) -> HotseatError:
    return HotseatError("invalid_request", text, field=field)


def _unsupported(field: str, text: str) -> HotseatError:
    return HotseatError("unsupported_feature", text, field=field)
