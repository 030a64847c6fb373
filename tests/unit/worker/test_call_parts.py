"""Everything that a call says is in the call, or it is none; marks in prose take no call along."""

import pytest
from tests.support.call_samples import ARGUMENTS, SAMPLES, error_of, parts_of, said

from hotseat.worker.text.calls.formats import FORMATS


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        ('{"type": "function", "function": {"name": "rest"}, "arguments": {"a": 1}}', "beside its"),
        ('{"name": "look", "function": {"name": "rest", "arguments": {}}}', "beside its"),
        ('{"name": "rest", "function": "look"}', "two functions"),
        ('{"name": "look", "arguments": {"at": "x"}, "times": 3}', "beside the name"),
        ('{"function": {"name": "look", "arguments": {}, "at": "x"}}', "beside the name"),
    ],
)
def test_call_of_which_something_would_be_lost_is_text(inside, reason):
    assert reason in error_of("json_tools", f"<tool_call>{inside}</tool_call>")


def test_what_stands_beside_a_call_and_is_no_argument_is_left_out():
    inside = '{"thought": "up", "name": "look", "arguments": {"at": "x"}, "id": "1"}'
    parts = parts_of("json_tools", f"<tool_call>{inside}</tool_call>")
    assert said(parts) == [("look", {"at": "x"})]


LONG = 60_000


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("muse_spark", "<atem:invoke " + 'name="a" ' * LONG),
        ("muse_spark", '<atem:invoke name="look"><atem:parameter ' + 'name="a" ' * LONG),
        ("kimi_k3", "<|open|>call " + 'tool="a" ' * LONG),
    ],
    ids=["name", "argument", "tool"],
)
def test_endless_head_of_a_call_is_read_in_time(name, inside):
    assert error_of(name, f"{FORMATS[name].start}{inside}{FORMATS[name].end}")


@pytest.mark.parametrize("name", ["json_tools", "qwen3_coder", "glm47", "minimax_m2"])
def test_mark_in_prose_takes_no_call_along(name):
    start, call = FORMATS[name].start, SAMPLES[name].look
    for text in (f"A {start} opens one. {call}", f"{start}{start} opens. {call}", start + call):
        parts = parts_of(name, text)
        assert said(parts)[-1] == ("look", ARGUMENTS)
        assert "".join(part.text for part in parts) == text.removesuffix(call)
        assert parts[-2].tool_parse_error
        assert parts_of(name, text, range(len(text))) == parts


def test_head_of_a_call_in_prose_takes_no_call_along():
    text = f"So:\n<function=look> is it. {SAMPLES['qwen3_coder'].look}"
    assert said(parts_of("qwen3_coder", text))[-1] == ("look", ARGUMENTS)


QUOTED_BY_JSON = (
    '<tool_call>{"name": "write", "arguments": {"content": "a "b" '
    '<tool_call>{"name": "rest"}</tool_call>"}}</tool_call>'
)
QUOTED_BY_ELEMENTS = (
    "<tool_call><function=write>\n<parameter=count>\nmany\n</parameter>\n"
    "<parameter=content>\n<tool_call><function=rest>\n</function></tool_call>\n"
    "</parameter>\n</function></tool_call>"
)


@pytest.mark.parametrize(
    ("name", "text"), [("json_tools", QUOTED_BY_JSON), ("qwen3_coder", QUOTED_BY_ELEMENTS)]
)
def test_call_that_an_unreadable_one_quotes_calls_nobody(name, text):
    assert {part.type for part in parts_of(name, text)} == {"text"}
