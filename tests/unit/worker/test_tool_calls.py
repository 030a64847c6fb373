"""What a model writes as a call is a call or text, and always something that a frame can hold."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.tool_parsers import json_tools

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link import encode_link
from hotseat.protocol.link_reports import Emitted
from hotseat.protocol.messages import FunctionSpec, Tool
from hotseat.worker.text.parts_out import Speech
from hotseat.worker.text.tool_calls import CallError, read_calls

LOOK = Tool(function=FunctionSpec(name="look"))
DEEP = 3_000


class Tokenizer:
    """What the state machine and the parser ask of one."""

    has_thinking = False
    has_tool_calling = True
    tool_call_start, tool_call_end = "<tool_call>", "</tool_call>"
    structural_markers = ()
    response_transitions = msgspec.UNSET
    response_initial_state = None
    tool_parser = staticmethod(json_tools.parse_tool_call)

    def __init__(self):
        self.response_transitions = {}


def parts_of(inside):
    speech = Speech(Tokenizer(), RequestKey("t:1"), (LOOK,), thinks=False)
    found = [*speech.push(f"<tool_call>{inside}</tool_call>"), *speech.close()]
    encode_link(1, Emitted(request=RequestKey("t:1"), tokens=(), text="", parts=tuple(found)))
    return found


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        (r'{"name": "look", "arguments": {"at": "\ud83d"}}', "half of a character"),
        (r'{"name": "look", "arguments": {"\ud83d": 1}}', "half of a character"),
        (r'{"name": "lo\ud83dok", "arguments": {}}', "half of a character"),
        (r'{"name": "look", "arguments": {}, "id": "\udc00"}', "half of a character"),
        (r'{"name": "look", "arguments": "{\"at\": \"\\ud83d\"}"}', "half of a character"),
        ('{"name": "look", "arguments": {"at": NaN}}', "no JSON"),
        ('{"name": "look", "arguments": {"at": -Infinity}}', "no JSON"),
        ('{"name": "look", "arguments": ' + "[" * DEEP + "]" * DEEP + "}", "cannot be read"),
        ('{"name": "look", "arguments": "' + "[" * DEEP + "]" * DEEP + '"}', "no JSON"),
        ('{"name": "look", "arguments": "' + "[" * DEEP + '"}', "no JSON"),
    ],
    ids=lambda text: text[:40],
)
def test_call_that_cannot_be_sent_is_text_that_says_why(inside, reason):
    (part,) = parts_of(inside)
    assert (part.type, part.text) == ("text", f"<tool_call>{inside}</tool_call>")
    assert reason in part.tool_parse_error


def test_whole_character_in_two_escapes_is_a_call():
    (part,) = parts_of(r'{"name": "look", "arguments": {"at": "\ud83d\ude00"}}')
    assert part.type == "tool_call"
    assert json.loads(part.arguments_delta) == {"at": "\U0001f600"}


def test_error_of_a_parser_that_quotes_half_a_character_can_be_sent():
    tokenizer = Tokenizer()

    def fail(_text, _tools):
        raise ValueError("at \ud83d")

    tokenizer.tool_parser = fail
    with pytest.raises(CallError) as error:
        read_calls("x", tokenizer, (LOOK,))
    assert str(error.value).encode()


WORDS = st.lists(
    st.sampled_from(
        ['{"name": "look"', ', "arguments": ', "{", "}", "[", "]", '"', "\\ud83d", "NaN", ":", "1"]
    ),
    max_size=30,
)


@given(words=WORDS)
def test_whatever_stands_in_a_call_can_be_sent(words):
    assert parts_of("".join(words))
