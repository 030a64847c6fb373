"""How long a prompt can be at most, and how much of it is stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.models.records import model_record

from hotseat.protocol.link_orders import AppendInput, TailRef, TextInput, TokensInput, WholeInput
from hotseat.protocol.messages import Message
from hotseat.protocol.model import LayerSpec
from hotseat.protocol.tokens import block_chain, pack_tokens, root_id
from hotseat.supervisor.conversation.history import History
from hotseat.supervisor.conversation.intake import Intake
from hotseat.supervisor.conversation.prompt_size import known_tokens, longest_stored, most_tokens

TOKENS = [n % 97 for n in range(700)]
WINDOW = LayerSpec(kind="window", kv_heads=1, k_dim=4, v_dim=4, window=64)


def stored(record, count, *tails):
    chain = block_chain(record.tag, TOKENS)
    return longest_stored(record, TOKENS, chain, count, tails)


def tail(parent, tokens):
    return TailRef(file="x", parent=parent, tokens=pack_tokens(tokens))


def test_stored_blocks_count_in_full():
    assert stored(model_record("m"), 2) == 512


def test_tail_is_cut_where_the_model_can_cut():
    record = model_record("m")
    chain = block_chain(record.tag, TOKENS)
    assert stored(record, 2, tail(chain[1], [*TOKENS[512:600], 96, 96])) == 600


def test_tail_that_goes_on_otherwise_is_nothing_to_a_window():
    record = model_record("m", layers=(WINDOW,))
    chain = block_chain(record.tag, TOKENS)
    assert stored(record, 2, tail(chain[1], [*TOKENS[512:600], 98])) == 512
    assert stored(record, 2, tail(chain[1], TOKENS[512:600])) == 600


def test_tail_on_the_root_serves_short_prompts():
    record = model_record("m")
    assert stored(record, 0, tail(root_id(record.tag), TOKENS[:100])) == 100


def intake(given, context=b""):
    return Intake(input=given, context=context, base=History(), added=())


def test_token_ids_are_exact():
    assert most_tokens(intake(TokensInput(tokens=pack_tokens([1, 2])), pack_tokens([3]))) == 3


@given(st.text(max_size=200))
def test_text_never_has_more_tokens_than_bytes(text):
    assert most_tokens(intake(TextInput(text=text))) >= len(text.encode())
    message = Message(role="user", content=text)
    assert most_tokens(intake(WholeInput(messages=(message,)))) >= len(text.encode())


MESSAGES = (Message(role="user", content="How many people walk home?"),)


@pytest.mark.parametrize(
    ("given_", "base", "known"),
    [
        (TokensInput(tokens=pack_tokens(TOKENS)), History(), 1000),
        (TextInput(text="It rains."), History(), 300),
        (AppendInput(messages=MESSAGES), History(messages=MESSAGES), 300),
        (WholeInput(messages=MESSAGES * 2), History(messages=MESSAGES), 300),
        (WholeInput(messages=MESSAGES), History(), 0),
    ],
)
def test_what_the_session_holds_is_known_before_anybody_counts(given_, base, known):
    held = pack_tokens(TOKENS[:300])
    intake = Intake(context=held, hint=b"", input=given_, base=base, added=())
    assert known_tokens(intake) == known
