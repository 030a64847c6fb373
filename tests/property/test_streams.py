"""Output on its way to a reader: nothing lost, nothing twice, credit kept, at any interleaving."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.protocol.codec import pack_body, unpack_body
from hotseat.protocol.credit import chunk_cost
from hotseat.protocol.limits import MAX_ITEMS, SLOW_CONSUMER_BYTES
from hotseat.protocol.replies import Chunk, TokenLogprob
from hotseat.supervisor.requests.rules.streams import Emission, OutStream

PIECES = st.lists(st.tuples(st.integers(0, 4), st.text("abé€", max_size=6)), max_size=30)
GRANT = st.tuples(st.just("grant"), st.integers(1, 400))
OPS = st.lists(st.one_of(st.just(("push", 0)), st.just(("take", 0)), GRANT), max_size=120)
PLENTY = 1_000_000


def emissions_of(pieces):
    emissions, offset, length = [], 0, 0
    for count, text in pieces:
        tokens = tuple(range(offset, offset + count))
        emissions.append(Emission(offset=offset, text_offset=length, tokens=tokens, text=text))
        offset += count
        length += len(text)
    return emissions


def joined(texts, offset=0):
    """Tokens that came from the engine in one report."""
    return Emission(
        offset=offset,
        text_offset=0,
        tokens=tuple(range(offset, offset + len(texts))),
        text="".join(texts),
        text_lengths=tuple(len(text) for text in texts),
    )


def joined_chunk(text):
    """A chunk of one token with this text."""
    stream = OutStream(PLENTY)
    stream.push(joined([text]))
    return stream.take(0.0)


def drain(stream):
    chunks = []
    stream.grant(PLENTY)
    while (chunk := stream.take(0.0)) is not None:
        stream.grant(PLENTY)
        chunks.append(chunk)
    return chunks


def text_of(chunks):
    return "".join(part.text for chunk in chunks for part in chunk.parts)


def assert_gapless(chunks, start):
    for number, chunk in enumerate(chunks):
        assert (chunk.seq, chunk.offset_tokens) == (number, start)
        start += len(chunk.tokens)


@given(pieces=PIECES, ops=OPS, credit=st.integers(1, 300))
def test_any_interleaving_delivers_all_output_once_and_overdraws_by_one_chunk(pieces, ops, credit):
    emissions = emissions_of(pieces)
    waiting = list(emissions)
    stream = OutStream(credit)
    chunks = []
    for op, size in ops:
        if op == "push" and waiting:
            stream.push(waiting.pop(0))
        elif op == "grant":
            stream.grant(size)
            credit += size
        elif op == "take":
            chunk = stream.take(0.0)
            if chunk is None:
                continue
            assert credit > 0, "a chunk left without credit"
            credit -= chunk_cost(chunk)
            chunks.append(chunk)
        assert stream.credit_bytes == credit
    for emission in waiting:
        stream.push(emission)
    chunks += drain(stream)
    assert stream.is_empty
    assert [t for c in chunks for t in c.tokens] == [t for e in emissions for t in e.tokens]
    assert text_of(chunks) == "".join(e.text for e in emissions)
    assert_gapless(chunks, 0)


@given(pieces=PIECES, data=st.data())
def test_attach_at_any_offset_delivers_exactly_what_is_behind_it(pieces, data):
    emissions = emissions_of(pieces)
    total = sum(len(e.tokens) for e in emissions)
    offset = data.draw(st.integers(0, total))
    pushed_before = data.draw(st.integers(0, len(emissions)))
    stream = OutStream(1, offset)
    for emission in emissions[:pushed_before]:
        stream.push(emission)
    for emission in emissions[pushed_before:]:
        stream.push(emission)
    chunks = drain(stream)
    assert [t for c in chunks for t in c.tokens] == list(range(offset, total))
    # Text belongs to the last token it came with; alone it belongs behind the token before it.
    behind = [
        e.text
        for e in emissions
        if e.offset + len(e.tokens) > offset or (not e.tokens and e.offset == offset)
    ]
    assert text_of(chunks) == "".join(behind)
    assert_gapless(chunks, offset)


@given(texts=st.lists(st.text("abé€", max_size=6), max_size=30), data=st.data())
def test_attach_within_joined_tokens_delivers_the_text_of_those_behind_it(texts, data):
    offset = data.draw(st.integers(0, len(texts)))
    stream = OutStream(1, offset)
    stream.push(joined(texts))
    chunks = drain(stream)
    assert [t for c in chunks for t in c.tokens] == list(range(offset, len(texts)))
    assert text_of(chunks) == "".join(texts[offset:])


@given(texts=st.lists(st.text("abé€", max_size=6), min_size=1, max_size=30), data=st.data())
def test_joined_tokens_overdraw_credit_by_one_token_at_most(texts, data):
    credit = data.draw(st.integers(1, 200))
    stream = OutStream(credit)
    stream.push(joined(texts))
    chunks = []
    while not stream.is_empty:
        chunk = stream.take(0.0)
        if chunk is None:
            stream.grant(data.draw(st.integers(1, 200)))
            continue
        chunks.append(chunk)
        last = texts[chunk.offset_tokens + len(chunk.tokens) - 1]
        assert stream.credit_bytes > -chunk_cost(joined_chunk(last))
    assert [t for c in chunks for t in c.tokens] == list(range(len(texts)))
    assert text_of(chunks) == "".join(texts)
    assert_gapless(chunks, 0)


@given(pieces=PIECES, died_after=st.integers(0, 30))
def test_output_repeated_after_a_worker_death_is_delivered_once(pieces, died_after):
    emissions = emissions_of(pieces)
    stream = OutStream(1)
    for emission in [*emissions[:died_after], *emissions]:
        stream.push(emission)
    chunks = drain(stream)
    assert [t for c in chunks for t in c.tokens] == [t for e in emissions for t in e.tokens]
    assert text_of(chunks) == "".join(e.text for e in emissions)
    assert_gapless(chunks, 0)


@pytest.mark.parametrize("top", [0, 20])
def test_long_merged_output_stays_within_the_limits_of_a_message(top):
    stream = OutStream(1_000_000_000)
    logprobs = (TokenLogprob(token=1, logprob=-1.0, top=((1, -1.0),) * top),)
    for number in range(20_000):
        stream.push(
            Emission(offset=number, text_offset=number, tokens=(7,), text="x", logprobs=logprobs)
        )
    chunks = drain(stream)
    assert sum(len(chunk.tokens) for chunk in chunks) == 20_000
    for chunk in chunks:
        assert len(unpack_body(pack_body(chunk), Chunk).tokens) < MAX_ITEMS


def test_reader_without_credit_is_slow_only_with_a_mebibyte_waiting_for_too_long():
    stream = OutStream(1)
    small = Emission(offset=0, text_offset=0, tokens=(1,), text="x")
    stream.push(small)
    assert stream.take(0.0) is not None
    stream.push(Emission(offset=1, text_offset=1, tokens=(2,), text="y"))
    assert stream.take(0.0) is None
    assert not stream.is_slow(1_000.0, 30.0)
    large = Emission(offset=2, text_offset=2, tokens=(3,), text="x" * SLOW_CONSUMER_BYTES)
    stream.push(large)
    assert not stream.is_slow(29.0, 30.0)
    assert stream.is_slow(31.0, 30.0)
    stream.grant(5)
    assert not stream.is_slow(31.0, 30.0), "whoever grants reads"
