"""What a run consists of, by scale; and which model it takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.support.models.records import model_record

from hotseat.cli.selftest.rules.choosing import ROOM_BYTES, largest_that_fits
from hotseat.cli.selftest.rules.entries import Places, plan_entries
from hotseat.cli.selftest.rules.orders import Rest, SwapAround
from hotseat.cli.selftest.rules.scales import SCALES
from hotseat.cli.selftest.rules.verdicts import RULES
from hotseat.protocol.limits import GIB
from hotseat.protocol.selftest import DecodeBare, DecodeEngine, MakeModels

PLACES = Places(base="b", folder="f", own_file="o", began_at=1.0)


def names(scale, places=PLACES):
    return [entry.name for entry in plan_entries(scale, places)]


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_every_entry_has_a_rule_and_every_rule_an_entry(scale):
    soak = structs.replace(scale, soak_s=60.0)
    assert set(names(scale)) | set(names(soak)) == set(RULES)
    assert len(names(scale)) == len(set(names(scale)))


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_limit_leaves_room_for_what_an_entry_waits_for_by_design(scale):
    for entry in plan_entries(scale, PLACES):
        for order in entry.orders:
            waits_s = 0.0
            if isinstance(order, Rest):
                waits_s = sum(order.rests_s)
            if isinstance(order, SwapAround):
                waits_s = 2 * (order.count + 1) * sum(order.looks_s)
            assert entry.limit_s >= scale.limit_s + waits_s


def test_soak_runs_what_it_needs_and_no_longer_than_asked_for():
    scale = structs.replace(SCALES["quick"], soak_s=7200.0)
    assert names(scale) == ["last run", "machine", "models", "churn", "crash reports"]
    churn = plan_entries(scale, PLACES)[3]
    assert churn.limit_s > churn.orders[0].seconds == 7200.0


def test_texts_of_the_plan_name_no_path_and_say_something():
    for scale in SCALES.values():
        for entry in plan_entries(scale, PLACES):
            for text in (entry.name, entry.measures, entry.expected):
                assert text and "/" not in text and text == text.strip()


def test_arms_of_the_comparison_take_turns():
    speed = next(entry for entry in plan_entries(SCALES["full"], PLACES) if entry.name == "speed")
    arms = [order for order in speed.orders if getattr(order, "chunk", 0) == 0]
    assert [isinstance(arm, DecodeBare) for arm in arms] == [
        *(False, True),
        *(True, False),
        *(False, True),
    ]
    chunks = [order.chunk for order in speed.orders if isinstance(order, DecodeEngine)]
    assert sorted(set(chunks)) == [0, 512, 1024]


def test_model_that_is_there_takes_the_place_of_the_first_small_one():
    places = structs.replace(PLACES, source="m", adapter="a")
    models = next(e for e in plan_entries(SCALES["full"], places) if e.name == "models").orders[0]
    assert isinstance(models, MakeModels)
    assert (models.source, models.adapter, models.chosen) == ("m", "a", "chosen")
    assert (places.stage.model, places.stage.other) == ("chosen", "small")
    assert places.model.endswith("models/chosen")
    assert (PLACES.stage.model, PLACES.stage.other) == ("small", "small-b")


@given(st.lists(st.tuples(st.integers(1, 64), st.booleans()), max_size=6), st.integers(0, 64 * GIB))
def test_largest_model_is_taken_that_fits_and_can_run(sizes, available):
    records = [
        structs.replace(
            model_record(f"m{number}"),
            weights_bytes=size * GIB,
            unfit_reason="" if runs else "no cache",
        )
        for number, (size, runs) in enumerate(sizes)
    ]
    found = largest_that_fits(records, available)
    fitting = [size for size, runs in sizes if runs and size * GIB + ROOM_BYTES <= available]
    assert (found.weights_bytes // GIB if found else None) == max(fitting, default=None)
