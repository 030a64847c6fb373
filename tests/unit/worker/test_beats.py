"""A worker beats often while anything may change, and every two seconds at rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hotseat.protocol.limits import BEAT_S, REST_BEAT_S
from hotseat.protocol.link_reports import Beat
from hotseat.worker.link.beats import SETTLE_S, BeatPace

QUIET = Beat(
    phase="ready",
    step=0,
    busy=False,
    active_bytes=0,
    cache_bytes=0,
    peak_bytes=0,
    live_kv_bytes=0,
)


def rested(beat=QUIET):
    """A pace that has just sent the same beat twice, long after anything else."""
    pace = BeatPace()
    pace.note(beat, 100.0)
    pace.note(beat, 100.2)
    return pace


def test_first_beat_is_due_at_once():
    assert BeatPace().due_at < 0.0


@pytest.mark.parametrize("phase", ["empty", "ready", "standby"])
def test_worker_at_rest_beats_every_two_seconds(phase):
    assert rested(replace(QUIET, phase=phase)).due_at == pytest.approx(100.2 + REST_BEAT_S)


@pytest.mark.parametrize(
    "change",
    [{"busy": True}, {"backlog_bytes": 1}, {"phase": "loading"}, {"phase": "warming"}],
)
def test_worker_with_something_to_do_beats_often(change):
    assert rested(replace(QUIET, **change)).due_at == pytest.approx(100.2 + BEAT_S)


def test_figures_that_change_are_followed_closely():
    pace = rested()
    pace.note(replace(QUIET, blank_bytes=5), 102.2)
    assert pace.due_at == pytest.approx(102.2 + BEAT_S)


def test_frame_brings_the_next_beat_near():
    pace = rested()
    pace.stir(100.3)
    assert pace.due_at == pytest.approx(100.3 + BEAT_S)


def test_worker_that_was_spoken_to_stays_lively_for_a_while():
    pace = rested()
    pace.stir(100.3)
    pace.note(QUIET, 100.5)
    assert pace.due_at == pytest.approx(100.5 + BEAT_S)
    pace.note(QUIET, 100.3 + SETTLE_S)
    assert pace.due_at == pytest.approx(100.3 + SETTLE_S + REST_BEAT_S)


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=40))
def test_beat_is_never_further_away_than_the_rest(steps):
    pace, now = BeatPace(), 0.0
    for passed_s, is_frame in steps:
        now += passed_s
        if is_frame:
            pace.stir(now)
        if now >= pace.due_at:
            pace.note(QUIET, now)
        assert pace.due_at <= now + REST_BEAT_S
