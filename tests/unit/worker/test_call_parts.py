"""Everything that a call says is in the call, or it is none; marks in prose take no call along."""

import pytest
from tests.support.call_samples import error_of, parts_of, said

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
