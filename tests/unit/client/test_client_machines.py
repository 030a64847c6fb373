"""The client's pure parts: one stream, one subscription, one conversation with the daemon."""

import msgspec
import pytest

from hotseat.client.completion import Completion
from hotseat.client.dialogue import Dialogue
from hotseat.client.exchange import Call, Subscription, Window
from hotseat.client.requests import build_generate
from hotseat.protocol.codec import encode_daemon, open_envelope
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import ClientToken, RequestId
from hotseat.protocol.messages import Attach, ClientInfo, Events, Generate, Message, Status
from hotseat.protocol.replies import (
    Accepted,
    Chunk,
    ChunkPart,
    Done,
    ErrorBody,
    Event,
    Pong,
    Progress,
    Reply,
    Timing,
    Usage,
    Welcome,
    WireLimits,
)

HELLO, PING, R = RequestId("hello"), RequestId("ping"), RequestId("r")


def completion(start=None):
    opening = Generate(model="m", prompt="x")
    if start is not None:
        opening = Attach(request_id="r", offset_tokens=start)
    return Completion(R, opening, 1.0)


def chunk(offset, text, count=1, kind="text"):
    tokens = tuple(range(offset, offset + count))
    parts = (ChunkPart(type=kind, text=text),) if text else ()
    return Chunk(seq=0, offset_tokens=offset, tokens=tokens, parts=parts)


def done(text, count, reasoning=""):
    return Done(
        model="m",
        text=text,
        reasoning=reasoning,
        tokens=tuple(range(count)),
        finish_reason="stop",
        usage=Usage(),
        timing=Timing(),
    )


def items(stream):
    taken = []
    while (item := stream.take()[0]) is not None:
        taken.append(item)
    return taken


def text_of(stream):
    chunks = [item for item in items(stream) if isinstance(item, Chunk)]
    return "".join(part.text for item in chunks for part in item.parts)


def test_chunk_seen_before_is_dropped():
    stream = completion()
    for piece in (chunk(0, "a"), chunk(0, "a"), chunk(1, "b"), chunk(0, "a")):
        stream.receive(piece)
    assert text_of(stream) == "ab"


def test_gap_asks_once_for_what_is_missing():
    stream = completion()
    stream.receive(chunk(0, "a"))
    (attach,) = stream.receive(chunk(2, "c"))
    assert attach.offset_tokens == 1
    assert list(stream.receive(chunk(3, "d"))) == []
    for piece in (chunk(1, "b"), chunk(2, "c"), chunk(3, "d")):
        stream.receive(piece)
    assert text_of(stream) == "abcd"


def test_gap_that_stays_is_filled_by_done():
    stream = completion()
    stream.receive(chunk(0, "a"))
    stream.receive(chunk(2, "c"))
    stream.receive(done("abc", 3))
    assert text_of(stream) == "abc"
    assert stream.error is None


def test_gap_behind_an_unknown_start_is_an_error_not_silence():
    stream = completion(start=5)
    stream.receive(chunk(7, "c"))
    stream.receive(done("0123456c", 8))
    assert stream.error.code == "internal"


def test_overlapping_chunk_is_cut_where_an_earlier_one_began():
    stream = completion()
    for piece in (chunk(0, "a"), chunk(1, "b"), chunk(0, "abcd", count=4)):
        stream.receive(piece)
    assert text_of(stream) == "abcd"
    assert stream.offset_tokens == 4


def test_overlap_at_an_unknown_place_asks_again_from_the_start():
    stream = completion()
    stream.receive(chunk(0, "abc", count=3))
    (attach,) = stream.receive(chunk(1, "bcd", count=3))
    assert attach.offset_tokens == 0
    stream.receive(chunk(0, "abcd", count=4))
    assert text_of(stream) == "abcd"


def test_output_that_changed_is_an_error():
    stream = completion()
    stream.receive(chunk(0, "a"))
    stream.receive(chunk(0, "xyz", count=2))
    assert stream.error.code == "internal"


def test_result_that_differs_from_the_stream_is_an_error():
    stream = completion()
    stream.receive(chunk(0, "a"))
    stream.receive(done("b", 1))
    assert stream.error.code == "internal"


def test_last_text_without_tokens_is_not_doubled_by_a_reconnect():
    stream = completion()
    stream.receive(chunk(0, "a"))
    stream.receive(chunk(1, "end", count=0))
    stream.reopening()
    stream.receive(chunk(1, "end", count=0))
    stream.receive(done("aend", 1))
    assert text_of(stream) == "aend"


def test_last_text_without_tokens_that_was_missed_is_delivered():
    stream = completion()
    stream.receive(chunk(0, "a"))
    stream.reopening()
    stream.receive(chunk(1, "end", count=0))
    stream.receive(done("aend", 1))
    assert text_of(stream) == "aend"


def test_reasoning_is_apart_from_the_text():
    stream = completion()
    stream.receive(chunk(0, "thinking", kind="reasoning"))
    stream.receive(chunk(1, "a"))
    stream.receive(done("a", 2, reasoning="thinking"))
    assert stream.error is None
    assert len(items(stream)) == 2


def test_unread_progress_keeps_only_the_newest_of_a_phase():
    stream = completion()
    for percent in range(100):
        stream.receive(Progress(phase="loading", percent=float(percent)))
    stream.receive(Progress(phase="prefill"))
    assert [item.phase for item in items(stream)] == ["loading", "prefill"]


def test_second_accept_is_no_second_event():
    stream = completion()
    stream.receive(Accepted(position=1))
    stream.receive(Accepted(position=0, replayed=True))
    assert len(items(stream)) == 1
    assert stream.accepted.replayed


def test_unknown_request_is_asked_again_only_if_it_never_was_accepted():
    unknown = ErrorBody(code="request_unknown", message="?")
    fresh = completion()
    fresh.reopening()
    assert list(fresh.receive(unknown)) == [fresh.opening]
    accepted = completion()
    accepted.receive(Accepted(position=0))
    accepted.reopening()
    assert list(accepted.receive(unknown)) == []
    assert accepted.error.code == "request_unknown"
    attached = completion(start=0)
    assert list(attached.receive(unknown)) == []
    assert attached.error.code == "request_unknown"


def test_error_of_a_newer_daemon_keeps_its_name():
    stream = completion()
    stream.receive(ErrorBody(code="moon_phase", message="full"))
    assert stream.error.code == "internal"
    assert stream.error.facts == {"daemon_code": "moon_phase"}


def test_window_grants_when_half_is_consumed_and_only_then():
    window = Window(100)
    window.buffered(120)
    assert list(window.consumed(49)) == []
    (credit,) = window.consumed(1)
    assert credit.grant_bytes == 50
    assert window.restart() == 30


def test_window_never_restarts_with_nothing():
    window = Window(10)
    window.buffered(50)
    assert window.restart() == 1


def test_subscription_drops_what_it_saw():
    events = Subscription(R, Events(since=3, credit_bytes=1000), 1.0)
    for seq in (3, 4, 4, 5):
        events.receive(Event(seq=seq, at=0.0, name="a.b", facts={}))
    assert [item.seq for item in items(events)] == [4, 5]
    assert events.reopening().since == 5


def dialogue():
    return Dialogue(ClientToken("0" * 32), ClientInfo(name="t"), lambda: None)


def greet(talk, instance="one", **limits):
    talk.connected(0.0)
    welcome = Welcome(
        protocol=1, instance=instance, token="0" * 32, version="1", limits=WireLimits(**limits)
    )
    assert talk.received(encode_daemon(welcome, HELLO))


def kinds(talk):
    sent = [open_envelope(frames).kind for frames in talk.outgoing]
    talk.outgoing.clear()
    return sent


def test_nothing_but_hello_leaves_before_the_welcome():
    talk = dialogue()
    talk.start(Call(R, Status(), 1.0), 0.0)
    talk.connected(0.0)
    assert kinds(talk) == ["hello"]
    greet(talk)
    assert kinds(talk) == ["hello", "status"]


def test_what_was_under_way_goes_on_after_each_welcome():
    talk = dialogue()
    greet(talk)
    stream = completion()
    talk.start(stream, 0.0)
    assert kinds(talk)[-1] == "generate"
    talk.disconnected(1.0)
    greet(talk, "two")
    assert kinds(talk) == ["hello", "attach"]
    assert talk.instances == ["one", "two"]


def test_patience_counts_from_the_loss_and_from_the_start():
    talk = dialogue()
    greet(talk)
    early, late = Call(R, Status(), 2.0), Call(RequestId("s"), Status(), 2.0)
    talk.start(early, 0.0)
    talk.disconnected(10.0)
    talk.start(late, 11.5)
    talk.end_patience(12.0)
    assert not early.is_over
    talk.end_patience(12.1)
    assert early.error.code == "daemon_unreachable"
    assert not late.is_over
    talk.end_patience(13.6)
    assert late.is_over
    assert talk.open_exchanges == ()


def test_three_pings_without_an_answer_end_the_connection():
    talk = dialogue()
    greet(talk)
    assert [talk.tick(float(second)) for second in range(1, 5)] == [True, True, True, False]


def test_any_message_counts_as_an_answer():
    talk = dialogue()
    greet(talk)
    for second in range(1, 10):
        assert talk.tick(float(second))
        talk.received(encode_daemon(Pong(), PING))


def test_loop_that_was_blocked_does_not_take_the_daemon_for_dead():
    talk = dialogue()
    greet(talk)
    assert talk.tick(1.0)
    assert talk.tick(60.0)


def test_error_for_a_ping_means_that_hello_is_wanted():
    talk = dialogue()
    greet(talk)
    assert not talk.received(encode_daemon(ErrorBody(code="invalid_request", message="?"), PING))


def test_answer_for_nobody_is_dropped():
    talk = dialogue()
    greet(talk)
    assert talk.received(encode_daemon(Reply(result={}), RequestId("old")))


def test_daemon_of_another_protocol_is_named():
    talk = dialogue()
    talk.connected(0.0)
    frames = encode_daemon(Pong(), HELLO)
    assert not talk.received([b"9", *frames[1:]])
    assert talk.refusal.code == "version_mismatch"


def test_smaller_limit_of_the_daemon_is_kept():
    talk = dialogue()
    greet(talk, max_body_bytes=100)
    with pytest.raises(HotseatError, match="exceeds the limit of 100"):
        talk.start(Completion(R, Generate(model="m", prompt="x" * 200), 1.0), 0.0)
    assert talk.open_exchanges == ()


def test_options_become_a_typed_request():
    request = build_generate(
        "m",
        messages=[Message(role="user", content="a"), {"role": "user", "content": "b"}],
        top_p=0.5,
        stop=["x", "y"],
        seed=None,
    )
    assert [message.content for message in request.messages] == ["a", "b"]
    assert request.sampling.top_p == 0.5
    assert request.stop == ("x", "y")
    assert request.sampling.seed is None


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"messages": [{"role": "robot", "content": "x"}]}, "role"),
        ({"messages": [{"content": "x"}]}, "role"),
        ({"temperature": -1}, "temperature"),
        ({"prompt": 5}, "prompt"),
        ({"tokens": [-1]}, "tokens"),
    ],
)
def test_wrong_option_is_named(options, place):
    with pytest.raises(HotseatError, match=place) as caught:
        build_generate("m", **options)
    assert caught.value.code == "invalid_request"


def test_hints_reach_the_wire_under_their_names():
    request = build_generate(
        "m", prompt="x", priority=3, deadline_s=1.5, hold_s=0.0, yield_=True, next_model="n"
    )
    body = msgspec.to_builtins(request)
    assert body["yield"] is True
    assert (body["priority"], body["deadline_s"], body["hold_s"]) == (3, 1.5, 0.0)
    assert body["next_model"] == "n"
    assert "yield" not in msgspec.to_builtins(build_generate("m", prompt="x", yield_=None))
