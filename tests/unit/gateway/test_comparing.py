"""Who asks why a prompt was not read back is told what changed, in the packages' own types."""

import msgspec
import pytest
from anthropic.types import Diagnostics
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses.response import PromptCacheDiagnostics
from pydantic import TypeAdapter

from hotseat.gateway.conversations.comparing import Compared, Comparisons, shape_of
from hotseat.gateway.conversations.value import Head
from hotseat.gateway.messages import answer as messages_answer
from hotseat.gateway.responses import answer as responses_answer
from hotseat.protocol.messages import FunctionSpec, Message, Tool
from hotseat.protocol.replies import Done, Timing, Usage

SYSTEM = Message(role="system", content="Be brief.")
TALK = tuple(
    Message(role=role, content=text)
    for role, text in (("user", "Hi."), ("assistant", "Hello."), ("user", "More."))
)
TOOL = Tool(function=FunctionSpec(name="look", parameters={}))
HEAD = Head(owner="", model="m", tools=(TOOL,), template_args={"enable_thinking": True})
DONE = Done(
    model="m",
    text="So.",
    tokens=(),
    finish_reason="stop",
    usage=Usage(prompt_tokens=70),
    timing=Timing(),
)


def known(messages=(SYSTEM, *TALK), head=HEAD, **more):
    made = Comparisons()
    made.keep(head.owner, "a1", shape_of(head, messages, **more), DONE)
    return made


@pytest.mark.parametrize(
    ("change", "head", "messages"),
    [
        (None, HEAD, (SYSTEM, *TALK)),
        (None, HEAD, (SYSTEM, *TALK, TALK[1], TALK[2])),
        ("model", msgspec.structs.replace(HEAD, model="n"), TALK),
        ("system", HEAD, TALK),
        ("tools", msgspec.structs.replace(HEAD, tools=()), (SYSTEM, *TALK)),
        ("template", msgspec.structs.replace(HEAD, template_args={}), (SYSTEM, *TALK)),
        ("messages", HEAD, (SYSTEM, *TALK[:2])),
        ("messages", HEAD, (SYSTEM, TALK[2], *TALK[1:], TALK[1])),
    ],
)
def test_first_change_is_told_with_the_tokens_it_costs(change, head, messages):
    assert known().compare(head, "a1", messages) == Compared(change=change, tokens=70)


def test_answer_of_nobody_or_of_another_owner_is_not_known():
    other = msgspec.structs.replace(HEAD, owner="guest")
    assert known().compare(HEAD, "a2", TALK) == Compared(is_known=False)
    assert known().compare(other, "a1", (SYSTEM, *TALK)) == Compared(is_known=False)


def test_history_that_a_session_holds_is_told_only_where_it_goes_on():
    found = known((SYSTEM,), is_whole=False)
    now = {"messages": (SYSTEM, *TALK), "former_id": "a1"}
    assert found.compare(HEAD, **now).change == "unknown"
    assert found.compare(HEAD, **now, goes_on=True).change is None


def test_oldest_answers_are_forgotten():
    made = Comparisons(most=2)
    for number in range(3):
        made.keep("", f"a{number}", shape_of(HEAD, TALK), DONE)
    assert [made.compare(HEAD, f"a{n}", TALK).is_known for n in range(3)] == [False, True, True]


@given(st.integers(0, 4), st.integers(0, 4))
def test_a_history_that_only_grew_is_never_a_change(length, more):
    before, now = TALK[:1] * length, TALK[:1] * (length + more)
    assert known((SYSTEM, *before)).compare(HEAD, "a1", (SYSTEM, *now)).change is None


COMPARED = [
    Compared(is_known=False),
    *(
        Compared(change=change, tokens=9)
        for change in (None, "model", "system", "tools", "template", "messages", "unknown")
    ),
]


@pytest.mark.parametrize("compared", COMPARED)
def test_packages_take_what_is_told(compared):
    told = messages_answer.diagnostics(compared)["diagnostics"]
    if told is None:
        assert compared == Compared(change=None, tokens=9)
    else:
        Diagnostics.model_validate(told, strict=True)
    told = responses_answer.diagnostics(compared)["prompt_cache_diagnostics"]
    TypeAdapter(PromptCacheDiagnostics).validate_python(told)
    assert (told["type"] == "cache_hit") == (compared == Compared(change=None, tokens=9))


def test_who_does_not_ask_is_told_nothing():
    assert messages_answer.diagnostics(None) == responses_answer.diagnostics(None) == {}
