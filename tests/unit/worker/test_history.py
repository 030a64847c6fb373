"""Folding of histories: results to their calls, and what a template does not take."""

import pytest

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import Message, Part, ToolCall
from hotseat.protocol.model import TemplateProbe
from hotseat.worker.text.history import fold_history, pair_results

CALLS = (
    ToolCall(id="a", name="look_up", arguments='{"q": "x"}'),
    ToolCall(id="b", name="read", arguments="{}"),
)


def user(text):
    return Message(role="user", content=text)


def system(text):
    return Message(role="system", content=text)


def assistant(text, calls=()):
    return Message(role="assistant", content=text, tool_calls=tuple(calls))


def result(call_id, text="r", name=None):
    return Message(role="tool", content=text, tool_call_id=call_id, name=name)


def fold(messages, *folds, **options):
    return fold_history(messages, TemplateProbe(mode="exact", folds=folds), **options)


def shape(messages):
    """Role and text of each, with the call of a result."""
    return [
        (m.role, m.content, m.tool_call_id) if m.role == "tool" else (m.role, m.content)
        for m in messages
    ]


def reminder(text):
    return f"<system-reminder>\n{text}\n</system-reminder>"


def test_history_that_a_template_takes_stays_as_it_is():
    talk = [system("s"), user("u"), assistant("a"), user("v"), user("w"), system("t")]
    assert fold(talk) == tuple(talk)


def test_results_out_of_order_come_in_the_order_of_their_calls_with_their_names():
    talk = [user("u"), assistant("", CALLS), result("b", "2"), result("a", "1")]
    folded = fold(talk)
    assert [(m.tool_call_id, m.content, m.name) for m in folded[2:]] == [
        ("a", "1", "look_up"),
        ("b", "2", "read"),
    ]


def test_results_pair_across_system_text_that_stands_between():
    talk = [user("u"), assistant("", CALLS), result("b", "2"), system("s"), result("a", "1")]
    assert shape(fold(talk))[2:] == [("tool", "1", "a"), ("tool", "2", "b"), ("system", "s")]


def test_results_without_ids_pair_by_name_then_in_order():
    calls = (ToolCall(name="f"), ToolCall(name="g"), ToolCall(name="h"))
    talk = [
        user("u"),
        assistant("", calls),
        result(None, "1"),
        result(None, "2", name="g"),
        result(None, "3"),
    ]
    assert [m.content for m in fold(talk)[2:]] == ["1", "2", "3"]
    named = [talk[0], talk[1], result(None, "g", name="g"), result(None, "f"), result(None, "h")]
    assert [m.content for m in fold(named)[2:]] == ["f", "g", "h"]


def test_calls_of_one_id_take_a_result_each():
    calls = (ToolCall(id="x", name="f"), ToolCall(id="x", name="g"))
    talk = [user("u"), assistant("", calls), result("x", "1"), result("x", "2")]
    assert [(m.content, m.name) for m in fold(talk)[2:]] == [("1", "f"), ("2", "g")]


def test_two_results_of_one_call_are_refused_without_their_text():
    talk = [user("u"), assistant("", CALLS), result("a", "secret"), result("a", "secret")]
    with pytest.raises(HotseatError, match=r"messages\[3\]\.tool_call_id") as refused:
        fold(talk)
    assert refused.value.code == "invalid_request"
    assert "secret" not in refused.value.message


def test_places_in_errors_are_those_of_the_client():
    talk = [user("u"), assistant("", CALLS), result("a"), result("a")]
    with pytest.raises(HotseatError, match=r"messages\[1\]"):
        fold(talk, skipped=2)


def test_results_that_nothing_asked_for_become_marked_text_where_they_stand():
    talk = [system("s"), result("old", "1", name="f"), user("u"), assistant("a"), result("b", "2")]
    assert shape(fold(talk)) == [
        ("system", "s"),
        ("user", '<tool-result id="old" name="f">\n1\n</tool-result>\n\nu'),
        ("assistant", "a"),
        ("user", '<tool-result id="b">\n2\n</tool-result>'),
    ]


def test_result_that_comes_after_the_next_reply_is_no_result_any_more():
    talk = [user("u"), assistant("", CALLS[:1]), user("v"), assistant("a"), result("a", "late")]
    assert fold(talk)[-1].role == "user"


@pytest.mark.parametrize(
    ("folds", "expected"),
    [
        ((), ["s", "t", "u", "a", "l", "v"]),
        (("several_system",), ["s", reminder("t") + "\n\nu", "a", "l", "v"]),
        (("later_system",), ["s", "t", "u", "a", reminder("l") + "\n\nv"]),
        (
            ("system",),
            [f"{reminder('s')}\n\n{reminder('t')}\n\nu", "a", reminder("l") + "\n\nv"],
        ),
    ],
)
def test_system_text_that_is_not_taken_joins_the_user_turn_beside_it(folds, expected):
    developer = Message(role="developer", content="t")
    talk = [system("s"), developer, user("u"), assistant("a"), system("l"), user("v")]
    assert [message.content for message in fold(talk, *folds)] == expected


def test_system_text_behind_a_user_turn_joins_it_and_alone_it_is_a_turn():
    talk = [user("u"), system("s"), assistant("a"), system("t"), assistant("b"), user("v")]
    assert shape(fold(talk, "later_system")) == [
        ("user", "u\n\n" + reminder("s")),
        ("assistant", "a"),
        ("user", reminder("t")),
        ("assistant", "b"),
        ("user", "v"),
    ]


def test_user_turns_in_a_row_become_one_where_they_are_not_taken():
    talk = [user("u"), system("s"), user("v"), assistant("a"), user("w")]
    folded = fold(talk, "user_turns", "later_system")
    assert [m.content for m in folded] == [f"u\n\n{reminder('s')}\n\nv", "a", "w"]


def test_replies_in_a_row_get_a_user_turn_between_them():
    talk = [assistant("a"), assistant("b")]
    roles = [message.role for message in fold(talk, "assistant_turns")]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    closed = [message.role for message in fold(talk, "assistant_turns", is_asked=False)]
    assert closed == roles[:-1]


def test_question_after_results_joins_the_last_of_them_where_no_turn_is_taken():
    talk = [user("u"), assistant("", CALLS[:1]), result("a", "1"), user("v"), system("s")]
    folded = fold(talk, "user_after_results", "later_system")
    assert folded[-1].role == "tool"
    assert folded[-1].content == f"1\n\n<user-message>\nv\n</user-message>\n\n{reminder('s')}"


def test_missing_result_says_so_once_something_else_came():
    talk = [user("u"), assistant("", CALLS), result("b", "2")]
    said = [(m.tool_call_id, m.content) for m in fold(talk, "missing_results")[2:]]
    assert said == [("a", reminder("This call has no result.")), ("b", "2")]
    assert fold(talk[:2], "missing_results", is_asked=False) == tuple(talk[:2])


def test_parallel_calls_come_one_after_the_other_each_with_its_result():
    talk = [user("u"), assistant("t", CALLS), result("b", "2"), result("a", "1")]
    folded = fold(talk, "parallel_calls")
    assert shape(folded)[1:] == [
        ("assistant", "t"),
        ("tool", "1", "a"),
        ("assistant", ""),
        ("tool", "2", "b"),
    ]
    assert [len(m.tool_calls) for m in folded] == [0, 1, 0, 1, 0]


def test_calls_and_results_without_a_place_become_marked_text():
    talk = [user("u"), assistant("t", CALLS[:1]), result("a", "1")]
    assert shape(fold(talk, "calls", "results"))[1:] == [
        ("assistant", 't\n\n<tool-call id="a" name="look_up">\n{"q": "x"}\n</tool-call>'),
        ("user", '<tool-result id="a" name="look_up">\n1\n</tool-result>'),
    ]


def test_calls_without_a_place_look_as_the_model_writes_them_where_that_is_known():
    probe = TemplateProbe(mode="exact", folds=("calls",), tool_parser="pythonic")
    folded = fold_history([user("u"), assistant("", CALLS)], probe)
    assert folded[1].content == "<|tool_call_start|>[look_up(q='x'), read()]<|tool_call_end|>"


def test_ids_of_other_programs_become_short_ones_on_both_sides():
    call = ToolCall(id="call_0123456789", name="f")
    folded = fold(
        [user("u"), assistant("", [call]), result("call_0123456789")],
        "call_ids",
    )
    short = folded[1].tool_calls[0].id
    assert len(short) == 9
    assert short.isalnum()
    assert folded[2].tool_call_id == short


@pytest.mark.parametrize("content", [None, "", (), (Part(type="text", text=""),)])
def test_content_of_calls_is_null_where_only_then_they_show(content):
    probe = TemplateProbe(mode="exact", null_content=True)
    reply = Message(role="assistant", content=content, tool_calls=CALLS[:1])
    assert fold_history([user("u"), reply], probe)[1].content is None


def test_text_beside_calls_gets_a_message_of_its_own_where_one_hides_the_other():
    reply = Message(role="assistant", content="t", tool_calls=CALLS[:1], reasoning="r")
    folded = fold([user("u"), reply], "text_with_calls")
    assert [(m.content, m.reasoning, len(m.tool_calls)) for m in folded[1:]] == [
        ("t", None, 0),
        ("", "r", 1),
    ]


def test_reply_without_text_says_so_where_templates_want_some():
    folded = fold([user("u"), assistant(""), user("v")], "empty_replies")
    assert folded[1].content == reminder("This reply has no text.")


@pytest.mark.parametrize(
    "arguments",
    [
        '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"x": "\\ud800"}',
        "[1]",
        "{",
        '{"x": NaN}',
        '{"x": -1e999}',
    ],
)
def test_arguments_that_nobody_can_read_are_refused(arguments):
    call = ToolCall(id="a", name="look_up", arguments=arguments)
    with pytest.raises(HotseatError) as caught:
        fold([user("x"), assistant("", [call])])
    assert caught.value.code == "invalid_request"
    assert "arguments" in caught.value.facts["path"]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("has_ids", [True, False])
def test_results_of_very_many_calls_are_paired_in_time(has_ids):
    many = 30_000
    names = [f"c{number}" if has_ids else "" for number in range(many)]
    calls = tuple(ToolCall(id=name, name="read", arguments="{}") for name in names)
    results = [result(name or None, str(number)) for number, name in enumerate(names)]
    paired = pair_results(calls, list(enumerate(reversed(results) if has_ids else results)))
    assert [paired[place][1].content for place in range(many)] == [m.content for m in results]
