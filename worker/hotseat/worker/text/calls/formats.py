"""Which way of writing calls a model has, by mlx-lm's name for it or by its chat template.

Must not know streams or requests.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from hotseat.protocol.messages import Tool
from hotseat.worker.text.calls.call import Found
from hotseat.worker.text.calls.element_form import (
    CODER,
    GLM,
    KIMI_K3,
    LONGCAT,
    MINICPM,
    MINIMAX,
    MUSE,
)
from hotseat.worker.text.calls.json_form import (
    DEEPSEEK,
    DEEPSEEK_PLAIN,
    KIMI_K2,
    read_mistral,
    read_objects,
)
from hotseat.worker.text.calls.literal_form import read_function_gemma, read_gemma4, read_python

Reader = Callable[[str, Sequence[Tool]], Found]
"""Reads the calls at the beginning of what stands behind the mark; raises CallError."""


class CallFormat(Struct, frozen=True, kw_only=True):
    """How a model writes calls.

    `end` is empty where nothing but the output's end tells that no further call follows.
    `ends_itself`: a call that reads as one is whole, even if the mark behind it is missing.
    """

    name: str
    start: str
    end: str
    read: Reader
    ends_itself: bool = True
    argument_end: str = ""
    """Given where arguments have no escapes: a call that one of them quotes looks like a call."""
    is_bare: bool = False
    """A call may be the whole answer, without a mark."""
    unopened: str = ""
    """With a tool's name for NAME: begins a line, and a call whose mark the model forgot."""


def call_format(tokenizer: Any) -> CallFormat | None:
    """The format of an mlx_lm `TokenizerWrapper`; None if its model is not known to call."""
    named = tokenizer.init_kwargs.get("tool_parser_type") if tokenizer.has_tool_calling else None
    if named is not None:
        return FORMATS.get(str(named))
    return format_of_template(tokenizer.chat_template)


def speaks_harmony(tokenizer: Any) -> bool:
    """True if the model answers in messages with channels: calls are messages there."""
    return speaks_harmony_in(_source(tokenizer.chat_template))


def speaks_harmony_in(source: str) -> bool:
    """The same, of a template's text."""
    return all(mark in source for mark in ("<|start|>", "<|channel|>", "<|message|>"))


def format_name(tokenizer: Any) -> str:
    """Name of the model's way to write calls; empty if it is not known to call."""
    if speaks_harmony(tokenizer):
        return HARMONY
    calls = call_format(tokenizer)
    return calls.name if calls is not None else ""


def format_of_template(template: Any) -> CallFormat | None:
    """The format that a chat template shows, of those that mlx-lm has no name for."""
    source = _source(template)
    for name, signs in _SIGNS:
        if all(sign in source for sign in signs):
            return FORMATS[name]
    return None


def _source(template: Any) -> str:
    """Text of a chat template; several named ones together."""
    texts = template.values() if isinstance(template, Mapping) else [template]
    return "\n".join(text for text in texts if isinstance(text, str))


HARMONY: Final = "harmony"
_SIGNS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("deepseek", ("<｜tool▁calls▁begin｜>", "```json")),  # noqa: RUF001
    ("deepseek_plain", ("<｜tool▁calls▁begin｜>",)),  # noqa: RUF001
    ("phi", ("<|tool_call|>", "<|/tool_call|>")),
    ("granite", ("<|tool_call|>",)),
    ("command", ("<|START_ACTION|>",)),
    ("llama", ("<|python_tag|>",)),
    ("llama", ("ipython", '"parameters": ')),
    ("json_tools", ("<tool_call>", "</tool_call>")),
)
"""The first name whose signs all stand in a template counts. The small Llama 3.2 have no mark."""

_BEGIN, _END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"  # noqa: RUF001
FORMATS: Final[dict[str, CallFormat]] = {
    made.name: made
    for made in (
        CallFormat(name="json_tools", start="<tool_call>", end="</tool_call>", read=read_objects),
        CallFormat(
            name="qwen3_coder",
            start="<tool_call>",
            end="</tool_call>",
            read=CODER.read,
            argument_end=CODER.argument_end,
            unopened="<function=NAME>",
        ),
        CallFormat(
            name="glm47",
            start="<tool_call>",
            end="</tool_call>",
            read=GLM.read,
            argument_end=GLM.argument_end,
            ends_itself=False,
        ),
        CallFormat(
            name="laguna",
            start="<tool_call>",
            end="</tool_call>",
            read=GLM.read,
            argument_end=GLM.argument_end,
            ends_itself=False,
        ),
        CallFormat(
            name="longcat",
            start="<longcat_tool_call>",
            end="</longcat_tool_call>",
            read=LONGCAT.read,
            argument_end=LONGCAT.argument_end,
            ends_itself=False,
        ),
        CallFormat(
            name="minimax_m2",
            start="<minimax:tool_call>",
            end="</minimax:tool_call>",
            read=MINIMAX.read,
            argument_end=MINIMAX.argument_end,
        ),
        CallFormat(
            name="muse_spark",
            start="<atem:function_calls>",
            end="</atem:function_calls>",
            read=MUSE.read,
            argument_end=MUSE.argument_end,
        ),
        CallFormat(
            name="minicpm5",
            start="<function name=",
            end="</function>",
            read=MINICPM.read,
            argument_end=MINICPM.argument_end,
            ends_itself=False,
        ),
        CallFormat(
            name="kimi_k2",
            start="<|tool_calls_section_begin|>",
            end="<|tool_calls_section_end|>",
            read=KIMI_K2,
        ),
        CallFormat(
            name="kimi_k3",
            start="<|open|>tools<|sep|>",
            end="<|close|>tools<|sep|>",
            read=KIMI_K3.read,
            argument_end=KIMI_K3.argument_end,
        ),
        CallFormat(name="mistral", start="[TOOL_CALLS]", end="", read=read_mistral),
        CallFormat(
            name="pythonic",
            start="<|tool_call_start|>",
            end="<|tool_call_end|>",
            read=read_python,
        ),
        CallFormat(name="gemma4", start="<|tool_call>", end="<tool_call|>", read=read_gemma4),
        CallFormat(
            name="function_gemma",
            start="<start_function_call>",
            end="<end_function_call>",
            read=read_function_gemma,
        ),
        CallFormat(name="deepseek", start=_BEGIN, end=_END, read=DEEPSEEK),
        CallFormat(name="deepseek_plain", start=_BEGIN, end=_END, read=DEEPSEEK_PLAIN),
        CallFormat(name="phi", start="<|tool_call|>", end="<|/tool_call|>", read=read_objects),
        CallFormat(name="granite", start="<|tool_call|>", end="", read=read_objects),
        CallFormat(
            name="command",
            start="<|START_ACTION|>",
            end="<|END_ACTION|>",
            read=read_objects,
        ),
        CallFormat(name="llama", start="<|python_tag|>", end="", read=read_objects, is_bare=True),
    )
}
"""Every format by its name; the names of mlx-lm's parsers where it has one."""
