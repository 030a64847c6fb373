"""Bad input on the wire: a typed error each, and a good client never notices.

One daemon for the whole module; after every test the good client's request is served.
"""

import os
import time

import msgpack
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotseat.protocol.errors import ERRORS
from hotseat.protocol.limits import MAX_FRAME_BYTES, MIB
from hotseat.protocol.messages import CLIENT_KINDS, Attach, Cancel, Generate
from hotseat.protocol.replies import ErrorBody, Reply, Welcome
from raw_peer import RawPeer
from stub_home import error_of, serves, stub_daemon

MEMORY_GROWTH = 32 * MIB


@pytest.fixture(scope="module")
def daemon():
    with stub_daemon("ab") as running:
        client = running.client(name="good")
        client.swap("a")
        before = psutil.Process(running.process.pid).memory_info().rss
        running.good = client
        yield running
        assert "Traceback" not in running.stderr()
        assert psutil.Process(running.process.pid).memory_info().rss - before < MEMORY_GROWTH


@pytest.fixture
def peer(daemon):
    epoch = daemon.good.status().epoch
    with RawPeer(daemon.endpoint().requests) as raw:
        yield raw
    assert serves(daemon.good, "a"), "a good client's next request is served"
    assert daemon.good.status().epoch == epoch, "bad input changed the seat"
    assert daemon.process.poll() is None


def body(value):
    return msgpack.packb(value)


def nested(depth):
    return b"\x91" * depth + b"\xc0"


STATUS = (b"1", b"status", b"r")
FRAMES = {
    "one empty frame": ((b"",), "bad_frame"),
    "two frames": ((b"1", b"status"), "bad_frame"),
    "three frames": ((b"1", b"status", b"r"), "bad_frame"),
    "five frames": ((*STATUS, body({}), b""), "bad_frame"),
    "nine frames": ((b"1",) * 9, "bad_frame"),
    "version is text": ((b"one", b"status", b"r", body({})), "bad_frame"),
    "version is huge": ((b"9" * 400, b"status", b"r", body({})), "bad_frame"),
    "version is of tomorrow": ((b"2", b"status", b"r", body({})), "version_mismatch"),
    "version is zero": ((b"0", b"status", b"r", body({})), "version_mismatch"),
    "version in other digits": (("²".encode(), b"status", b"r", body({})), "bad_frame"),
    "unknown kind": ((b"1", b"frobnicate", b"r", body({})), "unknown_kind"),
    "kind of the daemon": ((b"1", b"done", b"r", body({})), "unknown_kind"),
    "kind is no text": ((b"1", b"\xff\xfe", b"r", body({})), "bad_frame"),
    "kind is a megabyte": ((b"1", b"k" * MIB, b"r", body({})), "unknown_kind"),
    "id is empty": ((b"1", b"status", b"", body({})), "bad_frame"),
    "id is a path": ((b"1", b"status", b"../r", body({})), "bad_frame"),
    "id is long": ((b"1", b"status", b"r" * 65, body({})), "bad_frame"),
    "id has a newline": ((b"1", b"status", b"r\n", body({})), "bad_frame"),
    "empty body": ((*STATUS, b""), "bad_frame"),
    "garbage body": ((*STATUS, os.urandom(64) + b"\xc1"), "bad_frame"),
    "cut body": ((*STATUS, body({"a": "bcdef"})[:-2]), "bad_frame"),
    "body with a rest": ((*STATUS, body({}) + b"\x00"), "bad_frame"),
    "body is a list": ((*STATUS, body([1])), "bad_frame"),
    "body is nil": ((*STATUS, body(None)), "bad_frame"),
    "key is a number": ((*STATUS, body({1: 2})), "bad_frame"),
    "key is binary": ((*STATUS, body({b"a": 2})), "bad_frame"),
    "ext type": ((*STATUS, body({"a": msgpack.ExtType(5, b"x")})), "bad_frame"),
    "timestamp": ((*STATUS, body({"a": msgpack.Timestamp(1)})), "bad_frame"),
    "binary value": ((*STATUS, body({"a": b"x"})), "bad_frame"),
    "text is not UTF-8": ((*STATUS, b"\x81\xa1a\xa1\xff"), "bad_frame"),
    "integer beyond JavaScript": ((*STATUS, body({"a": 2**53})), "bad_frame"),
    "negative integer beyond": ((*STATUS, body({"a": -(2**53)})), "bad_frame"),
    "not a number": ((*STATUS, body({"a": float("nan")})), "bad_frame"),
    "infinity": ((*STATUS, body({"a": float("inf")})), "bad_frame"),
    "40 levels": ((*STATUS, body({"a": 1})[:2] + b"a" + nested(40)), "bad_frame"),
    "100,000 levels": ((*STATUS, b"\x81\xa1a" + nested(100_000)), "bad_frame"),
    "70,000 items": ((*STATUS, body({"a": [0] * 70_000})), "bad_frame"),
    "70,000 items in pieces": ((*STATUS, body({"a": [[0] * 700] * 100})), "bad_frame"),
    "array that says it is huge": ((*STATUS, b"\x81\xa1a\xdd\xff\xff\xff\xff"), "bad_frame"),
    "text that says it is huge": ((*STATUS, b"\x81\xa1a\xdb\xff\xff\xff\xff"), "bad_frame"),
    "8 frames of 8 MiB": ((b"\x00" * MAX_FRAME_BYTES,) * 8, "bad_frame"),
    "16 MiB in three frames": ((b"1", b"k" * MAX_FRAME_BYTES, b"x" * MAX_FRAME_BYTES, b""),
                               "bad_frame"),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_frames_that_are_no_message_get_a_typed_error(peer, name):
    frames, code = FRAMES[name]
    peer.send(*frames)
    _, answer = peer.receive()
    assert isinstance(answer, ErrorBody)
    assert answer.code == code
    assert answer.message


def test_single_frame_of_64_mib_costs_only_its_own_connection(daemon, peer):
    with RawPeer(daemon.endpoint().requests) as greedy:
        greedy.send(b"\x00" * (64 * MIB))
        assert greedy.silence(0.3), "nothing to answer: the connection was cut while it came"
    peer.pack("status", {})
    assert isinstance(peer.answer("r"), Reply)


OK = {"model": "a", "prompt": "x"}
BODIES = {
    "model is missing": ("generate", {"prompt": "x"}, "invalid_request", "model"),
    "model is a number": ("generate", OK | {"model": 5}, "invalid_request", "model"),
    "model is empty": ("generate", OK | {"model": ""}, "invalid_request", "model"),
    "model is unknown": ("generate", OK | {"model": "aa"}, "unknown_model", "aa"),
    "model is a path": ("generate", OK | {"model": "../a"}, "unknown_model", "../a"),
    "no input": ("generate", {"model": "a"}, "invalid_request", "prompt"),
    "two inputs": ("generate", OK | {"tokens": [1]}, "invalid_request", "tokens"),
    "prompt is empty": ("generate", OK | {"prompt": ""}, "invalid_request", "prompt"),
    "prompt is a list": ("generate", OK | {"prompt": ["x"]}, "invalid_request", "prompt"),
    "tokens are negative": ("generate", {"model": "a", "tokens": [-1]}, "invalid_request",
                            "tokens"),
    "tokens are true": ("generate", {"model": "a", "tokens": [True]}, "invalid_request", "tokens"),
    "max_tokens 0": ("generate", OK | {"max_tokens": 0}, "invalid_request", "max_tokens"),
    "max_tokens is text": ("generate", OK | {"max_tokens": "9"}, "invalid_request", "max_tokens"),
    "temperature below 0": ("generate", OK | {"sampling": {"temperature": -1.0}},
                            "invalid_request", "sampling.temperature"),
    "session is a path": ("generate", OK | {"session": "../x"}, "invalid_request", "session"),
    "session is empty": ("generate", OK | {"session": ""}, "invalid_request", "session"),
    "role is unknown": ("generate", {"model": "a", "messages": [{"role": "boss"}]},
                        "invalid_request", "messages[0].role"),
    "content is a number": (
        "generate",
        {"model": "a", "messages": [{"role": "user", "content": "x"},
                                    {"role": "user", "content": 5}]},
        "invalid_request", "messages[1].content"),
    "image": ("generate", {"model": "a", "messages": [
        {"role": "user", "content": [{"type": "image_url"}]}]}, "unsupported_content", "image_url"),
    "tools": ("generate", OK | {"tools": [{}]}, "invalid_request", "tools[0]"),
    "tools on text": ("generate", OK | {"tools": []}, "unsupported_feature", "tools"),
    "17 stop strings": ("generate", OK | {"stop": ["x"] * 17}, "invalid_request", "stop"),
    "empty stop string": ("generate", OK | {"stop": [""]}, "invalid_request", "stop"),
    "append without a session": ("generate", {"model": "a", "append": "x"}, "invalid_request",
                                 "session"),
    "seated by nobody's name": ("generate", OK | {"model": "seat"}, "unknown_model", "seat"),
    "never swaps": ("generate", OK | {"model": "b", "swap": "never"}, "not_seated", "never"),
    "swap is unknown": ("generate", OK | {"swap": "now"}, "invalid_request", "swap"),
    "swap to nobody": ("swap", {"model": "nobody"}, "unknown_model", "nobody"),
    "attach to nothing": ("attach", {"request_id": "none"}, "request_unknown", "none"),
    "attach below 0": ("attach", {"request_id": "x", "offset_tokens": -1}, "invalid_request",
                       "offset_tokens"),
    "cancel of nothing": ("cancel", {"request_id": "none"}, "request_unknown", "none"),
    "cancel without an id": ("cancel", {}, "invalid_request", "request_id"),
    "plan of nobody": ("plan", {"model": "nobody"}, "unknown_model", "nobody"),
    "session of nobody": ("sessions", {"session": "x"}, "invalid_request", "model"),
    "session missing": ("sessions", {"model": "a", "session": "../x"}, "session_missing", "../x"),
    "delete of nothing": ("session_delete", {"model": "a", "session": "../../x"},
                          "session_missing", "../../x"),
    "hello of yesterday": ("hello", {"protocol": 0}, "version_mismatch", "0"),
    "hello with a short token": ("hello", {"protocol": 1, "token": "ab"}, "invalid_request",
                                 "token"),
    "hello with a token and a newline": ("hello", {"protocol": 1, "token": "a" * 32 + "\n"},
                                         "invalid_request", "token"),
    "events since yesterday": ("events", {"since": -1}, "invalid_request", "since"),
    "credit of nothing": ("credit", {"grant_bytes": 0}, "invalid_request", "grant_bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_fields_that_cannot_be_honoured_are_named_in_a_typed_error(peer, name):
    kind, fields, code, named = BODIES[name]
    peer.pack(kind, fields, "bad")
    answer = peer.answer("bad")
    assert isinstance(answer, ErrorBody), answer
    assert answer.code == code
    assert named in answer.message


def test_prompt_too_long_is_refused_with_the_numbers(peer):
    peer.say(Generate(model="a", prompt="x" * 140_000), "long")
    *_, error = peer.until_end("long")
    assert error.code == "context_overflow"
    assert error.facts["prompt_tokens"] == 140_000
    assert error.facts["context_tokens"] == 131_072


@pytest.mark.parametrize("kind", [kind for kind in CLIENT_KINDS if kind not in ("hello", "ping")])
def test_nothing_is_done_before_hello(daemon, peer, kind):
    with RawPeer(daemon.endpoint().requests, hello=False) as stranger:
        fields = {
            "generate": OK,
            "swap": {"model": "b"},
            "attach": {"request_id": "x"},
            "cancel": {"request_id": "x"},
            "credit": {"grant_bytes": 1},
            "plan": {"model": "a"},
            "session_delete": {"model": "a", "session": "s"},
            "quote": {"models": ["a"]},
        }
        stranger.pack(kind, fields.get(kind, {}), "early")
        answer = stranger.answer("early")
        assert isinstance(answer, ErrorBody)
        assert "hello" in answer.message


def test_ping_before_hello_gets_no_answer(daemon, peer):
    with RawPeer(daemon.endpoint().requests, hello=False) as stranger:
        stranger.ping()
        assert stranger.silence(0.1)
        assert isinstance(stranger.greet(), Welcome)


def test_requests_of_another_token_can_neither_be_read_nor_ended(daemon, peer):
    with RawPeer(daemon.endpoint().requests) as owner:
        owner.say(Generate(model="a", prompt="secret", max_tokens=4, on_vanish="finish"), "mine")
        *_, done = owner.until_end("mine")
        for request in (Attach(request_id="mine"), Cancel(request_id="mine")):
            peer.say(request, "theft")
            assert peer.answer("theft").code == "request_unknown"
        # A token glued to the id is not a way in either.
        peer.say(Attach(request_id=f"{owner.token}:mine"), "theft")
        assert peer.answer("theft").code == "request_unknown"
        peer.say(Generate(model="a", prompt="other", max_tokens=2), "mine")
        *_, other = peer.until_end("mine")
        assert other.text != done.text


def test_same_token_on_another_connection_is_the_same_client(daemon, peer):
    with RawPeer(daemon.endpoint().requests) as owner:
        owner.say(Generate(model="a", prompt="x", max_tokens=3), "kept")
        *_, done = owner.until_end("kept")
        with RawPeer(daemon.endpoint().requests, token=owner.token) as again:
            again.say(Attach(request_id="kept"), "look")
            assert again.until_end("look")[-1] == done


def test_model_name_that_is_close_is_suggested(daemon):
    error = error_of(daemon.good.generate("A", prompt="x").result)
    assert error.code == "unknown_model"


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)
FIELDS = sorted({name for kind in CLIENT_KINDS.values() for name in kind.__struct_fields__})
GUESSED = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5)
HARMLESS = sorted(set(CLIENT_KINDS) - {"shutdown", "ping"})


def harmless(kind, fields):
    """Real work and real swaps are not what is tested here."""
    if kind == "release":  # an empty body is a good one
        return isinstance(fields.get("for_s"), str | list | dict)
    return not (kind in ("swap", "generate") and fields.get("model") in ("a", "b"))


@settings(
    max_examples=250, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(kind=st.sampled_from(HARMLESS), fields=GUESSED | JSON)
def test_any_body_of_any_kind_gets_an_answer_of_the_table(peer, kind, fields):
    if isinstance(fields, dict) and not harmless(kind, fields):
        return
    peer.pack(kind, fields, "fuzz")
    if kind not in ("credit", "events"):  # good ones are silent
        answer = peer.answer("fuzz")
        code = answer.code if isinstance(answer, ErrorBody) else None
        assert code is None or (code in ERRORS and code != "internal"), answer
    peer.say(Cancel(request_id="fuzz"), "clean")  # a subscription, if it became one
    drain(peer)


def drain(peer):
    peer.pack("status", {}, "drained")
    while True:
        got = peer.receive()
        assert got is not None
        if got[0] == "drained":
            return


@settings(
    max_examples=150, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(data=st.binary(max_size=200), kind=st.sampled_from(HARMLESS))
def test_any_bytes_as_a_body_get_an_answer_of_the_table(peer, data, kind):
    peer.send(b"1", kind.encode(), b"fuzz", data)
    drain(peer)


@pytest.mark.alone
def test_flood_of_bad_frames_leaves_a_good_client_its_pace(daemon, peer):
    def pace():
        began = time.monotonic()
        daemon.good.status()
        return time.monotonic() - began

    calm = sorted(pace() for _ in range(50))
    for _ in range(2_000):
        peer.send(b"1", b"status", b"r", b"\xc1")
    loud = sorted(pace() for _ in range(50))
    assert loud[25] < max(2 * calm[25], 0.05)
