"""What a request asks of the form of its output, as a Lark grammar for `grammar`.

Knows how models write tool calls, one function per mlx-lm parser. Must not know tokens or arrays.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.json_schema import Schema, arguments_schema
from hotseat.protocol.messages import NamedTool, ResponseFormat, Tool, ToolChoice
from hotseat.worker.text.calls.formats import FORMATS
from hotseat.worker.text.schemas import Plain, grounded

Terminal = Callable[[str], str]
"""A mark of the tokenizer to a terminal of the grammar."""

_ANY_OBJECT: Final[Schema] = {"type": "object"}


class Marks(Struct, frozen=True, kw_only=True):
    """How a model marks reasoning and calls. `thinks`: the prompt opened its reasoning already."""

    think_start: str | None = None
    think_end: str | None = None
    thinks: bool = False
    call_start: str | None = None
    call_end: str | None = None
    parser: str = ""
    names_first: bool = False
    """Mistral only: `name[ARGS]{...}` instead of a list of objects."""


class _Rules:
    """Rules of a grammar in the making."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._lines: list[str] = []

    def add(self, name: str, body: str, attribute: str = "") -> str:
        """Adds a rule; its name."""
        self._lines.append(f"{name}{attribute}: {body}")
        return name

    def json(self, name: str, schema: Schema) -> str:
        """A rule for JSON of a schema in the library's words."""
        return self.add(name, f"%json {json.dumps(schema)}")

    def text(self) -> str:
        """All rules, `start` first."""
        return "\n".join([*self._lines, r"WS: /[ \n]{0,2}/", r"TEXT: /(.|\n)*/", ""])


def make_grammar(
    marks: Marks,
    terminal: Terminal,
    *,
    response_format: ResponseFormat | None,
    tool_choice: ToolChoice,
    tools: Sequence[Tool],
) -> str | None:
    """The grammar of the whole completion; None if every text will do.

    Raises unsupported_feature where the model's way to write calls is not known here.
    """
    rules = _Rules(terminal)
    answers = []
    schema = answer_schema(response_format)
    is_forced = tool_choice not in ("auto", "none")
    if schema is not None and not is_forced:
        answers.append(rules.json("answer", Plain(schema).whole()))
    if is_forced or (schema is not None and tools and tool_choice == "auto"):
        field = "tool_choice" if is_forced else "response_format"
        answers.append(_calls(rules, marks, tool_choice, tools, field))
    if not answers and tool_choice == "auto" and is_any_strict(tools):
        answers.append(_free_text_and_calls(rules, marks, tools))
    if not answers:
        return None
    start = f"{_thinking(rules, marks)} WS ({' | '.join(answers)})"
    return f"start: {start}\n{rules.text()}"


def answer_schema(response_format: ResponseFormat | None) -> Schema | None:
    """The JSON schema of the answer; None if it is free text."""
    if response_format is None or response_format.type == "text":
        return None
    if response_format.type == "json_object":
        return _ANY_OBJECT
    return response_format.schema or {}


def _free_text_and_calls(rules: _Rules, marks: Marks, tools: Sequence[Tool]) -> str:
    """Any text without what begins a call, then calls or none."""
    calls = _calls(rules, marks, "auto", tools, "tools.function.strict")
    begins = [marks.call_start or ""]
    if marks.parser in FORMATS and (unopened := FORMATS[marks.parser].unopened):
        begins += [unopened.replace("NAME", tool.function.name) for tool in tools]
    words = "|".join(re.escape(word).replace("/", r"\/") for word in begins)
    rules.add("PROSE", rf"/(.|\n)*/ & ~/(.|\n)*({words})(.|\n)*/")
    return f"PROSE {calls}?"


def _thinking(rules: _Rules, marks: Marks) -> str:
    """Reasoning stays free: the grammar begins behind it."""
    if marks.think_start is None or marks.think_end is None:
        return ""
    end = rules.terminal(marks.think_end)
    if end.startswith("<["):
        rules.add("thinking", f"TEXT {end}")
    else:
        rules.add("thinking", r"/(.|\n)*/", f"[suffix={end}]")
    if marks.thinks:
        return "thinking"
    return f"({rules.terminal(marks.think_start)} thinking)?"


def _calls(
    rules: _Rules, marks: Marks, choice: ToolChoice, tools: Sequence[Tool], field: str
) -> str:
    """Rule for one call of a named tool, or for calls of any."""
    allowed = tools
    if isinstance(choice, NamedTool):
        allowed = [tool for tool in tools if tool.function.name == choice.name]
    make = _FORMS.get(marks.parser)
    if make is None or marks.call_start is None or not allowed:
        raise HotseatError(
            "unsupported_feature",
            f"{field}: calls in the format {marks.parser or 'of this model'!r} cannot be forced; "
            "use tool_choice auto",
            field=field,
        )
    one = make(rules, marks, allowed)
    # Without an end mark nothing tells where a second call begins.
    is_single = isinstance(choice, NamedTool) or not marks.call_end
    return rules.add("calls", one if is_single else f"{one} (WS {one})*")


def _json_form(rules: _Rules, marks: Marks, tools: Sequence[Tool]) -> str:
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`."""
    bodies = [rules.json(f"call_{index}", _call_schema([tool])) for index, tool in enumerate(tools)]
    start, end = rules.terminal(marks.call_start or ""), rules.terminal(marks.call_end or "")
    return rules.add("call", f'{start} "\\n"? ({" | ".join(bodies)}) "\\n"? {end}')


def _mistral_form(rules: _Rules, marks: Marks, tools: Sequence[Tool]) -> str:
    """`[TOOL_CALLS]name[ARGS]{...}`, or a list of objects before the eleventh tokenizer."""
    start = rules.terminal(marks.call_start or "")
    if not marks.names_first:
        one = _call_schema(tools, in_list=True)
        return rules.add("call", f"{start} {rules.json('call_list', one)}")
    args = rules.terminal("[ARGS]")
    bodies = [
        rules.add(
            f"call_{index}",
            f"{json.dumps(tool.function.name)} {args} "
            + rules.json(f"arguments_{index}", Plain(arguments_of(tool)).whole()),
        )
        for index, tool in enumerate(tools)
    ]
    return rules.add("call", f"{start} ({' | '.join(bodies)})")


def _kimi_form(rules: _Rules, marks: Marks, tools: Sequence[Tool]) -> str:
    """A section of `functions.name:0` and JSON arguments, each between marks of its own."""
    begin, end = rules.terminal("<|tool_call_begin|>"), rules.terminal("<|tool_call_end|>")
    middle = rules.terminal("<|tool_call_argument_begin|>")
    rules.add("call_number", "/[0-9]{1,2}/")
    bodies = [
        rules.add(
            f"call_{index}",
            f"{begin} {json.dumps(f'functions.{tool.function.name}:')} call_number {middle} "
            f"{rules.json(f'arguments_{index}', Plain(arguments_of(tool)).whole())} {end}",
        )
        for index, tool in enumerate(tools)
    ]
    start, stop = rules.terminal(marks.call_start or ""), rules.terminal(marks.call_end or "")
    return rules.add("call", f"{start} ({' | '.join(bodies)}) {stop}")


def _coder_form(rules: _Rules, marks: Marks, tools: Sequence[Tool]) -> str:
    """`<function=name>` with a `<parameter=name>` element for each argument."""
    start, end = rules.terminal(marks.call_start or ""), rules.terminal(marks.call_end or "")
    bodies = []
    for index, tool in enumerate(tools):
        plain = Plain(arguments_of(tool))
        required = set(plain.body.get("required", ()))
        items = []
        for number, (name, kind) in enumerate(plain.body.get("properties", {}).items()):
            rule = f"parameter_{index}_{number}"
            value = _coder_value(rules, rule, tool, name, kind, plain)
            rules.add(rule, f"{json.dumps(f'<parameter={name}>')} {value}")
            items.append(rule if name in required else f"{rule}?")
        opening = json.dumps(f"<function={tool.function.name}>\n")
        rules.add(f"call_{index}", f'{opening} {" ".join(items)} "</function>"')
        bodies.append(f"call_{index}")
    return rules.add("call", f'{start} "\\n" ({" | ".join(bodies)}) "\\n" {end}')


def _coder_value(rules: _Rules, rule: str, tool: Tool, name: str, kind: Any, plain: Plain) -> str:
    """A value between newlines, and the end of its element."""
    end = "\n</parameter>\n"
    type_name = kind.get("type") if isinstance(kind, dict) else None
    if type_name == "string" and kind.keys() & {"enum", "const"}:
        given = [kind["const"]] if "const" in kind else kind["enum"]
        texts = [word for word in given if isinstance(word, str)]
        words = " | ".join(map(json.dumps, texts))
        return f'"\\n" ({words}) {json.dumps(end)}'
    if type_name == "string":
        rules.add(f"{rule}_text", r"/(.|\n)*/", f"[suffix={json.dumps(end)}]")
        return f'"\\n" {rule}_text'
    if not isinstance(type_name, str):
        raise HotseatError(
            "unsupported_feature",
            f"tool_choice: parameter {name!r} of {tool.function.name} has no single JSON type, "
            "which this model's way to write calls needs; give it one",
            field="tool_choice",
        )
    value = rules.json(f"{rule}_json", grounded(kind, plain.definitions))
    return f'"\\n" {value} {json.dumps(end)}'


def arguments_of(tool: Tool) -> Schema:
    """The schema of a tool's arguments."""
    return arguments_schema(tool.function.parameters)


def is_any_strict(tools: Sequence[Tool]) -> bool:
    """True if calls have to follow a schema although the model chooses whether to call."""
    return any(tool.function.strict for tool in tools)


def _call_schema(tools: Sequence[Tool], *, in_list: bool = False) -> Schema:
    """An object with the name and the arguments of one of these tools, or a list of one."""
    definitions: dict[str, Any] = {}
    calls: list[Schema] = []
    for index, tool in enumerate(tools):
        plain = Plain(arguments_of(tool), f"tool{index}_")
        definitions |= plain.definitions
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool.function.name}, "arguments": plain.body},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    one: Schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    if in_list:
        one = {"type": "array", "items": one, "minItems": 1, "maxItems": 1}
    return grounded(one, definitions)


_FORMS: Final[dict[str, Callable[[_Rules, Marks, Sequence[Tool]], str]]] = {
    "json_tools": _json_form,
    "mistral": _mistral_form,
    "kimi_k2": _kimi_form,
    "qwen3_coder": _coder_form,
}
FORCIBLE: Final = frozenset(_FORMS)
"""mlx-lm parsers whose calls can be forced."""
