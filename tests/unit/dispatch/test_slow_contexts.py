"""How slow a context is that its memory does not hold is said beforehand, as of a slow model."""

import time
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from tests.support.models.records import full_layers, model_record

from hotseat.protocol.residence import StreamedView, WeightParts
from hotseat.protocol.streamed_contexts import Reading, held_with, place_context
from hotseat.supervisor.dispatch.admission import Admission
from hotseat.supervisor.models.rules.long_contexts import context_speed
from hotseat.supervisor.models.rules.residence import ReadRate
from hotseat.supervisor.seat.rules.states import Phase, SeatState
from hotseat.supervisor.seat.seat import Seat

RECORD = model_record(
    "a",
    layers=full_layers(8),
    parts=WeightParts(layers=(1,) * 8, outside=0),
    context_tokens=131_072,
)
TOKENS = 32_768
BUDGET = held_with(RECORD, TOKENS, (0, 2, 4, 6)).held_bytes
STEP = place_context(RECORD, TOKENS, BUDGET).step_bytes


def rate(tokens_per_s):
    return tokens_per_s * STEP


@pytest.mark.parametrize(
    ("tokens", "reading", "speed"),
    [
        (TOKENS, Reading(bytes_per_s=rate(0.5)), 0.5),
        (TOKENS, Reading(bytes_per_s=rate(0.5), weights_bytes=STEP), 0.25),
        (TOKENS, Reading(), None),
        (TOKENS, None, None),
        (1024, Reading(bytes_per_s=rate(0.5)), None),
        (500_000, Reading(bytes_per_s=rate(0.5)), 0.0),
    ],
)
def test_speed_is_that_of_the_disk_for_what_passes(tokens, reading, speed):
    assert context_speed(RECORD, tokens, BUDGET, reading) == speed


def test_context_that_is_never_read_from_files_has_no_speed():
    older = replace(RECORD, parts=None)
    assert context_speed(older, TOKENS, BUDGET, Reading(bytes_per_s=rate(0.5))) is None


class Plans:
    """Plans with the budget, and a disk of so many tokens a second over `TOKENS`."""

    def __init__(self, tokens_per_s, streaming=True):
        self.reading = ReadRate(bytes_per_s=rate(tokens_per_s), at=time.time())
        self.contexts = Reading(bytes_per_s=rate(tokens_per_s)) if streaming else None

    def plan_asked(self, _record):
        return SimpleNamespace(
            kv_budget_bytes=BUDGET, contexts=self.contexts, residence=None, tokens_per_s=None
        )

    def streamed_now(self, view):
        return view

    def reading_now(self, reading):
        return replace(reading, bytes_per_s=self.reading.bytes_per_s)


def admission(plans, *, is_seated, streamed=None):
    seat = Seat()
    if is_seated:
        seat.state = SeatState(phase=Phase.READY, model="a")
        seat.record, seat.kv_budget_bytes, seat.streamed = RECORD, BUDGET, streamed
        # As it was loaded; the disk has been measured since.
        seat.contexts = plans.contexts and replace(plans.contexts, bytes_per_s=rate(5.0))
    return Admission(plans, seat, None, None, None, None)


@pytest.mark.parametrize("is_seated", [False, True])
@pytest.mark.parametrize(
    ("tokens_per_s", "told"),
    [(5.0, None), (1.0, None), (0.999, 0.999), (0.2, 0.2), (0.19, None)],
)
def test_speed_below_one_is_told_and_one_that_is_refused_is_not(tokens_per_s, told, is_seated):
    asked = admission(Plans(tokens_per_s), is_seated=is_seated)
    assert asked.slow_speed(RECORD, TOKENS) == told
    assert asked.slow_speed(RECORD, 1024) is None
    assert asked.slow_speed(RECORD) is None
    assert asked.may_be_slow(RECORD, TOKENS) == (tokens_per_s < 1.0)
    assert not asked.may_be_slow(RECORD, 1024)
    off = admission(Plans(tokens_per_s, streaming=False), is_seated=is_seated)
    assert off.slow_speed(RECORD, TOKENS) is None


def test_short_prompt_of_a_slow_model_has_the_speed_of_the_model():
    view = StreamedView(
        mode="layers", held=4, of=8, resident_bytes=1, step_bytes=STEP, tokens_per_s=0.5
    )
    plans = Plans(0.5)
    plans.contexts = replace(plans.contexts, weights_bytes=STEP)
    asked = admission(plans, is_seated=True, streamed=view)
    assert asked.slow_speed(RECORD, 100) == 0.5
    assert asked.slow_speed(RECORD, TOKENS) == 0.25, "both are read"
