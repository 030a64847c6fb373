"""Harmony: which message is reasoning, which a call, which text."""

import pytest
from tests.support.call_samples import parts_of, said
from tests.support.models.chat_templates import load_family

from hotseat.protocol.messages import FunctionSpec, Message, Tool, ToolCall
from hotseat.worker.text.rendering import Renderer
from hotseat.worker.text.template_probe import probe_template

ANALYSIS = "<|channel|>analysis<|message|>"
NEXT = "<|end|><|start|>assistant"
TO_LOOK = "<|channel|>commentary to=functions.look <|constrain|>json<|message|>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"{ANALYSIS}The user greets.{NEXT}<|channel|>final<|message|>Hello you.",
            [("reasoning", "The user greets."), ("text", "Hello you.")],
        ),
        ("<|channel|>final<|message|>Hello.<|return|>", [("text", "Hello.")]),
        ("Hello, no channel.", [("text", "Hello, no channel.")]),
        ("<|start|>assistant<|message|>Hello.", [("text", "Hello.")]),
        (
            f'<|channel|>commentary<|message|>I look.{NEXT}{TO_LOOK}{{"at":"x"}}<|call|>',
            [("text", "I look."), ("look", {"at": "x"})],
        ),
        (
            ' to=functions.look<|channel|>commentary json<|message|>{"at":"<|end|>"}<|call|>',
            [("look", {"at": "<|end|>"})],
        ),
        (
            "<|channel|>commentary to=functions.rest<|message|><|call|>",
            [("rest", {})],
        ),
        ("<|channel|>ana", []),
        ('<|channel|>final to=user<|message|>{"q":1}<|return|>', [("text", '{"q":1}')]),
        ("<|channel|>" + "x" * 300, [("text", "<|channel|>" + "x" * 300)]),
        ("<|channel|>analysis<|message|>cut in the mid", [("reasoning", "cut in the mid")]),
        ("to= is an operator", [("text", "to= is an operator")]),
        ("t", [("text", "t")]),
        (
            f"<|channel|>{'x' * 300}<|message|>Hello.",
            [("text", f"<|channel|>{'x' * 300}<|message|>Hello.")],
        ),
        (f"to={'x' * 300}<|channel|>final<|message|>Hi", [("text", f"to={'x' * 300}Hi")]),
        ("<|channel|>final Hello.<|end|>", [("text", "<|channel|>final Hello.")]),
        ("<|channel|>analysis Hm", [("reasoning", "<|channel|>analysis Hm")]),
        (f"<|channel|>commentary to=functions.look json{NEXT}<|channel|>final<|mess", []),
        ("<|message|>Hello.", [("text", "Hello.")]),
        (' to=functions.look<|message|>{"at":"x"}<|call|>', [("look", {"at": "x"})]),
        (' to=functions.look <|constrain|>json<|message|>{"at":"x"}', [("look", {"at": "x"})]),
    ],
)
def test_messages_become_parts(text, expected):
    whole = parts_of("harmony", text)
    assert said(whole) == expected
    assert parts_of("harmony", text, range(len(text))) == whole


def test_call_that_cannot_be_read_is_text_with_its_header():
    text = "<|channel|>commentary to=functions.look<|message|>{at<|call|>"
    (part,) = parts_of("harmony", text)
    assert part.text == text
    assert part.tool_parse_error


def test_message_to_a_function_is_text_when_no_tools_were_given():
    text = "<|channel|>commentary to=functions.look<|message|>{}<|call|>"
    assert said(parts_of("harmony", text, tools=())) == [("text", "{}")]


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    tokenizer = load_family(tmp_path_factory.mktemp("harmony"), "harmony")
    return tokenizer, probe_template(tokenizer)


def test_probe_names_the_format_and_renders_each_turn_anew(family):
    _, probe = family
    assert (probe.tool_parser, probe.mode, probe.forces_calls) == ("harmony", "render", False)


def test_thoughts_are_left_out_of_an_answer_and_kept_before_a_call(family):
    tokenizer, probe = family
    ask = Message(role="user", content="Hi.")
    answer = Message(role="assistant", content="Hello you.", reasoning="A greeting.")
    call = ToolCall(id="c1", name="look", arguments="{}")
    asked = Message(role="assistant", content=None, reasoning="I look.", tool_calls=(call,))
    result = Message(role="tool", content="blue", tool_call_id="c1")
    tools = (Tool(function=FunctionSpec(name="look")),)
    renderer = Renderer(tokenizer, probe)
    shown = tokenizer.decode(renderer.render([ask, answer, ask], 0.0))
    assert "final<|message|>Hello you.<|end|>" in shown
    assert "analysis" not in shown
    shown = tokenizer.decode(renderer.render([ask, asked, result], 0.0, tools=tools))
    assert f"{ANALYSIS}I look.<|end|><|start|>assistant to=look" in shown
