"""What is given up when memory gets short: in order, at once when worse, late when better."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.supervisor.guards.rules.pressure import (
    Level,
    Pressure,
    Reading,
    Sheddable,
    ShrinkLive,
    SuspendYoungest,
    level_of,
    next_pressure,
)
from hotseat.supervisor.settings.values import PressureSettings

SETTINGS = PressureSettings(step_s=1.0, calm_s=10.0)
MUCH = Sheddable(sessions=4, running=3)
CALM, WARN, CRIT = (Reading(os_level=level) for level in (1, 2, 4))


@pytest.mark.parametrize(
    ("reading", "level"),
    [
        (CALM, Level.NORMAL),
        (WARN, Level.WARNING),
        (CRIT, Level.CRITICAL),
        (Reading(os_level=1, available_bytes=0, reserve_bytes=100), Level.NORMAL),
        (Reading(available_bytes=60, reserve_bytes=100), Level.NORMAL),
        (Reading(os_level=1, is_level_late=True, available_bytes=40, reserve_bytes=100), 2),
        (Reading(os_level=4, is_level_late=True, available_bytes=60, reserve_bytes=100), 4),
        (Reading(available_bytes=40, reserve_bytes=100), Level.WARNING),
        (Reading(available_bytes=20, reserve_bytes=100), Level.CRITICAL),
        (Reading(os_level=1, footprint_bytes=104, limit_bytes=100), Level.NORMAL),
        (Reading(os_level=1, footprint_bytes=106, limit_bytes=100), Level.WARNING),
        (Reading(os_level=1, footprint_bytes=116, limit_bytes=100), Level.CRITICAL),
        (Reading(os_level=4, footprint_bytes=1, limit_bytes=100), Level.CRITICAL),
    ],
)
def test_level_is_the_worst_that_anything_tells(reading, level):
    assert level_of(reading) is Level(level)


def test_contexts_go_first_half_of_them_then_the_rest_then_requests():
    state, first = next_pressure(Pressure(), WARN, MUCH, 0.0, SETTINGS)
    state, soon = next_pressure(state, WARN, MUCH, 0.5, SETTINGS)
    state, second = next_pressure(state, WARN, Sheddable(sessions=2, running=3), 1.0, SETTINGS)
    state, third = next_pressure(state, WARN, Sheddable(running=3), 2.0, SETTINGS)
    assert (first, soon, second, third) == (
        (ShrinkLive(2),),
        (),
        (ShrinkLive(0),),
        (SuspendYoungest(),),
    )


def test_one_request_goes_on_under_warning_and_none_when_it_is_critical():
    assert next_pressure(Pressure(), WARN, Sheddable(running=1), 0.0, SETTINGS)[1] == ()
    assert next_pressure(Pressure(), CRIT, Sheddable(running=1), 0.0, SETTINGS)[1] == (
        SuspendYoungest(),
    )


@pytest.mark.parametrize(
    ("level", "running", "short"),
    [
        (Level.NORMAL, 9, False),
        (Level.WARNING, 0, False),
        (Level.WARNING, 1, True),
        (Level.CRITICAL, 0, True),
    ],
)
def test_admission_follows_the_level(level, running, short):
    assert Pressure(level=level).is_short_for(running) is short


def test_level_falls_only_after_it_was_lower_for_a_while():
    state, _ = next_pressure(Pressure(), CRIT, Sheddable(), 0.0, SETTINGS)
    state, _ = next_pressure(state, CALM, Sheddable(), 1.0, SETTINGS)
    state, _ = next_pressure(state, CALM, Sheddable(), 10.9, SETTINGS)
    assert state.level is Level.CRITICAL
    state, _ = next_pressure(state, CALM, Sheddable(), 11.0, SETTINGS)
    assert state.level is Level.NORMAL


def test_relapse_starts_the_calm_anew():
    state, _ = next_pressure(Pressure(), WARN, Sheddable(), 0.0, SETTINGS)
    for now, reading in ((1.0, CALM), (9.0, WARN), (12.0, CALM), (21.0, CALM)):
        state, _ = next_pressure(state, reading, Sheddable(), now, SETTINGS)
    assert state.level is Level.WARNING


def test_nothing_more_is_given_up_while_it_calms_down():
    state, _ = next_pressure(Pressure(), WARN, MUCH, 0.0, SETTINGS)
    assert next_pressure(state, CALM, MUCH, 5.0, SETTINGS)[1] == ()


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 2, 4]), st.floats(0.05, 5.0), st.integers(0, 5), st.integers(0, 5)
        ),
        max_size=60,
    )
)
def test_acted_level_is_never_below_what_is_measured_and_shedding_keeps_its_order(steps):
    state, now = Pressure(), 0.0
    for os_level, gap, sessions, running in steps:
        now += gap
        held = Sheddable(sessions=sessions, running=running)
        before = state
        state, given_up = next_pressure(state, Reading(os_level=os_level), held, now, SETTINGS)
        assert state.level >= os_level
        for step in given_up:
            assert os_level > 1, "given up without need"
            if isinstance(step, SuspendYoungest):
                assert not sessions, "a request went before contexts"
                assert running
            else:
                assert step.keep < sessions
        if state.level < before.level:
            assert given_up == ()


def test_critical_memory_knows_since_when():
    state, _ = next_pressure(Pressure(), WARN, MUCH, 0.0, SETTINGS)
    assert state.critical_since is None
    for now in (1.0, 2.0, 40.0):
        state, _ = next_pressure(state, CRIT, MUCH, now, SETTINGS)
    assert state.critical_since == 1.0
    state, _ = next_pressure(state, CALM, MUCH, 41.0, SETTINGS)
    assert state.critical_since == 1.0, "a level falls only after it was lower for a while"
    state, _ = next_pressure(state, CALM, MUCH, 41.0 + SETTINGS.calm_s, SETTINGS)
    assert state.critical_since is None
