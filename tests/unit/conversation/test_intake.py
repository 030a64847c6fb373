"""What a request means for its session: every input x session x rerender x template mode."""

import itertools

import pytest
from msgspec.structs import replace
from tests.support.models.records import model_record

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.link_orders import AppendInput, TextInput, TokensInput, WholeInput
from hotseat.protocol.messages import (
    FunctionSpec,
    Generate,
    Message,
    Part,
    ResponseFormat,
    Tool,
    ToolCall,
)
from hotseat.protocol.model import TemplateProbe
from hotseat.protocol.parts import Collected
from hotseat.protocol.tokens import pack_tokens
from hotseat.supervisor.conversation.history import History, Stored, decode_history, encode_history
from hotseat.supervisor.conversation.intake import check_generate, history_after, plan_turn

SYSTEM = Message(role="system", content="be short")
ASKED = Message(role="user", content="hi")
SAID = Message(role="assistant", content="hello")
NEXT = Message(role="user", content="more")
TOOL = Tool(function=FunctionSpec(name="look"))
HELD_IDS = (5, 6, 7)
CONTEXT = pack_tokens(HELD_IDS)
CHAT = Stored(turn=1, context=CONTEXT, hint=b"h", history=History(messages=(SYSTEM, ASKED, SAID)))
RAW = Stored(
    turn=1,
    context=CONTEXT,
    hint=b"h",
    history=History(raw=True, messages=(ASKED, SAID)),
)
SESSIONS = {"none": None, "chat": CHAT, "raw": RAW}
GIVEN = {
    "messages": {"messages": (SYSTEM, ASKED, SAID, NEXT)},
    "prompt": {"prompt": "hihello more"},
    "tokens": {"tokens": (*HELD_IDS, 8, 9)},
    "append messages": {"append": (NEXT,)},
    "append text": {"append": " more"},
}
REST = pack_tokens((8, 9))
WHOLE_IDS = pack_tokens((*HELD_IDS, 8, 9))
CONVERSATION = (SYSTEM, ASKED, SAID, NEXT)

WHOLE = WholeInput(messages=CONVERSATION)
ONLY_NEXT = WholeInput(messages=(NEXT,))
APPENDED = AppendInput(messages=(NEXT,))
REFUSED = "session_diverged"
NO_TEMPLATE = "unsupported_feature"
# (input, session, rerender) -> (expected for exact, render, raw): input and context, or a code
SAME_FOR_ALL = {
    ("prompt", "none", False): (TextInput(text="hihello more"), b""),
    ("prompt", "none", True): (TextInput(text="hihello more"), b""),
    ("prompt", "raw", False): (TextInput(text=" more"), CONTEXT),
    ("prompt", "raw", True): (TextInput(text="hihello more"), b""),
    ("prompt", "chat", False): REFUSED,
    ("prompt", "chat", True): (TextInput(text="hihello more"), b""),
    ("tokens", "none", False): (TokensInput(tokens=WHOLE_IDS), b""),
    ("tokens", "none", True): (TokensInput(tokens=WHOLE_IDS), b""),
    ("tokens", "raw", False): (TokensInput(tokens=REST), CONTEXT),
    ("tokens", "raw", True): (TokensInput(tokens=WHOLE_IDS), b""),
    ("tokens", "chat", False): REFUSED,
    ("tokens", "chat", True): (TokensInput(tokens=WHOLE_IDS), b""),
    ("append text", "none", False): (TextInput(text=" more"), b""),
    ("append text", "none", True): (TextInput(text=" more"), b""),
    ("append text", "raw", False): (TextInput(text=" more"), CONTEXT),
    ("append text", "raw", True): (TextInput(text="hihello more"), b""),
    ("append text", "chat", False): REFUSED,
    ("append text", "chat", True): REFUSED,
}
BY_TEMPLATE = {
    ("messages", "none", False): ((WHOLE, b""), (WHOLE, b"")),
    ("messages", "none", True): ((WHOLE, b""), (WHOLE, b"")),
    ("messages", "raw", False): (REFUSED, REFUSED),
    ("messages", "raw", True): ((WHOLE, CONTEXT), (WHOLE, CONTEXT)),
    ("messages", "chat", False): ((APPENDED, CONTEXT), (WHOLE, CONTEXT)),
    ("messages", "chat", True): ((WHOLE, CONTEXT), (WHOLE, CONTEXT)),
    ("append messages", "none", False): ((ONLY_NEXT, b""), (ONLY_NEXT, b"")),
    ("append messages", "none", True): ((ONLY_NEXT, b""), (ONLY_NEXT, b"")),
    ("append messages", "raw", False): (REFUSED, REFUSED),
    ("append messages", "raw", True): (REFUSED, REFUSED),
    ("append messages", "chat", False): ((APPENDED, CONTEXT), (WHOLE, CONTEXT)),
    ("append messages", "chat", True): ((WHOLE, CONTEXT), (WHOLE, CONTEXT)),
}
COMBINATIONS = list(
    itertools.product(GIVEN, SESSIONS, (False, True), ("exact", "render", "raw"), (None, 0, 1))
)


def expected_of(given, session, rerender, mode):
    key = (given, session, rerender)
    if key in SAME_FOR_ALL:
        return SAME_FOR_ALL[key]
    return NO_TEMPLATE if mode == "raw" else BY_TEMPLATE[key][mode == "render"]


def planned(given, session, mode="exact", **fields):
    request = Generate(model="m", session="s", **given, **fields)
    check_generate(request)
    return plan_turn(request, model_record(template=TemplateProbe(mode=mode)), session)


@pytest.mark.parametrize(("given", "session", "rerender", "mode", "turn"), COMBINATIONS)
def test_every_combination_has_one_answer_and_refusals_name_the_field(
    given, session, rerender, mode, turn
):
    stored = SESSIONS[session]
    wanted = expected_of(given, session, rerender, mode)
    field = given.split()[0]
    if turn is not None and turn != (stored.turn if stored else 0):
        wanted, field = "session_conflict", "expect_turn"
    if isinstance(wanted, str):
        with pytest.raises(HotseatError) as caught:
            planned(GIVEN[given], stored, mode, rerender=rerender, expect_turn=turn)
        assert caught.value.code == wanted
        assert caught.value.facts["field"] == field
        return
    intake = planned(GIVEN[given], stored, mode, rerender=rerender, expect_turn=turn)
    assert (intake.input, intake.context) == wanted
    assert intake.hint == (b"h" if intake.context else b"")


def test_text_history_after_a_turn_is_what_prompt_has_to_begin_with():
    intake = planned({"prompt": "once"}, None)
    held = Stored(
        turn=1, context=CONTEXT, hint=b"", history=history_after(intake, Collected(text=" upon"))
    )
    following = planned({"prompt": "once upon a"}, held)
    assert following.input == TextInput(text=" a")
    with pytest.raises(HotseatError, match="does not begin"):
        planned({"prompt": "twice upon a"}, held)


@pytest.mark.parametrize("mode", ["exact", "render"])
def test_chat_of_another_tokenizer_is_rendered_from_its_messages(mode):
    import msgspec

    changed = msgspec.structs.replace(CHAT, same_tokenizer=False)
    intake = planned({"append": (NEXT,)}, changed, mode)
    assert (intake.input, intake.context, intake.hint) == (WHOLE, b"", b"")


def test_raw_text_of_another_tokenizer_is_read_again_as_text():
    import msgspec

    changed = msgspec.structs.replace(RAW, same_tokenizer=False)
    intake = planned({"append": " more"}, changed)
    assert (intake.input, intake.context) == (TextInput(text="hihello more"), b"")


def test_token_ids_of_another_tokenizer_are_not_dropped_in_silence():
    history = History(raw=True, messages=(Message(role="user", content=None), SAID))
    ids = Stored(turn=1, context=CONTEXT, hint=b"", history=history, same_tokenizer=False)
    with pytest.raises(HotseatError) as caught:
        planned({"append": " more"}, ids)
    assert caught.value.code == "session_diverged"


def test_known_system_text_in_append_is_not_repeated():
    intake = planned({"append": (SYSTEM, NEXT)}, CHAT)
    assert intake.input == APPENDED
    assert intake.added == (NEXT,)


CALLED = Message(role="assistant", content="", tool_calls=(ToolCall(id="a", name="f"),))
RESULT = Message(role="tool", content="4 m", tool_call_id="a")


def after(reply):
    return Stored(turn=1, context=CONTEXT, hint=b"h", history=History(messages=(ASKED, reply)))


def test_results_are_appended_with_the_calls_that_asked_for_them():
    intake = planned({"append": (RESULT,)}, after(CALLED))
    assert intake.input == AppendInput(messages=(RESULT,), calls=CALLED.tool_calls)


@pytest.mark.parametrize(
    ("fold", "reply", "is_appended"),
    [
        ("parallel_calls", CALLED, True),
        ("parallel_calls", replace(CALLED, tool_calls=CALLED.tool_calls * 2), False),
        ("text_with_calls", CALLED, True),
        ("text_with_calls", replace(CALLED, content="Let me see."), False),
        ("empty_replies", CALLED, True),
        ("empty_replies", replace(CALLED, tool_calls=()), False),
        ("later_system", CALLED, True),
    ],
)
def test_reply_that_the_template_shows_otherwise_is_followed_by_a_rendering(
    fold, reply, is_appended
):
    request = Generate(model="m", session="s", append=(RESULT,))
    template = TemplateProbe(mode="exact", folds=(fold,))
    intake = plan_turn(request, model_record(template=template), after(reply))
    assert isinstance(intake.input, AppendInput) is is_appended


OTHER = Message(role="system", content="be long")


def test_changed_system_text_is_diverged_unless_rerender():
    with pytest.raises(HotseatError) as caught:
        planned({"append": (OTHER, NEXT)}, CHAT)
    assert caught.value.code == "session_diverged"
    assert caught.value.facts["field"] == "append"
    rendered = planned({"append": (OTHER, NEXT)}, CHAT, rerender=True)
    assert OTHER in rendered.input.messages


def test_changed_system_text_of_a_whole_conversation_is_diverged():
    with pytest.raises(HotseatError) as caught:
        planned({"messages": (OTHER, ASKED, SAID, NEXT)}, CHAT)
    assert caught.value.code == "session_diverged"


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ({"append": (NEXT, OTHER)}, (NEXT, OTHER)),
        ({"append": (SYSTEM, NEXT, SYSTEM)}, (NEXT, SYSTEM)),
        ({"messages": (*CHAT.history.messages, OTHER, NEXT)}, (OTHER, NEXT)),
        ({"messages": (*CHAT.history.messages, SYSTEM, NEXT)}, (SYSTEM, NEXT)),
    ],
    ids=["appended", "known and appended", "whole", "whole and known"],
)
def test_later_system_text_is_a_message_where_it_stands(given, added):
    intake = planned(given, CHAT)
    assert intake.added == intake.input.messages == added
    reply = history_after(intake, Collected(text="so"))
    assert reply.messages[: len(CHAT.history.messages)] == CHAT.history.messages


BAD = {
    "nothing": ({}, "invalid_request", "messages"),
    "two inputs": ({"prompt": "x", "tokens": (1,)}, "invalid_request", "tokens"),
    "empty prompt": ({"prompt": ""}, "invalid_request", "prompt"),
    "empty tokens": ({"tokens": ()}, "invalid_request", "tokens"),
    "empty messages": ({"messages": ()}, "invalid_request", "messages"),
    "empty append": ({"append": (), "session": "s"}, "invalid_request", "append"),
    "append alone": ({"append": "x"}, "invalid_request", "session"),
    "path in session": ({"prompt": "x", "session": "../x"}, "invalid_request", "session"),
    "empty session": ({"prompt": "x", "session": ""}, "invalid_request", "session"),
    "long session": ({"prompt": "x", "session": "s" * 129}, "invalid_request", "session"),
    "image": (
        {"messages": (ASKED, Message(role="user", content=(Part(type="image_url"),)))},
        "unsupported_content",
        "messages",
    ),
    "tools": ({"prompt": "x", "tools": ()}, "unsupported_feature", "tools"),
    "tool_choice": ({"prompt": "x", "tool_choice": "auto"}, "unsupported_feature", "tool_choice"),
    "schema of nothing": (
        {"prompt": "x", "response_format": ResponseFormat(type="json_object", schema={})},
        "invalid_request",
        "response_format.schema",
    ),
    "schema left out": (
        {"prompt": "x", "response_format": ResponseFormat(type="json_schema")},
        "invalid_request",
        "response_format.schema",
    ),
    "tool twice": (
        {"messages": (ASKED,), "tools": (TOOL, TOOL)},
        "invalid_request",
        "tools[1].function.name",
    ),
    "argument of ours": (
        {"messages": (ASKED,), "template_args": {"tools": []}},
        "invalid_request",
        "template_args.tools",
    ),
    "template": ({"prompt": "x", "template_args": {}}, "unsupported_feature", "template_args"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_no_session_could_make_right_is_refused_naming_the_field(name):
    fields, code, field = BAD[name]
    with pytest.raises(HotseatError) as caught:
        check_generate(Generate(model="m", **fields))
    assert caught.value.code == code
    assert caught.value.facts["field"] == field


def test_scheduling_hints_are_taken():
    hints = {"priority": -3, "deadline_s": 1.0, "hold_s": 0.0, "yield_": True, "next_model": "b"}
    check_generate(Generate(model="m", prompt="x", **hints))


def test_history_survives_the_catalogue_unchanged():
    history = History(
        raw=False,
        messages=(
            SYSTEM,
            Message(role="user", content=(Part(type="text", text="a"),)),
            Message(role="assistant", tool_calls=(ToolCall(name="f"),), reasoning="why"),
            Message(role="tool", content="4", tool_call_id="1"),
        ),
    )
    assert decode_history(encode_history(history)) == history
    assert decode_history(b"") == History()


CALLED = Message(role="assistant", content=None, tool_calls=(ToolCall(id="c1", name="look"),))
RESULT = Message(role="tool", content="blue", tool_call_id="c1")


def test_second_result_of_one_call_is_refused_before_a_swap():
    with pytest.raises(HotseatError) as caught:
        check_generate(Generate(model="m", messages=(ASKED, CALLED, RESULT, RESULT)))
    assert caught.value.code == "invalid_request"
    assert (caught.value.facts["field"], caught.value.facts["message"]) == ("messages", 3)


@pytest.mark.parametrize(
    "messages",
    [
        (ASKED, CALLED, RESULT, CALLED, RESULT),
        (ASKED, RESULT, RESULT),
        (ASKED, CALLED, RESULT, SAID, ASKED, RESULT),
    ],
    ids=["each call has one", "their call is gone", "the call lies behind"],
)
def test_results_that_are_not_of_one_call_are_taken(messages):
    check_generate(Generate(model="m", messages=messages))


def test_message_with_an_image_is_told_what_is_not_loaded():
    image = Message(role="user", content=(Part(type="image_url"),))
    with pytest.raises(HotseatError, match="only the part that reads text is loaded; send text"):
        check_generate(Generate(model="m", messages=(image,)))
