"""What of a model that does not fit is held, for every room; when it is refused all the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.models.records import full_layers, model_record

from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.link_orders import Load
from hotseat.protocol.residence import WeightParts, spread_evenly
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.models.rules.plan import plan_model
from hotseat.supervisor.models.rules.residence import choose_residence, is_slow, streamed_of
from hotseat.supervisor.settings.values import MemorySettings, Settings

MAC = MachineMemory(total_bytes=16 * GIB, available_bytes=14 * GIB)
DENSE = WeightParts(layers=(272 * MIB,) * 64, outside=1600 * MIB)
"""About a dense model of 32B in 4 bit."""
SPARSE = WeightParts(
    layers=(340 * MIB,) * 48,
    outside=700 * MIB,
    experts=(320 * MIB,) * 48,
    expert_count=128,
    chosen=8,
)
"""About Qwen3-30B-A3B in 4 bit."""


def record(parts, **fields):
    fields = {"layers": full_layers(48, 4, 128), "parameters": 32 * 10**9} | fields
    weights = {"weights_bytes": parts.total if parts else DENSE.total, "parts": parts}
    return model_record(**weights | fields)


@pytest.mark.parametrize(
    ("total", "streamed", "places"),
    [(4, 0, ()), (4, 1, (2,)), (4, 2, (1, 3)), (4, 4, (0, 1, 2, 3)), (6, 3, (1, 3, 5))],
)
def test_streamed_layers_are_spread_evenly(total, streamed, places):
    assert spread_evenly(total, streamed) == places


@given(
    layers=st.lists(st.integers(1, 400), min_size=1, max_size=80),
    outside=st.integers(0, 500),
    count=st.integers(0, 32),
    chosen=st.integers(0, 32),
    room=st.integers(0, 40_000),
)
def test_what_is_chosen_fits_and_a_token_finds_its_experts(layers, outside, count, chosen, room):
    parts = WeightParts(
        layers=tuple(size * MIB for size in layers),
        outside=outside * MIB,
        experts=tuple(size * MIB // 2 for size in layers) if count else (),
        expert_count=count,
        chosen=min(chosen, count),
    )
    seating = choose_residence(parts, room * MIB)
    if seating is None:
        largest = max(parts.layers)
        assert room * MIB < parts.outside + 2 * sum(set(parts.layers)) + largest
        return
    assert seating.resident_bytes <= room * MIB
    residence = seating.residence
    if residence.mode == "experts":
        assert max(parts.chosen, 1) <= residence.slots <= count
    else:
        assert residence.streamed == tuple(sorted(set(residence.streamed)))
        assert all(place < len(layers) for place in residence.streamed)
        assert residence.rooms == min(2, len(residence.streamed))
        sizes = [parts.layers[place] for place in residence.streamed]
        rooms = sum(size * min(residence.rooms, sizes.count(size)) for size in set(sizes))
        assert seating.resident_bytes == parts.total - sum(sizes) + rooms


def test_more_room_never_leaves_more_on_the_disk():
    rooms = range(3 * GIB, 20 * GIB, 512 * MIB)
    dense = [choose_residence(DENSE, room) for room in rooms]
    counts = [len(seating.residence.streamed) for seating in dense]
    assert counts == sorted(counts, reverse=True)
    sparse = [choose_residence(SPARSE, room) for room in rooms]
    slots = [one.residence.slots for one in sparse if one.residence.mode == "experts"]
    assert slots == sorted(slots)
    assert slots[-1] == 128


def test_model_that_fits_is_never_streamed():
    plan = plan_model(
        record(DENSE), replace(MAC, total_bytes=64 * GIB, available_bytes=60 * GIB), Settings()
    )
    assert plan.fits
    assert (plan.residence, plan.step_bytes) == (None, 0)
    assert plan.weights_bytes == DENSE.total


@pytest.mark.parametrize(("parts", "mode"), [(DENSE, "layers"), (SPARSE, "experts")])
def test_model_that_does_not_fit_is_planned_with_a_part_of_it(parts, mode):
    plan = plan_model(record(parts), MAC, Settings())
    assert plan.fits
    assert plan.residence.mode == mode
    assert plan.weights_bytes < parts.total
    taken = plan.weights_bytes + plan.overhead_bytes + plan.prefill_peak_bytes
    assert taken + plan.kv_budget_bytes <= plan.limit_bytes
    assert "does not fit whole" in plan.notice
    assert 0 < plan.step_bytes < parts.total


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"parts": None}, "import it again"),
        ({"parts": DENSE, "adapter": "/a"}, "an adapter"),
        ({"parts": replace(DENSE, layers_refused="it is stacked at load")}, "stacked at load"),
    ],
)
def test_refusal_says_why_it_is_not_read_as_it_is_needed(fields, said):
    plan = plan_model(record(**fields), MAC, Settings())
    assert not plan.fits
    assert "exceed the limit" in plan.reason
    assert said in plan.reason


def test_memory_that_others_hold_now_changes_nothing_of_what_is_loaded():
    """The gate waits for what is loaded then, and what fits the machine is never streamed."""
    squeezed = replace(MAC, available_bytes=5 * GIB)
    fits = record(replace(DENSE, layers=(32 * MIB,) * 64))
    plan = plan_model(fits, squeezed, Settings())
    assert plan.residence is None
    assert plan.weights_bytes == 1600 * MIB + 2 * GIB
    whole = plan_model(record(DENSE), MAC, Settings(), in_any_case=True)
    now = plan_model(record(DENSE), squeezed, Settings())
    assert now.residence == whole.residence
    assert now.weights_bytes == whole.weights_bytes
    assert not now.fits


def test_streaming_can_be_switched_off():
    plan = plan_model(record(DENSE), MAC, Settings(memory=MemorySettings(streaming="off")))
    assert not plan.fits
    assert "read as it is needed" not in plan.reason


def test_speed_is_told_once_the_disk_is_known_and_a_crawl_is_refused():
    unknown = plan_model(record(DENSE), MAC, Settings())
    assert unknown.tokens_per_s is None
    rate = 3.0 * GIB
    known = plan_model(record(DENSE), MAC, Settings(), read_rate=rate)
    assert known.tokens_per_s == pytest.approx(rate / known.step_bytes)
    assert f"{known.tokens_per_s:.2g} tokens a second" in known.notice
    slow = plan_model(record(DENSE), MAC, Settings(), read_rate=rate / 4)
    assert not slow.fits
    assert slow.residence is None
    assert "0.2 a second are the least" in slow.reason
    assert plan_model(record(SPARSE), MAC, Settings(), read_rate=rate / 4).fits


def test_what_is_in_memory_is_told_in_numbers_and_words():
    rate = 3.0 * GIB
    for parts, held, of, words in (
        (DENSE, 33, 64, "33 of 64 layers in memory"),
        (SPARSE, 75, 128, "75 of 128 experts a layer in memory"),
    ):
        plan = plan_model(record(parts), MAC, Settings(), read_rate=rate)
        view = streamed_of(record(parts), plan)
        assert (view.held, view.of, view.words) == (held, of, words)
        assert view.resident_bytes == plan.weights_bytes
        assert view.tokens_per_s == round(plan.tokens_per_s, 3)
        assert words in plan.notice
        order = load_order(record(parts), plan)
        assert order.resident_bytes == plan.weights_bytes
    roomy = replace(MAC, total_bytes=64 * GIB, available_bytes=60 * GIB)
    assert streamed_of(record(DENSE), plan_model(record(DENSE), roomy, Settings())) is None


def load_order(one, plan):
    sizes = {"kv_budget_bytes": 0, "cache_limit_bytes": 0, "memory_limit_bytes": 0}
    return Load(record=one, kv_dir="/kv", residence=plan.residence, **sizes)


@pytest.mark.parametrize(
    ("speed", "is_told"), [(None, False), (0.21, True), (0.99, True), (1.0, False), (40.0, False)]
)
def test_only_a_speed_that_is_known_and_below_one_is_told_beforehand(speed, is_told):
    assert is_slow(speed) == is_told


def test_experts_that_cannot_be_read_apart_are_read_by_layers():
    parts = replace(SPARSE, experts_refused="they are stacked when they are loaded")
    assert choose_residence(parts, 8 * GIB).residence.mode == "layers"
