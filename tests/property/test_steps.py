"""In which shapes tokens are fed, the first time and again, and how many at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.protocol.chunks import chunk_at, most_scores
from hotseat.worker.context.steps import (
    StepLog,
    common_prefix,
    cut_steps,
    decode_hint,
    encode_hint,
    plan_segments,
)

STEPS = st.lists(st.integers(1, 256), max_size=40)


def log_of(steps: list[int]) -> tuple[StepLog, list[int]]:
    """A log after these steps, cut at boundaries as the engine does; and the ends of the steps."""
    log = StepLog(0)
    ends = []
    for step in steps:
        size = min(step, 256 - log.position % 256)
        log.advance(size)
        ends.append(log.position)
    return log, ends


CHUNKS = st.integers(1, 12).map(lambda blocks: 256 * blocks) | st.sampled_from([32, 128])


@given(STEPS, st.integers(1, 4000), CHUNKS, st.data())
def test_segments_cover_the_rest_and_those_of_many_blocks_end_on_one(steps, more, chunk, data):
    log, ends = log_of(steps)
    total = log.position + more
    start = data.draw(st.integers(0, total - 1))
    segments = plan_segments(start, total, log.hint({}), log.position, chunk)
    assert sum(segments) == total - start
    assert segments[-1] == 1
    assert all(length > 0 for length in segments)
    position = start
    reached = set()
    for length in segments:
        begin, position = position, position + length
        assert length <= max(chunk, 256)
        crosses = begin // 256 != (position - 1) // 256
        assert not crosses or begin % 256 == position % 256 == 0
        reached.add(position)
    assert {end for end in ends if max(start, log.boundary) < end < total} <= reached


@given(STEPS, st.integers(1, 900), CHUNKS)
def test_tokens_behind_the_boundary_are_fed_in_the_first_shapes(steps, more, chunk):
    log, ends = log_of(steps)
    total = log.position + more
    segments = plan_segments(log.boundary, total, log.hint({}), log.position, chunk)
    first = [b - a for a, b in zip([0, *ends], ends, strict=False) if a >= log.boundary]
    assert segments[: len(first)] == first


@given(
    st.integers(0, 60_000),
    st.integers(2, 9000),
    CHUNKS,
    st.lists(st.integers(0, 9000), max_size=3),
    st.booleans(),
    st.data(),
)
def test_feeding_that_goes_on_at_the_end_of_a_segment_has_the_same_segments(
    start, more, chunk, snapshots, stores_scores, data
):
    total = start + more
    wanted = [start + one for one in snapshots]

    def planned(begin, fed_first):
        return plan_segments(
            begin, total, None, 0, chunk, fed_first, wanted, stores_scores=stores_scores
        )

    segments = planned(start, start)
    fed = data.draw(st.integers(0, len(segments) - 1))
    begin = start + sum(segments[:fed])
    assert planned(begin, start) == segments[fed:]
    assert planned(begin, 0) == segments[fed:]
    assert planned(start, begin)[fed:] == segments[fed:]


@given(st.integers(0, 300_000), st.integers(2, 20_000), CHUNKS)
def test_no_chunk_has_more_scores_than_are_planned_with(start, more, chunk):
    total = start + more
    most = most_scores(chunk, total)
    position = start
    for length in plan_segments(start, total, None, 0, chunk, stores_scores=True):
        begin, position = position, position + length
        # Of a chunk below a block the lane feeds parts.
        assert min(length, chunk) * position <= most
        crosses = begin // 256 != (position - 1) // 256
        assert not crosses or begin % 256 == position % 256 == 0


@given(st.integers(0, 2_000_000), CHUNKS)
def test_chunk_is_a_multiple_or_a_divisor_of_a_block_and_none_too_short(position, chunk):
    size = chunk_at(chunk, position, stores_scores=True)
    assert size % 256 == 0 or 256 % size == 0
    assert min(chunk, 16) <= size <= chunk_at(chunk, position)


@pytest.mark.parametrize(
    ("start", "total", "chunk", "lengths"),
    [
        (0, 2000, 1024, [1024, 768, 207, 1]),
        (0, 2049, 1024, [1024, 1024, 1]),
        (0, 200, 1024, [199, 1]),
        (300, 2200, 1024, [212, 512, 1024, 151, 1]),
        (0, 700, 256, [256, 256, 187, 1]),
        (0, 700, 64, [256, 256, 187, 1]),
        (15_360, 18_000, 1024, [1024, 512, 512, 512, 79, 1]),
        (16_128, 17_000, 768, [256, 256, 256, 103, 1]),
        (48_640, 50_000, 1024, [512, 256, 256, 256, 79, 1]),
    ],
)
def test_chunks_end_on_multiples_of_what_holds_there(start, total, chunk, lengths):
    assert plan_segments(start, total, None, 0, chunk) == lengths


@pytest.mark.parametrize(
    ("start", "total", "chunk", "lengths"),
    [
        (7936, 8500, 256, [256, 128, 128, 51, 1]),
        (8300, 8500, 256, [20, 128, 51, 1]),
        (7168, 9300, 1024, [1024, 512, 512, 83, 1]),
        (16_128, 16_550, 256, [128, 128, 64, 64, 37, 1]),
        (16_128, 16_800, 768, [256, 128, 128, 128, 31, 1]),
        (65_536, 65_580, 256, [16, 16, 11, 1]),
        (262_144, 262_180, 256, [16, 16, 3, 1]),
        (9000, 9100, 32, [8, 16, 16, 16, 16, 16, 11, 1]),
    ],
)
def test_chunks_get_shorter_as_scores_grow_where_they_are_stored(start, total, chunk, lengths):
    assert plan_segments(start, total, None, 0, chunk, stores_scores=True) == lengths


@given(STEPS, st.integers(0, 255))
def test_hint_survives_the_wire_and_a_cut_keeps_the_front(steps, cut):
    log, _ = log_of(steps)
    log.mark_rings({64: 3})
    hint = log.hint({64: 5})
    assert decode_hint(encode_hint(hint)) == hint
    length = min(cut, log.position - log.boundary)
    kept = log.cut(log.boundary + length)
    assert kept.position == log.boundary + length
    assert cut_steps(hint.steps, length) == list(kept.hint({}).steps)


@given(st.binary(max_size=40))
def test_bytes_that_are_no_hint_are_none(data):
    hint = decode_hint(data)
    assert hint is None or encode_hint(hint)


@given(st.lists(st.integers(0, 2), max_size=60), st.lists(st.integers(0, 2), max_size=60))
def test_common_prefix_is_the_longest(left, right):
    shared = common_prefix(left, right)
    assert left[:shared] == right[:shared]
    assert left[shared : shared + 1] != right[shared : shared + 1] or shared == min(
        len(left), len(right)
    )
