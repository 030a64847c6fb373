"""Text of a completion to parts: however it comes in, the same parts come out."""

import json
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.tool_parsers import json_tools

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.messages import FunctionSpec, Tool
from hotseat.protocol.parts import collect_parts, join_parts, missing_parts, split_parts, units_of
from hotseat.worker.text.parts_out import Speech

LOOK = Tool(function=FunctionSpec(name="look"))
CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "sky"}}\n</tool_call>'
PIECES = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "hm ", "Blue. ", "<", "</thin", CALL, "<tool_call>{no}</tool_call>"]
    ),
    max_size=8,
)


class Tokenizer:
    """What the state machine and the parser ask of one."""

    has_thinking = True
    think_start, think_end = "<think>", "</think>"
    has_tool_calling = True
    tool_call_start, tool_call_end = "<tool_call>", "</tool_call>"
    structural_markers = ()
    response_transitions: ClassVar = {}
    response_initial_state = None
    tool_parser = staticmethod(json_tools.parse_tool_call)


def parts_of(text, cuts=(), *, thinks=False, tools=(LOOK,)):
    speech = Speech(Tokenizer(), RequestKey("t:1"), tools, thinks=thinks)
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    found = []
    for begin, end in zip([0, *ends], ends, strict=False):
        found.extend(speech.push(text[begin:end]))
    return join_parts([*found, *speech.close()])


@settings(max_examples=100)
@given(pieces=PIECES, cuts=st.lists(st.integers(0, 200), max_size=20), thinks=st.booleans())
def test_parts_do_not_depend_on_how_the_text_came_in(pieces, cuts, thinks):
    text = "".join(pieces)
    assert parts_of(text, cuts, thinks=thinks) == parts_of(text, thinks=thinks)


@settings(max_examples=100)
@given(pieces=PIECES, at=st.integers(0, 100))
def test_output_cut_anywhere_is_whole_again_when_joined(pieces, at):
    parts = parts_of("".join(pieces))
    head, rest = split_parts(parts, at)
    assert join_parts([*head, *rest]) == parts
    assert units_of(head) == min(at, units_of(parts))


@settings(max_examples=100)
@given(pieces=PIECES, at=st.integers(0, 100))
def test_what_a_reader_misses_completes_what_it_has(pieces, at):
    parts = parts_of("".join(pieces))
    head = split_parts(parts, at)[0]
    missing = missing_parts(head, collect_parts(parts))
    if missing is not None:  # kinds that were interleaved are not told apart by their order
        whole, again = collect_parts(parts), collect_parts([*head, *missing])
        assert (again.text, again.reasoning) == (whole.text, whole.reasoning)
        assert again.tool_calls == whole.tool_calls


def test_call_becomes_a_part_with_id_name_and_arguments():
    text, call = parts_of(f"Wait. {CALL}")
    assert text.text == "Wait. "
    assert (call.type, call.index, call.name) == ("tool_call", 0, "look")
    assert json.loads(call.arguments_delta) == {"at": "sky"}
    assert call.id


def test_calls_of_one_request_have_ids_of_their_own():
    first, second = parts_of(CALL + CALL)
    assert (first.index, second.index) == (0, 1)
    assert first.id != second.id


def test_call_that_does_not_parse_stays_text_and_says_why():
    (part,) = parts_of("<tool_call>{no}</tool_call>")
    assert part.text == "<tool_call>{no}</tool_call>"
    assert "cannot be read" in part.tool_parse_error


def test_call_that_was_cut_short_stays_text_and_says_so():
    (part,) = parts_of('<tool_call>{"name": "lo')
    assert part.text == '<tool_call>{"name": "lo'
    assert "ended inside the call" in part.tool_parse_error


def test_call_whose_end_mark_is_missing_but_which_is_whole_counts():
    (part,) = parts_of(CALL.removesuffix("</tool_call>"))
    assert part.name == "look"


def test_marks_of_calls_are_text_when_no_tools_were_given():
    (part,) = parts_of(CALL, tools=())
    assert part.text == CALL


def test_reasoning_that_the_prompt_opened_ends_at_its_mark():
    parts = parts_of("hm </think>Blue.", thinks=True)
    assert [(part.type, part.text) for part in parts] == [("reasoning", "hm "), ("text", "Blue.")]


def test_beginning_of_a_mark_that_never_came_is_not_lost():
    assert collect_parts(parts_of("a < b </thin")).text == "a < b </thin"
