"""Which layers of a long context are read with every step: as few as the budget allows."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.models.records import model_record

from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.live_contexts import stays_in_memory
from hotseat.protocol.model import LayerSpec, StateSpec
from hotseat.protocol.residence import WeightParts
from hotseat.protocol.streamed_contexts import (
    LEAST_TOKENS_PER_S,
    Reading,
    held_with,
    longest_streamed,
    place_again,
    place_context,
    spread_order,
    streamable_entries,
)
from hotseat.worker.model.budget import KvBudget

FULL = LayerSpec(kind="full", kv_heads=8, k_dim=128, v_dim=128)
LATENT = LayerSpec(kind="full", kv_heads=1, k_dim=512, v_dim=64)
WINDOW = LayerSpec(kind="window", kv_heads=4, k_dim=64, v_dim=64, window=512)
STATE = LayerSpec(kind="state", states=(StateSpec(shape=(16, 64), dtype="float32"),))
MIB = 1 << 20

layers = st.lists(st.sampled_from([FULL, LATENT, WINDOW, STATE]), min_size=1, max_size=40)
budgets = st.integers(0, 4096).map(lambda size: size * MIB)
lengths = st.integers(1, 131_072)


def record_of(found, **changes):
    parts = WeightParts(layers=(1,) * len(found), outside=0)
    return replace(model_record(), layers=tuple(found), parts=parts, **changes)


@given(layers, lengths, budgets)
def test_what_is_read_is_the_least_that_fits(found, tokens, budget):
    record = record_of(found)
    place = place_context(record, tokens, budget)
    order = spread_order(streamable_entries(record.layers))
    if place is None:
        assert not order or held_with(record, tokens, order).held_bytes > budget
        return
    assert place.held_bytes <= budget
    assert set(place.streamed) == set(order[: len(place.streamed)])
    fewer = tuple(sorted(order[: len(place.streamed) - 1]))
    assert not fewer or held_with(record, tokens, fewer).held_bytes > budget
    blocks = -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS
    numbers = sum(
        record.layers[entry].kv_heads * (record.layers[entry].k_dim + record.layers[entry].v_dim)
        for entry in place.streamed
    )
    assert held_with(record, tokens, place.streamed) == place
    assert place.step_bytes == numbers * record.dtype_bytes * blocks


@given(layers, lengths, budgets, budgets)
def test_more_budget_or_fewer_tokens_never_read_more_layers(found, tokens, budget, more):
    record = record_of(found)
    place = place_context(record, tokens, budget)
    if place is None:
        return
    for richer in (
        place_context(record, tokens, budget + more),
        place_context(record, max(tokens - BLOCK_TOKENS, 1), budget),
    ):
        assert richer is not None
        assert set(richer.streamed) <= set(place.streamed)


@given(layers, lengths, budgets, budgets)
def test_context_that_gives_way_has_as_few_more_read_as_the_room_asks_for(
    found, tokens, budget, left
):
    record = record_of(found)
    place = place_context(record, tokens, budget)
    if place is None:
        return
    again = place_again(record, tokens, place.streamed, left)
    order = spread_order(streamable_entries(record.layers))
    counts = range(len(place.streamed), len(order) + 1)
    places = [held_with(record, tokens, order[:count]) for count in counts]
    fitting = [one for one in places if one.held_bytes <= left]
    assert again == (fitting[0] if fitting else None)
    if again is not None:
        assert set(again.streamed) >= set(place.streamed), "none comes back"
        assert left < place.held_bytes or again == place


def test_context_gives_way_layer_by_layer_down_to_its_least():
    record = record_of([FULL] * 4)
    order = spread_order(streamable_entries(record.layers))
    held = [held_with(record, 8192, order[:count]).held_bytes for count in range(1, 5)]
    for streamed, left, expected in (
        (1, held[0], 1),
        (1, held[0] - 1, 2),
        (1, held[2], 3),
        (2, held[0], 2),
        (2, held[3], 4),
        (4, held[3], 4),
        (4, held[3] - 1, None),
        (1, 0, None),
    ):
        place = place_again(record, 8192, order[:streamed], left)
        assert (None if place is None else len(place.streamed)) == expected


@given(layers, budgets, st.integers(0, 8000), st.integers(0, 20_000))
def test_longest_context_is_not_too_slow_and_the_next_one_is_or_has_no_room(
    found, budget, mb_per_s, weights_mb
):
    record = record_of(found, context_tokens=131_072)
    reading = Reading(bytes_per_s=mb_per_s * 1e6, weights_bytes=weights_mb * MIB)
    longest = longest_streamed(record, budget, reading)

    def is_good(tokens):
        place = place_context(record, tokens, budget)
        if place is None:
            return False
        speed = place.tokens_per_s(reading)
        return speed is None or speed >= LEAST_TOKENS_PER_S

    assert longest == 0 or is_good(longest)
    assert longest == record.context_tokens or not is_good(longest + BLOCK_TOKENS)


@given(layers, lengths, budgets)
def test_supervisor_and_worker_agree_on_what_stays_in_memory(found, tokens, budget):
    record = record_of(found)
    is_whole = KvBudget(record, budget).need_bytes([[tokens]], 0) <= budget
    assert stays_in_memory(record, tokens, budget) == is_whole


@given(st.integers(1, 80))
def test_first_of_the_order_lie_far_from_each_other(count):
    order = spread_order(list(range(count)))
    assert sorted(order) == list(range(count))
    for taken in range(2, count + 1):
        chosen = sorted(order[:taken])
        gaps = [after - before for before, after in itertools.pairwise(chosen)]
        assert max(gaps) <= 4 * -(-count // taken)
