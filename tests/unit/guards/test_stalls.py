"""Who counts as stuck: budgets follow the work, and time nobody watched counts against nobody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hotseat.protocol.limits import MIB
from hotseat.supervisor.guards.rules.stalls import (
    LOOK_S,
    REST_LOOK_S,
    Clocks,
    DueWork,
    Signs,
    budget_s,
    look,
    stalled,
)
from hotseat.supervisor.settings.values import StallSettings

SETTINGS = StallSettings(
    silent_s=10.0, quiet_s=5.0, token_s=3.0, load_floor_bytes=MIB, prefill_floor_tokens=4
)
DECODE = (DueWork(task="decode"),)


def watch(signs, *, until, step=0.2, clocks=None):
    """Clocks after looking at signs (a function of time) every `step` seconds."""
    clocks = clocks or Clocks(signs=signs(0.0))
    now = clocks.at
    while now < until:
        now += step
        clocks = look(clocks, signs(now), now)
    return clocks


def steady(expected=DECODE, heard=True, progress=True):
    return lambda now: Signs(
        epoch=1,
        heard=int(now * 5) if heard else 0,
        progress=(int(now * 5),) if progress else (),
        expected=expected,
    )


@pytest.mark.parametrize(
    ("expected", "allowed_s"),
    [
        (DueWork(task="load", amount=20 * MIB), 25.0),
        (DueWork(task="load"), 5.0),
        (DueWork(task="restore", amount=2 * MIB), 7.0),
        (DueWork(task="write", amount=MIB), 6.0),
        (DueWork(task="prefill", amount=256), 69.0),
        (DueWork(task="decode", amount=99), 3.0),
    ],
)
def test_budget_follows_the_work(expected, allowed_s):
    assert budget_s(expected, SETTINGS) == allowed_s


def test_mac_is_given_longer_to_be_silent_unless_the_settings_say_otherwise():
    unset = StallSettings(token_s=99.0)
    assert [unset.silence_s(system) for system in ("linux", "darwin")] == [10.0, 60.0]
    assert SETTINGS.silence_s("darwin") == 10.0
    clocks = watch(steady(heard=False), until=59.5)
    assert stalled(clocks, unset, "darwin") is None
    assert stalled(clocks, unset, "linux").budget_s == 10.0
    later = watch(steady(heard=False), until=60.5, clocks=clocks)
    assert stalled(later, unset, "darwin").kind == "silent"


@pytest.mark.parametrize(("os_level", "allows_s"), [(None, 10.0), (1, 10.0), (2, 10.0), (4, 30.0)])
def test_memory_that_the_system_calls_critical_excuses_for_a_while(os_level, allows_s):
    def signs(_now):
        return Signs(epoch=1, expected=DECODE, os_level=os_level)

    patient = replace(SETTINGS, token_s=99.0)
    clocks = watch(signs, until=allows_s - 0.5)
    assert stalled(clocks, patient, "darwin") is None
    clocks = watch(signs, until=allows_s + 1.0, clocks=clocks)
    assert stalled(clocks, patient, "darwin").kind == "silent"


def test_worker_that_beats_and_gets_no_further_is_stuck_after_its_budget():
    assert stalled(watch(steady(progress=False), until=2.7), SETTINGS, "linux") is None
    stall = stalled(watch(steady(progress=False), until=3.3), SETTINGS, "linux")
    assert (stall.kind, stall.task) == ("still", "decode")
    assert "decode" in stall.text


def test_worker_that_says_nothing_at_work_is_stuck_whatever_it_does():
    assert stalled(watch(steady(heard=False), until=9.9), SETTINGS, "linux") is None
    assert stalled(watch(steady(heard=False), until=10.4), SETTINGS, "linux").kind == "silent"


def test_worker_that_says_nothing_at_rest_has_the_time_of_a_slow_beat_more():
    silent = steady(expected=(), heard=False)
    assert stalled(watch(silent, until=11.9, step=1.0), SETTINGS, "linux") is None
    assert stalled(watch(silent, until=13.0, step=1.0), SETTINGS, "linux").kind == "silent"


def test_looks_of_a_daemon_at_rest_are_not_taken_for_sleep():
    clocks = watch(steady(expected=(), heard=False), until=6.0, step=1.2)
    assert clocks.silent_s == pytest.approx(6.0)


def test_work_that_finds_a_silent_worker_gives_it_its_whole_time():
    def signs(now):
        return steady(DECODE if now > 9.0 else (), heard=False)(now)

    assert stalled(watch(signs, until=18.0), SETTINGS, "linux") is None
    assert stalled(watch(signs, until=19.6), SETTINGS, "linux").kind == "silent"


def test_idle_worker_is_never_still():
    assert (
        stalled(watch(steady(expected=(), progress=False), until=100.0), SETTINGS, "linux") is None
    )


def test_work_that_begins_after_a_quiet_hour_has_its_whole_budget():
    def signs(now):
        return steady(DECODE if now > 50.0 else (), progress=False)(now)

    assert stalled(watch(signs, until=52.5), SETTINGS, "linux") is None
    assert stalled(watch(signs, until=53.5), SETTINGS, "linux") is not None


def test_longest_budget_counts_when_one_step_does_several_things():
    both = (DueWork(task="decode"), DueWork(task="prefill", amount=256))
    assert stalled(watch(steady(both, progress=False), until=60.0), SETTINGS, "linux") is None
    assert (
        stalled(watch(steady(both, progress=False), until=70.0), SETTINGS, "linux").task
        == "prefill"
    )


def test_hours_in_which_nobody_looked_count_for_nothing():
    signs = steady(progress=False, heard=False)
    clocks = look(watch(signs, until=1.0), signs(1.0), 10_000.0)
    assert stalled(clocks, SETTINGS, "linux") is None


def test_next_worker_starts_with_clocks_of_its_own():
    clocks = watch(steady(progress=False, heard=False), until=9.0)
    clocks = look(clocks, Signs(epoch=2, expected=DECODE), 9.2)
    assert (clocks.silent_s, clocks.still_s) == (0.0, 0.0)


@given(
    gaps=st.lists(st.floats(0.01, 5_000.0), max_size=60),
    advances=st.lists(st.booleans(), min_size=60, max_size=60),
    expected=st.sampled_from([DECODE, (), (DueWork(task="load", amount=MIB),)]),
)
def test_clocks_never_run_ahead_of_watched_time_nor_back(gaps, advances, expected):
    now, heard, watched = 0.0, 0, 0.0
    clocks = Clocks(signs=Signs(expected=expected))
    for gap, advance in zip(gaps, advances, strict=False):
        now += gap
        watched += gap if gap <= (LOOK_S if expected else REST_LOOK_S) else 0.0
        heard += advance
        clocks = look(clocks, Signs(heard=heard, progress=(heard,), expected=expected), now)
        assert 0.0 <= clocks.still_s <= watched + 1e-9
        assert 0.0 <= clocks.silent_s <= watched + 1e-9
        if advance:
            assert (clocks.still_s, clocks.silent_s) == (0.0, 0.0)


@given(st.lists(st.floats(0.01, 2.9), min_size=1, max_size=40))
def test_honest_worker_is_never_stuck_however_uneven_its_steps(steps):
    """Each step ends within its budget."""
    now, clocks = 0.0, Clocks(signs=Signs(expected=DECODE))
    for number, lasts_s in enumerate(steps):
        end = now + lasts_s
        while now < end:
            now = min(now + 0.2, end)
            signs = Signs(heard=int(now * 5), progress=(number,), expected=DECODE)
            clocks = look(clocks, signs, now)
            assert stalled(clocks, SETTINGS, "linux") is None
