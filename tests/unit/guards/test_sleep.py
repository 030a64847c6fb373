"""When the machine is kept awake, by what, and what is noticed of its sleep."""

import contextlib
import os
import stat
import sys

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.daemons.live_daemon import wait_for

from hotseat.supervisor.guards.rules.sleep import (
    LINGER_S,
    Vigil,
    is_allowed,
    next_vigil,
    reason_to_stay_awake,
)
from hotseat.supervisor.machine.sleep_assertion import (
    CAFFEINATE_VARIABLE,
    Caffeinate,
    NoAssertion,
    system_power,
)
from hotseat.supervisor.machine.time_awake import SLEPT_S, SleepClock, whole_time
from hotseat.supervisor.seat.rules.states import SETTLED, Phase
from hotseat.supervisor.settings.values import PowerSettings

HELPER = """#!/bin/sh
echo "$@" > "$0.args"
exec sleep 60
"""


@pytest.fixture
def program(tmp_path):
    """A caffeinate that notes its arguments and lives until it is ended."""
    path = tmp_path / "caffeinate"
    path.write_text(HELPER)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def assertion(program):
    held = Caffeinate(str(program))
    yield held
    held.close()


@pytest.mark.parametrize("phase", Phase)
def test_swap_under_way_is_a_reason_whatever_runs(phase):
    expected = None if phase in SETTLED else "swap"
    assert reason_to_stay_awake(0, phase) == expected
    assert reason_to_stay_awake(2, phase) == (expected or "request")


@pytest.mark.parametrize(
    ("prevent_sleep", "in_spite", "on_battery", "allowed"),
    [
        (True, False, False, True),
        (True, False, True, False),
        (True, True, True, True),
        (False, True, False, False),
        (False, True, True, False),
    ],
)
def test_battery_is_spared_unless_the_settings_say_otherwise(
    prevent_sleep, in_spite, on_battery, allowed
):
    settings = PowerSettings(prevent_sleep=prevent_sleep, on_battery=in_spite)
    assert is_allowed(settings, on_battery=on_battery) is allowed


@given(st.lists(st.tuples(st.sampled_from([None, "request", "swap"]), st.booleans())))
def test_machine_stays_awake_exactly_while_work_is_younger_than_the_linger_time(looks):
    vigil, needed_at = Vigil(), float("-inf")
    for number, (need, allowed) in enumerate(looks):
        now = number * 2.0
        needed_at = float("-inf") if not allowed else now if need else needed_at
        vigil = next_vigil(vigil, need, allowed=allowed, now=now)
        assert (vigil.reason is not None) == (allowed and now - needed_at < LINGER_S)
        assert need is None or not allowed or vigil.reason == need


def test_held_assertion_is_idle_sleep_alone_and_ends_with_this_process(assertion, program):
    assertion.hold()
    noted = program.with_name("caffeinate.args")
    wait_for(lambda: noted.exists() and noted.read_text())
    assert noted.read_text().split() == ["-i", "-w", str(os.getpid())]
    assert assertion.is_held


def helpers():
    """Children that the assertion started: other tests of this process may have left some."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            line = " ".join(child.cmdline())
            if "caffeinate" in line or line == "sleep 60":
                found.append(child)
    return found


def test_assertion_let_go_leaves_no_process_behind(assertion):
    assertion.hold()
    assertion.let_go()
    assert not assertion.is_held
    wait_for(lambda: not assertion.is_held and not helpers())


def test_held_twice_is_held_once(assertion):
    assertion.hold()
    assertion.hold()
    assert len(helpers()) == 1


def test_assertion_that_somebody_ended_is_not_held(assertion):
    assertion.hold()
    helpers()[0].kill()
    wait_for(lambda: not assertion.is_held)


def test_missing_program_is_an_error_of_the_system():
    with pytest.raises(OSError, match="no-such"):
        Caffeinate("/no-such-caffeinate").hold()


def test_system_without_assertions_is_left_alone():
    found = system_power({})
    assert isinstance(found, Caffeinate if sys.platform == "darwin" else NoAssertion)
    assert isinstance(system_power({CAFFEINATE_VARIABLE: "/x"}), Caffeinate)


def test_sleep_of_the_machine_is_what_only_one_clock_counts():
    clock = SleepClock(10.0, 100.0)
    assert clock.take_slept_s(10.2, 100.2) == 0.0
    assert clock.take_slept_s(60.0, 150.0) == 0.0, "a stopped process is no sleep"
    assert clock.take_slept_s(60.2, 750.2) == pytest.approx(600.0)
    assert clock.take_slept_s(60.4, 750.4 + SLEPT_S / 2) == 0.0


def test_clock_that_counts_sleep_never_runs_behind_itself():
    first = whole_time()
    assert whole_time() >= first
