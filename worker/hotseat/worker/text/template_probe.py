"""Decides at registration how a further turn is appended to a model's context.

Compares, as ids, dialogues rendered whole with the same dialogues rendered turn by turn. Must not
know weights, KV or files.
"""

import re
from collections.abc import Sequence
from itertools import product
from typing import Any, Final

import jinja2
import jinja2.meta
from msgspec import structs

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import FunctionSpec, Message, Tool, ToolCall
from hotseat.protocol.model import PROBE_VERSION, TemplateProbe
from hotseat.worker.text.calls.formats import format_name
from hotseat.worker.text.constraints import FORCIBLE
from hotseat.worker.text.history_probe import probe_history, settle_history
from hotseat.worker.text.rendering import Renderer, encode_words, template_text

_CLOCK: Final = 1_700_000_000.0
_HELLO: Final = Message(role="user", content="Hello")
_SYSTEM: Final = Message(role="system", content="Speak like a lighthouse keeper.")
_TURNS: Final = (
    ("Name a river.", "The Danube flows east."),
    ("Write two lines.\n\nKeep the blank one above.", "First line.\n\n    Second line, indented."),
    ("Thanks! What is 2 + 2?", "4"),
)
"""User text and answer. Answers neither start nor end with white space: some templates trim."""
_REASONING: Final = "Counting the boats aloud."
_TOOL: Final = Tool(
    function=FunctionSpec(
        name="measure_tide",
        description="Height of the tide.",
        parameters={"type": "object", "properties": {}, "required": []},
    )
)
_CALLS: Final = tuple(
    ToolCall(id=f"tide0000{number}", name="measure_tide", arguments=f'{{"day": {number}}}')
    for number in range(2)
)
_CALLED: Final = Message(role="assistant", tool_calls=_CALLS[:1])
_TIDES: Final = (
    Message(role="tool", content="2 m", tool_call_id="tide00000"),
    Message(role="tool", content="3 m", tool_call_id="tide00001"),
)
_OWN_NAMES: Final = frozenset(
    {"messages", "tools", "add_generation_prompt", "documents", "strftime_now", "raise_exception"}
)
"""What a template reads that is no argument of its own; tokens like bos_token are not either."""


_DEFINED: Final = re.compile(r"\b([a-z_]+) is (?:not )?defined")


class _NotExact(Exception):  # noqa: N818 - carries a finding of the probe, not a failure
    """Incremental and whole rendering differ; the text says where."""


def probe_template(tokenizer: Any) -> TemplateProbe:
    """How this tokenizer's template lets a turn be appended; never raises for a bad template."""
    if not tokenizer.has_chat_template:
        return TemplateProbe(
            version=PROBE_VERSION, mode="raw", reason="no chat template", system=False
        )
    hopeful = Renderer(tokenizer, TemplateProbe(mode="exact"))
    has_tools = _shows(hopeful, tokenizer, "measure_tide", [_HELLO], (_TOOL,))
    parser = format_name(tokenizer)
    history = probe_history(tokenizer, (_TOOL,) if has_tools else (), parser)
    hopeful = Renderer(tokenizer, history)
    reason = _why_not_exact(hopeful, tokenizer)
    if not reason:
        history = settle_history(tokenizer, history)
        hopeful = Renderer(tokenizer, history)
    return TemplateProbe(
        version=PROBE_VERSION,
        mode="render" if reason else "exact",
        reason=reason,
        system="system" not in history.folds,
        tools=has_tools,
        append_tools=has_tools and not reason and _appends_tools(hopeful, tokenizer, history),
        tool_parser=parser,
        forces_calls=parser in FORCIBLE,
        thinking=bool(tokenizer.has_thinking),
        keeps_reasoning=_keeps_reasoning(hopeful, tokenizer),
        arguments=template_arguments(template_text(tokenizer)),
        call_arguments=history.call_arguments,
        null_content=history.null_content,
        folds=history.folds,
    )


def template_arguments(source: str) -> tuple[str, ...]:
    """Names that a template takes from outside beside what every template gets."""
    environment = jinja2.Environment(autoescape=False, extensions=["jinja2.ext.loopcontrols"])  # noqa: S701 - prompts are no HTML
    try:
        found = jinja2.meta.find_undeclared_variables(environment.parse(source))
    except jinja2.TemplateError:
        found = set(_DEFINED.findall(source))  # transformers has tags of its own
    names = sorted(name for name in found - _OWN_NAMES if not name.endswith("_token"))
    return tuple(names)


def _why_not_exact(renderer: Renderer, tokenizer: Any) -> str:
    """Where incremental and whole rendering differ; empty if they do not."""
    try:
        _compare_turns(renderer, tokenizer, ())
        _compare_turns(renderer, tokenizer, (_SYSTEM,))
        if not _keeps_reasoning(renderer, tokenizer):
            return "the template drops the reasoning of earlier turns"
    except _NotExact as finding:
        return str(finding)
    except HotseatError as error:
        return error.message
    return ""


def _appends_tools(renderer: Renderer, tokenizer: Any, history: TemplateProbe) -> bool:
    """True if turns and results of calls can be appended where tools were given."""
    if not _keeps_reasoning(renderer, tokenizer, (_CALLED, _TIDES[0])):
        return False
    before = [Message(role="user", content=_TURNS[0][0])]
    later = [*before, _CALLED, _TIDES[0], Message(role="assistant", content=_TURNS[0][1]), *before]
    texts = (None,) if "text_with_calls" in history.folds else (None, _TURNS[0][1])
    calls = (_CALLS[:1],) if "parallel_calls" in history.folds else (_CALLS[:1], _CALLS)
    try:
        _compare_turns(renderer, tokenizer, (), (_TOOL,))
        for asked, text, made in product((before, later), texts, calls):
            reply = Message(role="assistant", content=text, tool_calls=made)
            for count in (len(made), len(made) - 1):
                _compare_results(renderer, tokenizer, asked, reply, _TIDES[:count][::-1])
    except (_NotExact, HotseatError):
        return False
    return True


def _compare_results(
    renderer: Renderer,
    tokenizer: Any,
    asked: Sequence[Message],
    reply: Message,
    results: Sequence[Message],
) -> None:
    """Results, a question and both, appended to a reply that is as the template would write it.

    After them an answer and one more question.
    """
    question = Message(role="user", content=_TURNS[1][0])
    prompt = renderer.render(asked, _CLOCK, tools=(_TOOL,))
    shown = renderer.render([*asked, reply], _CLOCK, tools=(_TOOL,), generation_prompt=False)
    if shown[: len(prompt)] != prompt:
        raise _NotExact("the template does not go on with a call where the prompt ended")
    for added in ([*results], [question], [*results, question]):
        if not added:
            continue
        dialogue = [*asked, reply, *added]
        whole = renderer.render(dialogue, _CLOCK, tools=(_TOOL,))
        after = renderer.append(prompt, added, _CLOCK, calls=reply.tool_calls, tools=(_TOOL,))
        _expect(tokenizer, whole, shown[: len(whole) - len(after)] + after, "after a call")
        answered = whole + encode_words(tokenizer, _TURNS[1][1], special=False)
        answered += renderer.append(answered, [question], _CLOCK, calls=(), tools=(_TOOL,))
        dialogue += [Message(role="assistant", content=_TURNS[1][1]), question]
        whole = renderer.render(dialogue, _CLOCK, tools=(_TOOL,))
        _expect(tokenizer, whole, answered, "after an answer to results")


def _compare_turns(
    renderer: Renderer, tokenizer: Any, lead: Sequence[Message], tools: Sequence[Tool] = ()
) -> None:
    """Two further turns, appended once after an end-of-turn id and once after a cut reply."""
    dialogue = [*lead, Message(role="user", content=_TURNS[0][0])]
    context = renderer.render(dialogue, _CLOCK, tools=tools)
    ends = frozenset(tokenizer.eos_token_ids)
    for number, (_, answer) in enumerate(_TURNS[:-1]):
        context += encode_words(tokenizer, answer, special=False)
        dialogue += [
            Message(role="assistant", content=answer),
            Message(role="user", content=_TURNS[number + 1][0]),
        ]
        whole = renderer.render(dialogue, _CLOCK, tools=tools)
        added = renderer.append(context, dialogue[-1:], _CLOCK, tools=tools)
        where = f"turn {number + 2}{' after a system message' if lead else ''}"
        _expect(tokenizer, whole, context + added, where)
        if added and added[0] in ends:
            closed = [*context, added[0]]
            closed += renderer.append(closed, dialogue[-1:], _CLOCK, tools=tools)
            _expect(tokenizer, whole, closed, f"{where}, closed by the model")
        context = whole


def _keeps_reasoning(renderer: Renderer, tokenizer: Any, called: Sequence[Message] = ()) -> bool:
    """Reasoning that the model wrote stays in its KV, so the template has to keep it as well.

    `called`: a call and its result that come before the answer; the reasoning is then the call's.
    """
    if not _may_reason(tokenizer):
        return True
    start, end = tokenizer.think_start, tokenizer.think_end
    question = Message(role="user", content=_TURNS[0][0])
    follow_up = Message(role="user", content=_TURNS[1][0])
    if called:
        talk = [structs.replace(called[0], reasoning=_REASONING), *called[1:]]
        answer = Message(role="assistant", content=_TURNS[0][1])
        return _shows(
            renderer, tokenizer, _REASONING, [question, *talk, answer, follow_up], (_TOOL,)
        )
    inline = f"{start}\n{_REASONING}\n{end}\n\n{_TURNS[0][1]}"
    answers = (
        Message(role="assistant", content=_TURNS[0][1], reasoning=_REASONING),
        Message(role="assistant", content=inline),
    )
    return all(
        _shows(renderer, tokenizer, _REASONING, [question, answer, follow_up]) for answer in answers
    )


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


def _may_reason(tokenizer: Any) -> bool:
    start = tokenizer.think_start
    return start is not None and start in template_text(tokenizer)


def _shows(
    renderer: Renderer,
    tokenizer: Any,
    text: str,
    messages: Sequence[Message],
    tools: Sequence[Tool] = (),
) -> bool:
    """True if the template takes these messages and has `text` in what it makes of them."""
    try:
        ids = renderer.render(messages, _CLOCK, tools=tools)
    except HotseatError:
        return False
    return text in tokenizer.decode(ids)
