"""Pure decisions of the engine against the plainest statement of what they must do."""

import mlx.core as mx
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotseat.protocol.ids import ModelName, Tag
from hotseat.protocol.link_orders import Load
from hotseat.protocol.live_contexts import padded
from hotseat.protocol.messages import Sampling
from hotseat.protocol.model import (
    LayerSpec,
    ModelRecord,
    ModelSource,
    TagParts,
    TemplateProbe,
)
from hotseat.worker.batch.sampling import KeyedSampler, draw_key
from hotseat.worker.context.capture import RowView, capture_parts
from hotseat.worker.model import loading
from hotseat.worker.model.budget import KvBudget
from hotseat.worker.model.caches import BatchRingKVCache, RingKVCache, ring_starts
from hotseat.worker.model.loading import SeatedModel
from hotseat.worker.text.text_out import TextOut


class Pieces:
    """A detokenizer whose tokens are their text."""

    def __init__(self) -> None:
        self.last_segment = ""

    def add_token(self, token) -> None:
        self.last_segment = token

    def finalize(self) -> None:
        self.last_segment = ""


TEXTS = st.text("ab#", max_size=40)


@given(TEXTS, st.lists(st.text("ab#", min_size=1, max_size=4), max_size=3), st.data())
def test_stop_strings_cut_where_the_first_completes_however_text_arrives(text, stops, data):
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    expected = text
    if ends:
        first = min(ends)
        expected = text[: min(first - len(s) for s in stops if text[:first].endswith(s))]
    out = TextOut(Pieces(), stops)
    emitted = []
    position = 0
    while position < len(text) and not out.is_stopped:
        length = data.draw(st.integers(1, 5))
        emitted.append(out.push(text[position : position + length]))
        assert expected.startswith("".join(emitted))
        position += length
    emitted.append(out.finish())
    assert "".join(emitted) == out.text == expected
    assert out.is_stopped == bool(ends)


def record_of(layers) -> ModelRecord:
    return ModelRecord(
        name=ModelName("m"),
        path="",
        tag=Tag("0" * 32),
        tag_parts=TagParts(
            architecture="",
            weights="",
            quantisation="",
            tokenizer="",
            template="",
            adapter="",
            kv="",
        ),
        source=ModelSource(kind="mlx", path=""),
        architecture="llama",
        quantisation="",
        parameters=0,
        files=(),
        weights_bytes=0,
        context_tokens=8192,
        vocab_size=512,
        eos_token_ids=(),
        layers=tuple(layers),
        kv_dtype="float32",
        template=TemplateProbe(mode="raw"),
    )


LAYERS = st.lists(
    st.builds(
        LayerSpec,
        kind=st.just("full"),
        kv_heads=st.integers(1, 4),
        k_dim=st.sampled_from([16, 32]),
        v_dim=st.sampled_from([16, 32]),
    )
    | st.builds(
        LayerSpec,
        kind=st.just("window"),
        kv_heads=st.integers(1, 4),
        k_dim=st.just(16),
        v_dim=st.just(16),
        window=st.sampled_from([64, 512, 1024]),
    ),
    min_size=1,
    max_size=4,
)
LANES = st.lists(st.lists(st.integers(1, 8192), max_size=4), min_size=1, max_size=3)


@given(LAYERS, LANES, st.integers(0, 10**6), st.integers(1, 8192))
def test_need_grows_with_rows_and_covers_every_cache(layers, lanes, idle, tokens):
    record = record_of(layers)
    budget = KvBudget(record, 10**9)
    need = budget.need_bytes(lanes, idle)
    assert need >= idle + sum(record.kv_bytes(row) for rows in lanes for row in rows)
    for index in budget.lane_order(lanes, tokens):
        more = [[*rows, tokens] if i == index else rows for i, rows in enumerate(lanes)]
        assert budget.need_bytes(more, idle) > need
    assert sorted(budget.lane_order(lanes, tokens)) == list(range(len(lanes)))


@given(LAYERS, st.integers(0, 10**8))
def test_fit_is_the_longest_row_that_fits_alone(layers, limit):
    budget = KvBudget(record_of(layers), limit)
    fit = budget.fit_tokens(8192)
    assert fit == 0 or budget.need_bytes([[fit]], 0) <= limit
    assert fit == 8192 or budget.need_bytes([[fit + 1]], 0) > limit
    assert padded(fit) % 256 == 0


def test_row_avoids_a_lane_it_would_blow_up():
    budget = KvBudget(record_of([LayerSpec(kind="full", kv_heads=1, k_dim=16, v_dim=16)]), 10**9)
    assert budget.lane_order([[8192], [], []], 256) == [1, 2, 0]
    assert budget.lane_order([[8192], [256], []], 256)[0] == 1
    assert budget.lane_order([[256] * 7, [], []], 8192) == [1, 2, 0]
    assert budget.lane_order([[300], [], []], 400)[0] == 0


TOKEN_BYTES = 1024
"""Of the one layer below, float32."""


@pytest.mark.parametrize(
    ("weights_tokens", "lanes", "tokens", "order"),
    [
        # Padding is 8192 - 256 tokens: less than the weights are worth, and more.
        (8000, [[8192], [], []], 256, [0, 1, 2]),
        (7900, [[8192], [], []], 256, [1, 2, 0]),
        # The lane where it adds least comes first, also when it would join both.
        (8000, [[8192], [256], []], 256, [1, 0, 2]),
        # Seven rows would be padded to the new one's length.
        (8000, [[256] * 7, [], []], 8192, [1, 2, 0]),
        (7 * 8000, [[256] * 7, [], []], 8192, [0, 1, 2]),
        (0, [[8192], [], []], 256, [1, 2, 0]),
    ],
)
def test_row_joins_a_lane_when_padding_reads_less_than_the_weights(
    weights_tokens, lanes, tokens, order
):
    record = record_of([LayerSpec(kind="full", kv_heads=4, k_dim=32, v_dim=32)])
    budget = KvBudget(record, 10**9, weights_tokens * TOKEN_BYTES)
    assert budget.lane_order(lanes, tokens) == order


@given(LAYERS, LANES, st.integers(1, 8192), st.integers(0, 10**9), st.integers(0, 10**9))
def test_heavier_weights_never_send_a_row_to_a_lane_of_its_own(layers, lanes, tokens, one, more):
    record = record_of(layers)
    light, heavy = KvBudget(record, 10**9, one), KvBudget(record, 10**9, one + more)

    def is_alone(budget):
        return not lanes[budget.lane_order(lanes, tokens)[0]]

    assert is_alone(light) or not is_alone(heavy) or not any(lanes)


@pytest.mark.parametrize(("has_metal", "reads"), [(True, 3 << 30), (False, 0)])
def test_weights_are_weighed_on_metal_alone(monkeypatch, has_metal, reads):
    record = msgspec.structs.replace(record_of([]), weights_bytes=3 << 30)
    load = Load(
        record=record, kv_dir="", kv_budget_bytes=5, cache_limit_bytes=0, memory_limit_bytes=0
    )
    monkeypatch.setattr(loading.mx.metal, "is_available", lambda: has_metal)
    budget = SeatedModel(record, load, None, None).kv_budget()
    assert (budget.limit_bytes, budget._lane_reads_bytes) == (5, reads)


@settings(max_examples=60)
@given(st.integers(4, 12), st.lists(st.integers(1, 9), min_size=1, max_size=25))
def test_ring_survives_extract_merge_capture_and_rebuild(window, steps):
    """K of a token is its position, so every order can be read off."""
    layer = LayerSpec(kind="window", kv_heads=1, k_dim=1, v_dim=1, window=window)
    batch = RingKVCache.merge([RingKVCache(window)])
    position = 0
    for step in steps:
        numbers = mx.arange(position, position + step, dtype=mx.float32).reshape(1, 1, step, 1)
        batch.update_and_fetch(numbers, -numbers)
        position += step
        newest = list(range(max(0, position - window), position))
        view = RowView([batch], 0, position)
        (part,) = capture_parts(view, [layer], 0, position, "float32").read()
        assert np.frombuffer(part.keys, np.float32).tolist() == newest
        row = batch.extract(0)
        view = RowView([row], 0, position)
        (again,) = capture_parts(view, [layer], 0, position, "float32").read()
        assert bytes(again.keys) == bytes(part.keys)
        assert bytes(again.values) == bytes(part.values)
        stored = mx.array(newest, dtype=mx.float32).reshape(1, 1, len(newest), 1)
        start = ring_starts([row], position)[window]
        assert start == ring_starts([batch], position)[window]
        rebuilt = RingKVCache.restored(window, position, stored, -stored, start)
        assert rebuilt.keys.tolist() == row.keys.tolist()
        merged = RingKVCache.merge([rebuilt])
        one = mx.full((1, 1, 1, 1), float(position))
        kept, _ = copy_of(batch).update_and_fetch(one, one)
        back, _ = merged.update_and_fetch(one, one)
        assert back.tolist() == kept.tolist()


def copy_of(batch: BatchRingKVCache) -> BatchRingKVCache:
    copy = BatchRingKVCache(batch.max_size, [0])
    copy.state = batch.state
    copy._lengths = None
    return copy


@given(st.integers(0, 2**53), st.integers(0, 10**6))
def test_draw_keys_differ_between_neighbours(seed, position):
    keys = {draw_key(seed, position), draw_key(seed + 1, position), draw_key(seed, position + 1)}
    assert len(keys) == 3
    assert all(0 <= key < 2**64 for key in keys)


def test_sampler_rebuilt_at_a_position_draws_what_the_first_one_drew():
    logprobs = mx.log(mx.ones((1, 50)) / 50)
    sampling = Sampling(temperature=0.8)
    whole = KeyedSampler(sampling, 3)
    drawn = [whole(logprobs).item() for _ in range(12)]
    rest = KeyedSampler(sampling, 3, position=5)
    assert [rest(logprobs).item() for _ in range(7)] == drawn[5:]
    assert len(set(drawn)) > 3
