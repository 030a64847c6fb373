"""When an idle model gives the seat up: after its time, and sooner while memory is critical."""

import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.supervisor.dispatch.idle_seat import CRITICAL_S, IdleSeat
from hotseat.supervisor.seat.rules.states import Phase, SeatState
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.values import ModelSettings, SeatSettings, Settings

KEEP_S = 900.0


class Idle:
    """A model that was seated just now, beside memory that is critical since `critical_since`."""

    def __init__(self, *, pin=False):
        self.asked = []
        seat = Seat()
        self.start = time.monotonic()
        seat.state = SeatState(phase=Phase.READY, model="a", epoch=1, seated_at=self.start)
        self.works = SimpleNamespace(
            running=0, are_under_way=False, changed=SimpleNamespace(set=lambda: None)
        )
        self.memory = SimpleNamespace(critical_since=None)
        releases = SimpleNamespace(
            is_asked=False, ask=lambda cause, _for_s: self.asked.append(cause.request_id)
        )
        settings = Settings(
            seat=SeatSettings(keep_alive_s=KEEP_S), models={"a": ModelSettings(pin=pin)}
        )
        self.idle = IdleSeat(seat, self.works, releases, self.memory, settings)

    def tick(self, after_s):
        self.idle.tick(self.start + after_s)
        return self.asked


def test_idle_model_gives_the_seat_up_after_half_a_minute_of_critical_memory():
    idle = Idle()
    idle.memory.critical_since = idle.start + 10.0
    assert idle.tick(10.0 + CRITICAL_S - 0.5) == []
    assert idle.idle.left_s(idle.start + 10.0) == pytest.approx(CRITICAL_S, abs=0.01)
    assert idle.tick(10.0 + CRITICAL_S + 0.5) == ["memory_pressure"]
    assert idle.tick(10.0 + CRITICAL_S + 1.0) == ["memory_pressure"], "asked once"


def test_peak_that_passes_changes_nothing():
    idle = Idle()
    idle.memory.critical_since = idle.start
    idle.tick(20.0)
    idle.memory.critical_since = None
    assert idle.tick(100.0) == []
    assert idle.tick(KEEP_S + 1.0) == ["keep_alive"]


def test_request_that_waits_for_memory_keeps_the_model():
    """It was suspended for memory; an empty seat would refuse it."""
    idle = Idle()
    idle.memory.critical_since, idle.works.are_under_way = idle.start, True
    assert idle.tick(10 * CRITICAL_S) == []


def test_time_counts_from_the_last_request():
    idle = Idle()
    idle.memory.critical_since, idle.works.running = idle.start, 1
    idle.tick(50.0)
    idle.works.running = 0
    assert idle.tick(50.0 + CRITICAL_S - 1.0) == []
    assert idle.tick(50.0 + CRITICAL_S + 1.0) == ["memory_pressure"]


def test_pinned_model_stays():
    idle = Idle(pin=True)
    idle.memory.critical_since = idle.start
    assert idle.tick(10 * KEEP_S) == []


@given(st.none() | st.floats(0, 2 * KEEP_S), st.floats(0, 2 * KEEP_S))
def test_critical_memory_never_lets_a_model_stay_longer(critical_since, now):
    calm, short = Idle(), Idle()
    short.start = short.idle._idle_since = calm.idle._idle_since = calm.start
    short.idle._seat.state = calm.idle._seat.state
    if critical_since is not None:
        short.memory.critical_since = calm.start + critical_since
    at = calm.start + now
    assert short.idle.left_s(at) <= calm.idle.left_s(at)
