"""Stored replies: the same end again, and output from any offset."""

import pytest

from hotseat.protocol.replies import Done, ErrorBody, Timing, Usage
from hotseat.supervisor.core.streams import Emission, OutStream
from hotseat.supervisor.kept import KeptReply, decode_kept, encode_kept, keep_done

PIECES = (((1,), "a"), ((2, 3), "bc"), ((4,), ""), ((5,), "de"), ((), "!"))


def emissions():
    made, offset, length = [], 0, 0
    for tokens, text in PIECES:
        made.append(Emission(offset=offset, text_offset=length, tokens=tokens, text=text))
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
    kept = decode_kept(encode_kept(keep_done(done(), emissions())))
    assert kept.end == done()


@pytest.mark.parametrize("offset", range(6))
def test_finished_request_gives_from_any_offset_what_a_running_one_gives(offset):
    chunks = keep_done(done(), emissions()).chunks_from(offset)
    stream = OutStream(10_000, offset)
    for emission in emissions():
        stream.push(emission)
    assert chunks[:1] == [chunk for chunk in [stream.take(0.0)] if chunk]


def test_offset_behind_the_end_gives_no_output_beyond_the_rest_of_the_text():
    assert keep_done(done(), emissions()).chunks_from(99) == []


def test_stored_error_ends_the_stream_without_output():
    error = ErrorBody(code="worker_lost", message="gone", facts={"epoch": 2})
    kept = decode_kept(encode_kept(KeptReply(error=error)))
    assert kept.end == error
    assert kept.chunks_from(0) == []
