"""Caches of a batch: what the model is told of rows with and without padding."""

import mlx.core as mx
import pytest

from hotseat.worker.model.caches import FullKVCache


def batch_of(*lengths):
    rows = [
        FullKVCache.restored(length, mx.ones((1, 1, length, 4)), mx.ones((1, 1, length, 4)))
        for length in lengths
    ]
    return FullKVCache.merge(rows)


@pytest.mark.parametrize("lengths", [(5,), (5, 5)])
def test_rows_without_padding_need_no_mask_for_one_token(lengths):
    assert batch_of(*lengths).make_mask(1) is None


def test_padding_is_masked_until_its_row_is_gone():
    batch = batch_of(5, 3)
    batch.make_mask(1)
    padded = batch.make_mask(1)
    assert padded[:, 0, 0].tolist() == [[True] * 6, [False, False, True, True, True, True]]
    batch.filter([0])
    assert batch.make_mask(1) is None


def test_row_that_joins_a_lone_one_is_masked_from_then_on():
    batch = batch_of(5)
    assert batch.make_mask(1) is None
    batch.extend(batch_of(3))
    assert batch.make_mask(1) is not None
    assert batch.offset.tolist() == [5, 3]


def test_batch_of_one_row_goes_on_where_the_row_was():
    batch = batch_of(5)
    batch.update_and_fetch(mx.zeros((1, 1, 2, 4)), mx.zeros((1, 1, 2, 4)))
    assert (batch.offset.tolist(), batch.extract(0).offset) == ([7], 7)


def filled(length, size):
    """A row of `length` tokens, each its own number, in arrays of `size`."""
    numbers = mx.random.normal((1, 2, size, 4), key=mx.random.key(length))
    return FullKVCache.restored(length, numbers, -numbers)


@pytest.mark.parametrize("lengths", [(5, 3, 7), (4, 4), (3, 0, 5), (0, 0)])
def test_rows_that_form_a_batch_at_once_stand_as_if_each_had_joined(lengths):
    rows = [filled(length, 8) if length else FullKVCache() for length in lengths]
    at_once = FullKVCache.merge(rows)
    joined = FullKVCache.merge(rows[:1])
    for row in rows[1:]:
        joined.extend(FullKVCache.merge([row]))
    assert at_once.offset.tolist() == joined.offset.tolist() == list(lengths)
    assert at_once.left_padding.tolist() == joined.left_padding.tolist()
    for number, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        if length:
            alone = at_once.extract(number)
            assert mx.array_equal(alone.keys, row.keys[:, :, :length])
            assert mx.array_equal(alone.values, row.values[:, :, :length])


def test_batch_formed_at_once_keeps_the_room_its_rows_had():
    batch = FullKVCache.merge([filled(5, 8), filled(3, 8)])
    assert batch.keys.shape == (2, 2, 8, 4)
    batch.update_and_fetch(mx.zeros((2, 2, 1, 4)), mx.zeros((2, 2, 1, 4)))
    assert batch.keys.shape == (2, 2, 8, 4), "the next token would copy everything"


def test_batch_takes_over_no_room_that_nobody_counts():
    batch = FullKVCache.merge([filled(5, 2048), filled(3, 8)])
    assert batch.keys.shape == (2, 2, 256, 4)


def test_cache_that_is_cut_gives_up_what_is_beyond_its_block():
    row = filled(700, 768)
    kept = mx.array(row.keys[:, :, :300])
    row.cut(300)
    assert (row.offset, row.keys.shape[2], row.values.shape[2]) == (300, 512, 512)
    assert mx.array_equal(row.keys[:, :, :300], kept)
