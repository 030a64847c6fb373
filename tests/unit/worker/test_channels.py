"""Harmony: which message is reasoning, which a call, which text."""

import pytest
from tests.support.call_samples import parts_of, said

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
        ("<|channel|>analysis<|message|>cut in the mid", [("reasoning", "cut in the mid")]),
        ("to= is an operator", [("text", "to= is an operator")]),
        ("t", [("text", "t")]),
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
