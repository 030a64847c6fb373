"""Bodies of Responses to what is asked: items, tools, choices, and every field by its name."""

import json
from typing import get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import input_token_count_params, response_create_params

from hotseat.gateway.conversations.value import Head, trace
from hotseat.gateway.responses.body import (
    IGNORED,
    REFUSED,
    CountBody,
    ResponsesBody,
    read_count,
    read_response,
)
from hotseat.gateway.responses.tools import flat_name
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message, NamedTool, ResponseFormat, ToolCall

LOOK = {"type": "function", "name": "look", "parameters": {"type": "object"}}
EYES = {"type": "namespace", "name": "mcp__eyes", "description": "Eyes.", "tools": [LOOK]}
SEARCH = {"type": "web_search"}


def sealed(text):
    return {"ours": "Hm."}.get(text)


def read(**body):
    return read_response(json.dumps({"model": "m", "input": "Hi."} | body).encode(), sealed)


def messages(*items):
    return read(input=list(items)).asked.messages


def user(text):
    return Message(role="user", content=text)


def refused(**body):
    with pytest.raises(HotseatError) as caught:
        read(**body)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (ResponsesBody, response_create_params.ResponseCreateParamsStreaming),
        (CountBody, input_token_count_params.InputTokenCountParams),
    ],
)
def test_every_field_of_the_package_is_known_by_name(kind, params):
    known = {*kind.__struct_fields__, *IGNORED, *REFUSED}
    assert set(get_type_hints(params)) - known == set()


def test_fields_without_effect_are_taken_and_unknown_ones_too():
    plain = read().asked
    assert read(**{name: {"any": "thing"} for name in IGNORED}).asked == plain
    assert read(what_is_this=[1]).asked == plain


@pytest.mark.parametrize("field", REFUSED)
def test_fields_that_mean_what_nobody_here_does_are_refused(field):
    error = refused(**{field: {"id": "x"}})
    assert (error.code, error.facts["field"]) == ("unsupported_feature", field)
    assert read(**{field: None}).asked == read().asked


def test_items_of_one_reply_are_one_message():
    call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"a":1}'}
    result = {"type": "function_call_output", "call_id": "c1", "output": "Sun."}
    said = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "So"}],
    }
    found = messages(
        {"role": "user", "content": "Look."},
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "ours"},
        said,
        call,
        call | {"call_id": "c2", "namespace": "mcp__eyes"},
        result,
        {"role": "developer", "content": [{"type": "input_text", "text": "Mind."}]},
        {"role": "user", "content": "And?"},
    )
    assert found == (
        user("Look."),
        Message(
            role="assistant",
            content="So",
            reasoning="Hm.",
            tool_calls=(
                ToolCall(id="c1", name="look", arguments='{"a":1}'),
                ToolCall(id="c2", name="mcp__eyes__look", arguments='{"a":1}'),
            ),
        ),
        Message(role="tool", tool_call_id="c1", content="Sun."),
        Message(role="developer", content="Mind."),
        user("And?"),
    )


def test_text_behind_a_call_joins_the_text_before_it():
    call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
    said = [{"role": "assistant", "content": text} for text in ("A", "B")]
    (found,) = messages(said[0], call, said[1])
    assert (found.content, len(found.tool_calls)) == ("AB", 1)


@pytest.mark.parametrize(
    ("item", "thought"),
    [
        ({"encrypted_content": "ours"}, "Hm."),
        ({"encrypted_content": "theirs", "summary": [{"type": "summary_text", "text": "x"}]}, None),
        ({"summary": [{"type": "summary_text", "text": "x"}]}, "x"),
        ({"content": [{"type": "reasoning_text", "text": "y"}], "summary": []}, "y"),
        ({"summary": []}, None),
    ],
)
def test_reasoning_is_taken_back_if_it_can_be_read(item, thought):
    found = messages({"type": "reasoning", **item}, {"role": "assistant", "content": "So."})
    assert [message.reasoning for message in found] == [thought]


def test_reasoning_without_a_reply_is_no_message():
    assert messages({"type": "reasoning", "summary": []}, {"role": "user", "content": "Hi."}) == (
        user("Hi."),
    )


def test_images_and_items_of_others_are_left_out_by_name():
    image = {"type": "input_image", "image_url": "data:"}
    found = read(
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "See"}, image]},
            {"type": "web_search_call", "id": "ws", "status": "completed"},
        ],
        tools=[LOOK, SEARCH, {"type": "custom", "name": "patch"}],
    )
    assert found.asked.left_out == (
        "image",
        "input web_search_call",
        "tool web_search",
        "tool custom",
    )
    assert "image left out" in found.asked.messages[0].content
    assert [tool.function.name for tool in found.asked.tools] == ["look"]


def test_custom_calls_of_a_history_stay_calls():
    found = messages(
        {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "text"},
        {
            "type": "custom_tool_call_output",
            "call_id": "c",
            "output": [{"type": "input_text", "text": "ok"}],
        },
    )
    assert found[0].tool_calls[0].arguments == '{"input":"text"}'
    assert found[1] == Message(role="tool", tool_call_id="c", content="ok")


def test_functions_of_a_namespace_are_flattened_and_known_again():
    found = read(
        tools=[LOOK, EYES],
        tool_choice={"type": "function", "name": "look", "namespace": "mcp__eyes"},
    )
    assert [tool.function.name for tool in found.asked.tools] == ["look", "mcp__eyes__look"]
    assert found.origins == {"mcp__eyes__look": ("mcp__eyes", "look")}
    assert found.asked.tool_choice == NamedTool(name="mcp__eyes__look")
    assert flat_name("mcp__eyes__", "look") == flat_name("mcp__eyes", "look")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("auto", "auto"), ("none", "none"), ("required", "required"), (None, None)],
)
def test_words_of_choice_mean_themselves(choice, expected):
    assert read(tools=[LOOK], tool_choice=choice).asked.tool_choice == expected


def test_allowed_tools_are_those_that_are_shown():
    choice = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "look"}],
    }
    found = read(tools=[LOOK, EYES], tool_choice=choice).asked
    assert found.tool_choice == "required"
    assert [tool.function.name for tool in found.tools] == ["look"]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"tool_choice": SEARCH, "tools": [SEARCH]}, "unsupported_feature", "tool_choice.type"),
        ({"tool_choice": "required", "tools": [SEARCH]}, "unsupported_feature", "tool_choice"),
        ({"tool_choice": "maybe"}, "invalid_request", "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "invalid_request", "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools"}}, "invalid_request", "tool_choice.tools"),
        ({"tools": [{"type": "function", "name": "no name!"}]}, "invalid_request", "tools[0]"),
        ({"text": {"format": {"type": "json_schema"}}}, "invalid_request", "text.format.schema"),
        ({"input": []}, "invalid_request", "input"),
        ({"input": [{"content": "Hi."}]}, "invalid_request", "input[0].type"),
        ({"input": [{"role": "robot", "content": ""}]}, "invalid_request", "input[0].role"),
        ({"input": [{"type": "function_call"}]}, "invalid_request", "input[0].name"),
        ({"input": [{"type": "item_reference", "id": "i"}]}, "unsupported_feature", "input[0]"),
        ({"temperature": "hot"}, "invalid_request", "temperature"),
        ({"model": ""}, "invalid_request", "model"),
    ],
)
def test_what_is_wrong_is_named(body, code, field):
    error = refused(**body)
    assert (error.code, error.facts["field"]) == (code, field)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"model": "m", "input": "\\ud800"}'])
def test_bytes_that_are_no_body_are_refused(data):
    with pytest.raises(HotseatError):
        read_count(data, sealed)


def test_how_tokens_are_drawn_reaches_the_request():
    found = read(
        temperature=0,
        top_p=0.5,
        max_output_tokens=7,
        stream=True,
        parallel_tool_calls=False,
        reasoning={"effort": "low"},
        include=["message.output_text.logprobs"],
        top_logprobs=3,
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    )
    asked = found.asked
    assert (asked.sampling.temperature, asked.sampling.top_p, asked.max_tokens) == (0, 0.5, 7)
    assert asked.is_streamed and asked.parallel_calls is False and asked.logprobs == 3
    assert (asked.thinks, asked.effort) == (True, "low")
    assert asked.response_format == ResponseFormat(type="json_schema", schema={"type": "object"})
    assert read(reasoning={"effort": "none"}).asked.thinks is False
    assert (
        read(text={"format": {"type": "json_object"}}).asked.response_format.type == "json_object"
    )


def test_instructions_come_first_and_are_told_back():
    found = read(instructions="Be brief.", metadata={"a": "b"}, store=False)
    assert found.system == (Message(role="system", content="Be brief."),)
    assert (found.told.instructions, found.told.metadata, found.told.store) == (
        "Be brief.",
        {"a": "b"},
        False,
    )
    assert read(instructions="").system == ()


RICH = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi."}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}]},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "Sun."},
    ],
    "tools": [LOOK, EYES, SEARCH],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [LOOK]},
    "text": {"format": {"type": "json_schema", "schema": {}}},
    "reasoning": {"effort": "low"},
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
    "temperature": 1,
    "store": False,
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


def places(value, path=()):
    """Paths of all that could be something else."""
    yield path
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield from places(value[key], (*path, key))


def put(value, path, other):
    if not path:
        return other
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = put(value[path[0]], path[1:], other)
    return changed


@given(st.lists(st.tuples(st.sampled_from(list(places(RICH))), JUNK), min_size=1, max_size=3))
def test_body_with_anything_anywhere_is_read_or_refused(changes):
    body = RICH
    for path, other in sorted(changes, key=lambda change: -len(change[0])):
        body = put(body, path, other)
    data = json.dumps(body).encode()
    statuses = set()
    for reads in (read_response, read_count):
        try:
            found = reads(data, sealed)
        except HotseatError as error:
            statuses.add(error.spec.http_status)
            continue
        head = Head(owner="", model=found.asked.model, tools=found.asked.tools)
        trace(head, (*found.system, *found.asked.messages))
        msgspec.json.encode(found.told)
    assert statuses <= {400}
