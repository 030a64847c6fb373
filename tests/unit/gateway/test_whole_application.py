"""Door, pages of other origins, accounts and paths as they are put together; no daemon is there."""

import json

import msgspec
import pytest

from hotseat.gateway.callers import Caller
from hotseat.gateway.keys import add_key, owner_key
from hotseat.gateway.server import _application
from hotseat.gateway.settings import GatewaySettings
from hotseat.protocol.limits import MAX_MESSAGE_BYTES

PAGE = "https://page.example"
ASK = {"model": "gemma", "messages": [{"role": "user", "content": "Hello."}]}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("HOTSEAT_ENDPOINT", raising=False)
    return tmp_path


@pytest.fixture
def ask(home):
    app = _application(home, GatewaySettings(origins=(PAGE,), hosts=("Mac.lan",)))
    key = owner_key(home)

    async def asked(method, path, body=None, **headers):
        given = {"host": "mac.lan:4687", "x-api-key": key} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        data = b"" if body is None else json.dumps(body).encode()
        if body is not None:
            told = {"content-type": "application/json", "content-length": str(len(data))}
            given = told | given
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "server": ("127.0.0.1", 4687),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }
        sent = []

        async def receive():
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message):
            sent.append(message)

        await app(scope, receive, send)
        head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], head, b"".join(part.get("body", b"") for part in sent[1:])

    return asked


async def test_pages_that_were_let_in_read_answers(ask):
    status, head, _ = await ask("GET", "/openapi.json", origin=PAGE)
    assert (status, head["access-control-allow-origin"]) == (200, PAGE)
    wanted = {"access_control_request_method": "POST", "x_api_key": "none"}
    status, head, _ = await ask("OPTIONS", "/v1/chat/completions", origin=PAGE, **wanted)
    assert (status, head["access-control-allow-origin"]) == (200, PAGE)
    status, head, _ = await ask("GET", "/openapi.json", origin="https://evil.example")
    assert status == 403 and "access-control-allow-origin" not in head


async def test_without_a_daemon_everything_says_so_and_the_page_still_reads(ask):
    for method, path, body in (
        ("POST", "/v1/chat/completions", ASK),
        ("POST", "/v1/messages", ASK | {"max_tokens": 5}),
        ("GET", "/v1/models", None),
        ("POST", "/admin/models/swap", {"model": "gemma"}),
        ("GET", "/health/ready", None),
    ):
        status, head, _ = await ask(method, path, body)
        assert status == 503 and 1 <= int(head["retry-after"]) <= 60, path
        assert head["x-should-retry"] == "true"
    status, _, page = await ask("GET", "/metrics")
    assert status == 200 and b"hotseat_up 0.0" in page
    failed = b'dialect="messages",model="other",outcome="failed"} 1.0'
    assert failed in page


async def test_unknown_paths_and_methods_are_told_in_the_dialect(ask):
    status, _, body = await ask("GET", "/v1/messages/nothing")
    assert (status, msgspec.json.decode(body)["error"]["type"]) == (404, "not_found_error")
    status, head, body = await ask("DELETE", "/v1/chat/completions")
    assert (status, head["allow"]) == (405, "POST")
    assert msgspec.json.decode(body)["error"]["code"] == "method_not_allowed"
    for method, path, given, expected in (
        ("POST", "/api/nothing", "", 404),
        ("GET", "/api/chat", "", 405),
        ("GET", "/api/tags", "wrong", 401),
    ):
        status, _, body = await ask(method, path, **({"x_api_key": given} if given else {}))
        assert status == expected and isinstance(msgspec.json.decode(body)["error"], str), path
    status, head, body = await ask("OPTIONS", "/v1/models")
    assert (status, head["allow"], body) == (204, "GET, HEAD", b"")
    status, _, body = await ask("GET", "/")
    assert status == 200 and b"hotseat" in body
    assert (await ask("GET", "/", x_api_key="wrong"))[0] == 200
    assert (await ask("GET", "/nothing", x_api_key="wrong"))[0] == 401


async def test_body_of_no_declared_length_is_refused_when_it_grew(ask):
    long = {"model": "x" * MAX_MESSAGE_BYTES}
    status, _, body = await ask("POST", "/v1/chat/completions", long, content_length="0")
    assert (status, msgspec.json.decode(body)["error"]["code"]) == (413, "body_too_large")


async def test_key_that_may_not_swap_sees_nothing_of_admin(ask, home):
    key = add_key(home, Caller(name="bob", may_swap=False))
    for method, path in (
        ("GET", "/admin/sessions"),
        ("GET", "/admin/models/current"),
        ("POST", "/admin/release"),
        ("GET", "/admin/operations/x"),
        ("GET", "/metrics"),
    ):
        status, _, body = await ask(method, path, x_api_key=key)
        error = msgspec.json.decode(body)["error"]
        assert (status, error["type"]) == (403, "permission_error"), path
        assert error["code"] == "forbidden"
