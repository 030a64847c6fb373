"""Histories that are equal by value are one conversation, and no others are."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hotseat.gateway.conversations.value import (
    Head,
    branch_prefix,
    is_kept_briefly,
    is_made_here,
    name_of,
    open_points,
    owned,
    prefix_of,
    same_head,
    trace,
)
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import is_session_name
from hotseat.protocol.messages import FunctionSpec, Message, Part, Tool, ToolCall

HEAD = Head(owner="", model="m")
TEXTS = st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
CALLS = st.builds(
    ToolCall, id=TEXTS, name=st.sampled_from(["look", "go"]), arguments=VALUES.map(json.dumps)
)
OTHERS = st.builds(Message, role=st.sampled_from(["system", "user"]), content=TEXTS) | st.builds(
    Message, role=st.just("tool"), content=TEXTS, tool_call_id=TEXTS
)
REPLIES = st.builds(
    Message,
    role=st.just("assistant"),
    content=TEXTS,
    tool_calls=st.lists(CALLS, max_size=2).map(tuple),
)
HISTORIES = st.lists(OTHERS | REPLIES, min_size=1, max_size=8)


@st.composite
def retold(draw, message):
    """The same message as another client might send it."""
    text = message.content
    at = draw(st.integers(0, len(text)))
    parts = (Part(type="text", text=text[:at]), Part(type="text", text=text[at:]))
    content = draw(st.sampled_from([text, parts]))
    if message.role == "assistant":
        if not text.strip():
            content = draw(st.sampled_from([None, "", " \n"]))
        calls = tuple(
            replace(call, arguments=json.dumps(json.loads(call.arguments), indent=draw(INDENTS)))
            for call in message.tool_calls
        )
        return replace(message, content=content, tool_calls=calls, reasoning=draw(REASONING))
    role = draw(st.sampled_from(["system", "developer"])) if message.role == "system" else None
    return replace(message, content=content, role=role or message.role)


INDENTS = st.sampled_from([None, 1, 4])
REASONING = st.none() | TEXTS


@given(st.data(), HISTORIES)
def test_history_told_another_way_is_the_same(data, history):
    again = [data.draw(retold(message)) for message in history]
    assert trace(HEAD, again) == trace(HEAD, history)


@given(HISTORIES, HISTORIES)
def test_history_that_grows_keeps_its_points(history, more):
    short, long = trace(HEAD, history), trace(HEAD, [*history, *more])
    assert long.points[: len(short.points)] == short.points
    if short.points:
        assert short.root == long.root


@given(HISTORIES, st.data())
def test_other_words_make_every_later_point_another_one(history, data):
    at = data.draw(st.integers(0, len(history) - 1))
    changed = list(history)
    changed[at] = replace(history[at], content=history[at].content + "!")
    before, after = trace(HEAD, history).points, trace(HEAD, changed).points
    for old, new in zip(before, after, strict=True):
        assert (old == new) == (old.count <= at)


@pytest.mark.parametrize(
    "other",
    [
        Head(owner="anna", model="m"),
        Head(owner="", model="n"),
        Head(owner="", model="m", tools=(Tool(function=FunctionSpec(name="look")),)),
        Head(owner="", model="m", template_args={"enable_thinking": False}),
        Head(owner="", model="m", is_brief=True),
    ],
)
def test_other_owner_model_tools_or_arguments_are_another_conversation(other):
    talk = [Message(role="user", content="Hi."), Message(role="assistant", content="Ho.")]
    ours, theirs = trace(HEAD, talk), trace(other, talk)
    assert ours.root != theirs.root
    assert ours.points[0].digest != theirs.points[0].digest
    assert same_head(HEAD, "") == same_head(HEAD, None) != same_head(other, None)
    assert same_head(HEAD, "Be brief.") != same_head(HEAD, None)


@given(HISTORIES)
def test_points_to_go_on_at_have_something_new_behind_them(history):
    found = open_points(trace(HEAD, history), len(history))
    counts = [point.count for point in found]
    assert counts == sorted(counts, reverse=True)
    assert all(history[count - 1].role == "assistant" and count < len(history) for count in counts)
    replies = [n for n, message in enumerate(history[:-1]) if message.role == "assistant"]
    assert len(found) == len(replies)


def test_calls_that_cannot_be_read_are_compared_as_they_are():
    def of(text):
        call = ToolCall(name="look", arguments=text)
        return trace(HEAD, [Message(role="assistant", tool_calls=(call,))]).points

    assert of("{broken") == of("{broken") != of("{ broken")


@given(HISTORIES, st.sampled_from(["", "anna"]), st.booleans())
def test_names_lead_back_to_their_root_and_owner(history, owner, is_brief):
    root = trace(HEAD, history).root
    name = name_of(prefix_of(owner, root), "0a1b2c3d", is_brief=is_brief)
    assert is_kept_briefly(name) == is_brief
    assert is_session_name(name) and is_made_here(name)
    assert branch_prefix(owner, name) == prefix_of(owner, root)
    branch = f"{branch_prefix(owner, owned(owner, 'http:mine'))}0a1b2c3d"
    assert is_made_here(branch) and branch.startswith(owned(owner, ""))
    others = ("own", "http:mine", "http:", "http:0a1b2c3d:")
    assert not any(is_made_here(owned(owner, other)) for other in others)


def test_what_is_nested_too_deeply_is_refused():
    deep = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(HotseatError, match="nested too deeply"):
        trace(Head(owner="", model="m", template_args=deep), [])


def test_ids_of_calls_count_only_where_clients_send_them_back():
    def told(call_id, **more):
        call = ToolCall(id=call_id, name="look", arguments="{}")
        reply = Message(role="assistant", content="", tool_calls=(call,))
        result = Message(role="tool", content="Rome", tool_call_id=call_id, name="look")
        return trace(Head(owner="", model="m", **more), (reply, result, reply)).points

    assert told("a") != told("b")
    assert told("a", has_ids=False) == told("b", has_ids=False)
