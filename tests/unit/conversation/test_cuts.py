"""What is left of a session that is cut at a turn or given another history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.messages import FunctionSpec, Message, Tool
from hotseat.protocol.tokens import pack_tokens
from hotseat.supervisor.conversation.cuts import (
    SessionTurns,
    TurnRow,
    cut_at,
    reachable_turns,
    replace_history,
    shared_prefix,
)
from hotseat.supervisor.conversation.framing import Framing
from hotseat.supervisor.conversation.history import History, decode_history, encode_history


def messages(count):
    return tuple(
        Message(role="assistant" if n % 2 else "user", content=f"text {n}") for n in range(count)
    )


def held(*, shared=(10, 20, 30), reachable=(True, True, True), stale=False, raw=False):
    """Three turns of 10 tokens and two messages each."""
    return SessionTurns(
        turn=3,
        tokens=pack_tokens(range(30)),
        messages=encode_history(History(raw=raw, messages=messages(6))),
        hint=b"hint",
        closed=True,
        stale=stale,
        turns=tuple(
            TurnRow(
                turn=n + 1,
                tokens=10 * (n + 1),
                message_count=2 * (n + 1),
                at=float(n),
                shared_tokens=shared[n],
                reachable=reachable[n],
            )
            for n in range(3)
        ),
    )


FRAMING = Framing(
    tools=(Tool(function=FunctionSpec(name="f")),), template_args={"enable_thinking": False}
)


def framed():
    history = History(messages=messages(6), framing=FRAMING)
    return structs.replace(held(), messages=encode_history(history))


def test_cut_session_keeps_its_tools_and_template_arguments():
    for cut in (cut_at(framed(), 2), cut_at(framed(), 3)):
        assert decode_history(cut.messages).framing == FRAMING


def test_replaced_chat_keeps_its_tools_and_template_arguments():
    replaced = replace_history(framed(), messages(2), 9.0, raw=False)
    assert decode_history(replaced.messages).framing == FRAMING


def test_text_in_place_of_a_chat_leaves_its_tools_behind():
    replaced = replace_history(framed(), messages(1), 9.0, raw=True)
    assert decode_history(replaced.messages).framing == Framing()


def test_cut_at_a_turn_keeps_its_tokens_and_messages():
    cut = cut_at(held(), 2)
    assert (cut.turn, cut.tokens, cut.stale) == (2, pack_tokens(range(20)), False)
    assert decode_history(cut.messages).messages == messages(4)
    assert [entry.turn for entry in cut.turns] == [1, 2]


def test_cut_at_the_present_turn_changes_nothing():
    assert cut_at(held(), 3) == held()


@pytest.mark.parametrize("turn", [0, 4, 100])
def test_turn_out_of_range_is_refused_with_the_range(turn):
    with pytest.raises(HotseatError) as caught:
        cut_at(held(), turn)
    assert caught.value.code == "invalid_request"
    assert (caught.value.facts["first"], caught.value.facts["last"]) == (1, 3)


def test_turn_before_other_messages_cannot_be_gone_back_to():
    before = held(reachable=(False, True, True))
    with pytest.raises(HotseatError, match="replaced") as caught:
        cut_at(before, 1)
    assert caught.value.facts["first"] == 2
    assert [entry.turn for entry in reachable_turns(before)] == [2, 3]


def test_cut_where_the_tokens_were_rendered_anew_is_stale_and_keeps_what_agrees():
    cut = cut_at(held(shared=(7, 12, 30)), 2)
    assert (cut.tokens, cut.stale) == (pack_tokens(range(12)), True)


def test_replaced_history_counts_as_a_turn_and_has_to_be_rendered():
    changed = replace_history(held(), messages(1), 9.0, raw=False)
    assert (changed.turn, changed.stale, changed.closed) == (4, True, False)
    assert decode_history(changed.messages).messages == messages(1)
    assert changed.tokens == held().tokens


def test_turns_within_the_messages_that_stay_can_still_be_gone_back_to():
    kept = (*messages(2), Message(role="user", content="In short: nothing happened."))
    changed = replace_history(held(), kept, 9.0, raw=False)
    assert [entry.turn for entry in reachable_turns(changed)] == [1, 4]
    assert not cut_at(changed, 1).stale


def test_going_back_to_a_replaced_history_renders_it():
    changed = replace_history(held(), messages(1), 9.0, raw=False)
    later = SessionTurns(
        turn=5,
        tokens=pack_tokens(range(100, 140)),
        messages=encode_history(History(messages=messages(4))),
        hint=b"",
        closed=True,
        stale=False,
        turns=(
            *changed.turns,
            TurnRow(turn=5, tokens=40, message_count=4, at=10.0, shared_tokens=40),
        ),
    )
    cut = cut_at(later, 4)
    assert (cut.stale, cut.tokens) == (True, b"")
    assert decode_history(cut.messages).messages == messages(1)


@given(
    st.lists(st.integers(0, 3), max_size=40),
    st.lists(st.integers(0, 3), max_size=40),
)
def test_shared_prefix_is_the_longest_one(left, right):
    shared = shared_prefix(pack_tokens(left), pack_tokens(right))
    assert left[:shared] == right[:shared]
    assert shared == min(len(left), len(right)) or left[shared] != right[shared]


@given(st.integers(1, 3), st.lists(st.integers(0, 30), min_size=3, max_size=3))
def test_a_cut_never_holds_tokens_the_session_lost(turn, shared):
    cut = cut_at(held(shared=tuple(shared)), turn)
    if turn < 3:
        assert cut.tokens == pack_tokens(range(shared[turn - 1]))
        assert cut.stale == (shared[turn - 1] < 10 * turn)
