"""Who comes in, by headers alone, and how deep a body may nest."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.gateway.callers import OWNER, Caller
from hotseat.gateway.door import DoorPolicy, Refusal, look_at, refuse_deep
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import MAX_DEPTH

BOB = Caller(name="bob")
POLICY = DoorPolicy(
    hosts=frozenset({"localhost", "mac.lan"}),
    origins=frozenset({"https://page.example"}),
    max_body_bytes=100,
)
KEYS = {"ours": OWNER, "his": BOB}


def looked(method="POST", path="/v1/chat/completions", **headers):
    given = {"host": "localhost:4687", "authorization": "Bearer ours"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    scope = {
        "method": method,
        "path": path,
        "headers": [(n.encode(), v.encode()) for n, v in given.items() if v is not None],
    }
    return look_at(POLICY, scope, KEYS.get)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, OWNER),
        ({"authorization": "Bearer his"}, BOB),
        ({"authorization": None, "x_api_key": "his"}, BOB),
        ({"host": "MAC.lan"}, OWNER),
        ({"origin": "https://page.example"}, OWNER),
        ({"content_length": "9", "content_type": "application/json; charset=utf-8"}, OWNER),
        ({"host": "evil.example"}, 421),
        ({"host": None}, 421),
        ({"origin": "null"}, 403),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": None}, 401),
        ({"authorization": "Basic ours"}, 401),
        ({"content_length": "101", "content_type": "application/json"}, 413),
        ({"content_length": "9", "content_type": "text/plain"}, 415),
        ({"transfer_encoding": "chunked"}, 415),
    ],
)
def test_headers_decide_who_comes_in(headers, found):
    result = looked(**headers)
    assert (result.status if isinstance(result, Refusal) else result) == found


def test_open_paths_ask_no_key_but_know_nobody():
    for path in ("/", "/health/live", "/health/ready"):
        assert looked("GET", path, authorization=None) == Caller()
    assert looked("GET", "/metrics", authorization=None).status == 401


def test_page_that_was_let_in_may_ask_before_it_brings_a_key():
    ask = {"authorization": None, "access_control_request_method": "POST"}
    assert isinstance(looked("OPTIONS", origin="https://page.example", **ask), Caller)
    assert looked("OPTIONS", origin="https://evil.example", **ask).status == 403
    assert looked("OPTIONS", **ask).status == 401


def depth(value):
    children = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, children), default=0) if isinstance(value, dict | list) else 0


VALUES = st.recursive(
    st.text() | st.text('"[]{}\\a', max_size=40) | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(VALUES, st.integers(0, 40), st.booleans())
def test_exactly_what_nests_too_deep_is_refused(value, levels, in_objects):
    for _ in range(levels):
        value = {"[{": value} if in_objects else [value]
    body = json.dumps(value).encode()
    if depth(value) <= MAX_DEPTH:
        refuse_deep(body)
    else:
        with pytest.raises(HotseatError, match="deeper than 32"):
            refuse_deep(body)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_json_pass_or_are_refused(body):
    with contextlib.suppress(HotseatError):
        refuse_deep(body)
