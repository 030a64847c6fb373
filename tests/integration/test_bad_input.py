"""Bad input on the wire: a typed error each, and a good client never notices.

One daemon for the whole module; after every test the good client's request is served.
"""

import time

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.daemons.stub_home import error_of, serves, stub_daemon
from tests.support.peers.malformed import BODIES, FRAMES, OK
from tests.support.peers.raw_peer import RawPeer

from hotseat.protocol.codec import CLIENT_KINDS
from hotseat.protocol.errors import ERRORS
from hotseat.protocol.limits import MIB
from hotseat.protocol.messages import Attach, Cancel, Generate
from hotseat.protocol.replies import ErrorBody, Reply, Welcome

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
            "session_fork": {"model": "a", "session": "s", "to": "t"},
            "session_copy": {"model": "a", "session": "s", "to_model": "b", "to": "t"},
            "session_rewind": {"model": "a", "session": "s", "turn": 1},
            "session_replace": {"model": "a", "session": "s", "text": "x"},
            "session_pin": {"model": "a", "session": "s"},
            "count": {"model": "a", "prompt": "x"},
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
    error = error_of(daemon.good.generate("ab", prompt="x").result)
    assert error.code == "unknown_model"
    assert "did you mean" in error.message


def test_model_name_in_other_letters_and_with_an_owner_is_that_model(daemon):
    done = daemon.good.generate("some-owner/A", prompt="x").result()
    assert done.model == "a"


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
    max_examples=250,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
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
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
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
