"""Stored replies: the same end again, and output from any offset."""

import pytest
from msgspec.structs import replace

from hotseat.protocol.codec import decode_daemon, encode_daemon, open_envelope
from hotseat.protocol.ids import RequestId
from hotseat.protocol.limits import MAX_ITEMS
from hotseat.protocol.replies import Done, ErrorBody, Timing, Usage
from hotseat.supervisor.requests.rules.streams import Emission, OutStream
from hotseat.supervisor.requests.stored_reply import (
    StoredReply,
    decode_reply,
    encode_reply,
    reply_of,
)

PIECES = (((1,), "a"), ((2, 3), "bc"), ((4,), ""), ((5,), "de"), ((), "!"))


def emissions(told=()):
    """`told`: characters of the text that two tokens brought together, by token."""
    made, offset, length = [], 0, 0
    for tokens, text in PIECES:
        lengths = told if len(tokens) == 2 else ()
        made.append(
            Emission(
                offset=offset, text_offset=length, tokens=tokens, text=text, text_lengths=lengths
            )
        )
        offset += len(tokens)
        length += len(text)
    return made


def done():
    return Done(
        model="m",
        text="".join(text for _, text in PIECES),
        tokens=tuple(token for tokens, _ in PIECES for token in tokens),
        finish_reason="stop",
        usage=Usage(completion_tokens=5),
        timing=Timing(total_s=1.5),
        session="s",
        turn=3,
        seed=7,
    )


def test_stored_reply_is_the_same_after_the_catalogue():
    kept = decode_reply(encode_reply(reply_of(done(), emissions())))
    assert kept.end == done()


@pytest.mark.parametrize("told", [(), (1, 1), (0, 2)])
@pytest.mark.parametrize("offset", range(6))
def test_finished_request_gives_from_any_offset_what_a_running_one_gives(offset, told):
    chunks = reply_of(done(), emissions(told)).chunks_from(offset)
    stream = OutStream(10_000, offset)
    for emission in emissions(told):
        stream.push(emission)
    assert chunks[:1] == [chunk for chunk in [stream.take(0.0)] if chunk]


def test_offset_behind_the_end_gives_no_output_beyond_the_rest_of_the_text():
    assert reply_of(done(), emissions()).chunks_from(99) == []


def test_stored_error_ends_the_stream_without_output():
    error = ErrorBody(code="worker_lost", message="gone", facts={"epoch": 2})
    kept = decode_reply(encode_reply(StoredReply(error=error)))
    assert kept.end == error
    assert kept.chunks_from(0) == []


def test_done_longer_than_the_limit_of_items_reaches_the_client_whole():
    long = replace(done(), tokens=tuple(range(MAX_ITEMS + 5)))
    frames = encode_daemon(long, RequestId("r"))
    assert decode_daemon(open_envelope(frames)) == long


def test_stored_output_longer_than_the_limit_of_items_comes_in_chunks():
    tokens = tuple(range(MAX_ITEMS + 5))
    emitted = [Emission(offset=at, text_offset=at, tokens=(at,), text="x") for at in tokens]
    kept = reply_of(replace(done(), tokens=tokens, text="x" * len(tokens)), emitted)
    chunks = kept.chunks_from(3)
    for chunk in chunks:
        assert decode_daemon(open_envelope(encode_daemon(chunk, RequestId("r")))) == chunk
    assert tuple(token for chunk in chunks for token in chunk.tokens) == tokens[3:]
    assert sum(len(part.text) for chunk in chunks for part in chunk.parts) == len(tokens) - 3
