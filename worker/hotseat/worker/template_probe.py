"""Decides at registration how a further turn is appended to a model's context.

Compares, as ids, dialogues rendered whole with the same dialogues rendered turn by turn. Must not
know weights, KV or files.
"""

from collections.abc import Sequence
from typing import Any, Final

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message
from hotseat.protocol.model import TemplateProbe
from hotseat.worker.rendering import Renderer, template_text

_CLOCK: Final = 1_700_000_000.0
_SYSTEM: Final = Message(role="system", content="Speak like a lighthouse keeper.")
_TURNS: Final = (
    ("Name a river.", "The Danube flows east."),
    ("Write two lines.\n\nKeep the blank one above.", "First line.\n\n    Second line, indented."),
    ("Thanks! What is 2 + 2?", "4"),
)
"""User text and answer. Answers neither start nor end with white space: some templates trim."""
_REASONING: Final = "Counting the boats aloud."
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "measure_tide",
        "description": "Height of the tide.",
        "parameters": {"type": "object", "properties": {}, "required": []},
    },
}


class _NotExact(Exception):  # noqa: N818 - carries a finding of the probe, not a failure
    """Incremental and whole rendering differ; the text says where."""


def probe_template(tokenizer: Any) -> TemplateProbe:
    """How this tokenizer's template lets a turn be appended; never raises for a bad template."""
    if not tokenizer.has_chat_template:
        return TemplateProbe(mode="raw", reason="no chat template", system=False)
    hopeful = Renderer(tokenizer, TemplateProbe(mode="exact"))
    system = _takes_system(hopeful, tokenizer)
    tools = _takes_tools(hopeful, tokenizer)
    try:
        _compare_turns(hopeful, tokenizer, ())
        if system:
            _compare_turns(hopeful, tokenizer, (_SYSTEM,))
        if _may_reason(tokenizer):
            _compare_reasoning(hopeful, tokenizer)
    except _NotExact as finding:
        return TemplateProbe(mode="render", reason=str(finding), system=system, tools=tools)
    except HotseatError as error:
        return TemplateProbe(mode="render", reason=error.message, system=system, tools=tools)
    return TemplateProbe(mode="exact", system=system, tools=tools)


def _compare_turns(renderer: Renderer, tokenizer: Any, lead: Sequence[Message]) -> None:
    """Two further turns, appended once after an end-of-turn id and once after a cut reply."""
    dialogue = [*lead, Message(role="user", content=_TURNS[0][0])]
    context = renderer.render(dialogue, _CLOCK)
    ends = frozenset(tokenizer.eos_token_ids)
    for number, (_, answer) in enumerate(_TURNS[:-1]):
        context += _answer_ids(tokenizer, answer)
        dialogue += [
            Message(role="assistant", content=answer),
            Message(role="user", content=_TURNS[number + 1][0]),
        ]
        whole = renderer.render(dialogue, _CLOCK)
        added = renderer.append(context, dialogue[-1:], _CLOCK)
        where = f"turn {number + 2}{' after a system message' if lead else ''}"
        _expect(tokenizer, whole, context + added, where)
        if added and added[0] in ends:
            closed = [*context, added[0]]
            closed += renderer.append(closed, dialogue[-1:], _CLOCK)
            _expect(tokenizer, whole, closed, f"{where}, closed by the model")
        context = whole


def _compare_reasoning(renderer: Renderer, tokenizer: Any) -> None:
    """Reasoning that the model wrote stays in its KV, so the template has to keep it as well."""
    start, end = tokenizer.think_start, tokenizer.think_end
    question = Message(role="user", content=_TURNS[0][0])
    follow_up = Message(role="user", content=_TURNS[1][0])
    inline = f"{start}\n{_REASONING}\n{end}\n\n{_TURNS[0][1]}"
    for answer in (
        Message(role="assistant", content=_TURNS[0][1], reasoning=_REASONING),
        Message(role="assistant", content=inline),
    ):
        whole = renderer.render([question, answer, follow_up], _CLOCK)
        if _REASONING not in tokenizer.decode(whole):
            raise _NotExact("the template drops the reasoning of earlier turns")


def _expect(tokenizer: Any, whole: list[int], stepwise: list[int], where: str) -> None:
    if whole == stepwise:
        return
    pairs = enumerate(zip(whole, stepwise, strict=False))
    same = next((at for at, (left, right) in pairs if left != right), None)
    at = min(len(whole), len(stepwise)) if same is None else same
    expected = tokenizer.decode(whole[at : at + 4])
    found = tokenizer.decode(stepwise[at : at + 4])
    raise _NotExact(
        f"{where}: rendering the whole dialogue differs at id {at}: {expected!r}, not {found!r}"
    )


def _answer_ids(tokenizer: Any, text: str) -> list[int]:
    return [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]


def _may_reason(tokenizer: Any) -> bool:
    start = tokenizer.think_start
    return start is not None and start in template_text(tokenizer)


def _takes_system(renderer: Renderer, tokenizer: Any) -> bool:
    try:
        ids = renderer.render([_SYSTEM, Message(role="user", content="Hello")], _CLOCK)
    except HotseatError:
        return False
    return str(_SYSTEM.content) in tokenizer.decode(ids)


def _takes_tools(renderer: Renderer, tokenizer: Any) -> bool:
    try:
        ids = renderer.render([Message(role="user", content="Hello")], _CLOCK, tools=[_TOOL])
    except HotseatError:
        return False
    return "measure_tide" in tokenizer.decode(ids)
