"""Where a prompt leaves what is stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.worker.batch.prefix_divergence import find_leaving, is_same_text

TOKENS = st.lists(st.integers(0, 2), max_size=12)


def test_prompt_that_leaves_a_stored_sequence_is_told_with_both_pieces():
    found = find_leaving([1, 2, 3, 9, 9], [(0, [1, 2, 3, 4, 5])])
    assert (found.position, found.held, found.given) == (3, [4, 5], [9, 9])


def test_prompt_that_continues_a_stored_sequence_does_not_diverge():
    assert find_leaving([1, 2, 3, 4], [(0, [1, 2]), (0, [1, 9])]) is None


def test_prompt_that_ends_within_a_stored_sequence_does_not_diverge():
    assert find_leaving([1, 2], [(0, [1, 2, 3])]) is None


def test_latest_of_several_places_is_told():
    found = find_leaving([1, 2, 3, 4], [(0, [1, 9]), (2, [3, 8]), (0, [1, 2, 7])])
    assert (found.position, found.held) == (3, [8])


def test_nothing_shared_is_no_divergence():
    assert find_leaving([1, 2], [(0, [3, 4])]) is None


@given(TOKENS, st.lists(TOKENS, max_size=4))
def test_found_place_is_where_some_candidate_differs_first(prompt, stored):
    found = find_leaving(prompt, [(0, tokens) for tokens in stored])
    if found is None:
        return
    assert any(tokens[: found.position] == prompt[: found.position] for tokens in stored)
    assert found.held[0] != found.given[0]
    longer = prompt[: found.position + 1]
    assert all(tokens[: found.position + 1] != longer for tokens in stored)


@pytest.mark.parametrize(
    ("held", "given_text", "same"),
    [("hello", "hello wor", True), ("ab", "ac", False), ("", "x", False)],
)
def test_same_text_in_other_tokens_is_recognised(held, given_text, same):
    assert is_same_text(held, given_text) is same
