"""Bodies of Chat and Completions: what asks for something nobody here can do is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.gateway.chat.body import REFUSED, read_chat, read_text
from hotseat.protocol.errors import HotseatError


def body(**more):
    given = {"model": "m", "prompt": "a", "messages": [{"role": "user", "content": "a"}]}
    return json.dumps(given | more).encode()


@pytest.mark.parametrize("field", REFUSED)
def test_what_cannot_be_done_is_refused_and_its_absence_is_not(field):
    for value in (True, "x", {"a": 1}, 2):
        for read in (read_chat, read_text):
            with pytest.raises(HotseatError) as caught:
                read(body(**{field: value}))
            assert (caught.value.code, caught.value.facts["field"]) == (
                "unsupported_feature",
                field,
            )
    for value in (None, False, 1, "", [], "none"):
        assert read_text(body(**{field: value})).prompt == "a"


@pytest.mark.parametrize("token", ["x", "-1", "1.5", "", "9" * 11, "9" * 5000])
def test_key_of_a_bias_that_is_no_token_is_named(token):
    with pytest.raises(HotseatError, match="keys are token ids"):
        read_chat(body(logit_bias={token: 1}))
    assert read_chat(body(logit_bias={"7": 1})).sampling.logit_bias == ((7, 1.0),)


@given(st.integers(-(2**63), 2**64 - 1))
def test_any_number_is_a_seed_and_small_ones_are_themselves(seed):
    found = read_chat(body(seed=seed)).sampling.seed
    assert 0 <= found < 2**53 and (found - seed) % 2**53 == 0
