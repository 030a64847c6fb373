"""A system text that changes with each request is told once per agent, and no other is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.gateway.conversations.heads import LEAST, HeadWatch, common_start

TEXT = "You are an agent. " * 40


def told(*systems, agent="codex", watch=None):
    watch = watch or HeadWatch()
    return [watch.see(agent, b"", system) for system in systems]


def test_place_that_changes_each_time_is_told_once():
    found = told(*(f"{TEXT}now: {n} {TEXT}" for n in range(5)))
    assert [one is not None for one in found] == [False, False, True, False, False]
    assert (found[2].agent, found[2].position) == ("codex", len(TEXT) + 5)
    assert (found[2].given, found[2].before) == (1, 1)


@pytest.mark.parametrize(
    "systems",
    [
        [TEXT] * 5,
        [TEXT, TEXT + "Monday", TEXT + "Monday", TEXT + "Tuesday"],
        [TEXT, "Write a title. " * 40] * 3,
        [f"{n}" * (LEAST - 1) for n in range(5)],
    ],
)
def test_heads_that_stay_and_other_prompts_are_nobodys_business(systems):
    assert told(*systems) == [None] * len(systems)


def test_agents_are_told_apart():
    watch = HeadWatch()
    for agent in ("codex", "opencode"):
        found = told(*(f"{n} {TEXT}" for n in range(3)), agent=agent, watch=watch)
        assert found[2].agent == agent


def test_lengths_of_what_changed_are_told_without_the_text():
    found = told(f"{TEXT}one {TEXT}", f"{TEXT}two {TEXT}", f"{TEXT}a thing {TEXT}")
    assert (found[2].given, found[2].before) == (7, 3)


@given(st.text(), st.text())
def test_common_start_is_common_and_as_long_as_can_be(left, right):
    length = common_start(left, right)
    assert left[:length] == right[:length]
    assert length == min(len(left), len(right)) or left[length] != right[length]
