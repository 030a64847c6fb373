"""When a gateway is started again, and which one is taken over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.protocol.discovery import GatewayNote
from hotseat.supervisor.daemon.rules.gateway_starts import (
    FIRST_S,
    LONGEST_S,
    STEADY_S,
    Attempts,
    after_end,
    is_ours,
)


@given(st.lists(st.floats(0, 2 * STEADY_S), min_size=1, max_size=60))
def test_pauses_double_until_one_has_worked(lives):
    attempts = Attempts()
    for listened_s in lives:
        before, attempts = attempts, after_end(attempts, listened_s)
        assert FIRST_S <= attempts.wait_s <= LONGEST_S
        if listened_s >= STEADY_S:
            assert attempts == Attempts(1, FIRST_S)
        elif before.early:
            assert attempts.wait_s == min(2 * before.wait_s, LONGEST_S)


def test_gateway_that_worked_is_back_at_once():
    assert after_end(Attempts(9, 25.6), STEADY_S).wait_s == FIRST_S
    assert after_end(Attempts(), 1.0).wait_s == FIRST_S


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({}, True),
        ({"version": "2"}, False),
        ({"settings": "other"}, False),
        ({"watched": False, "settings": "other"}, True),
    ],
)
def test_only_one_as_we_would_start_it_is_taken_over(changes, ours):
    facts = {"pid": 5, "address": "a", "version": "1", "watched": True, "settings": "s"}
    assert is_ours(GatewayNote(**(facts | changes)), "1", "s") is ours
