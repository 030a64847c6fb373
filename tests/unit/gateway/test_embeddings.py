"""Embeddings are another server's: handed on as they are, or refused with the way out."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from starlette.requests import Request

from hotseat.gateway.callers import OWNER, SCOPE_KEY
from hotseat.gateway.embeddings import Embeddings
from hotseat.gateway.settings import GatewaySettings
from hotseat.protocol.errors import HotseatError


class Other(BaseHTTPRequestHandler):
    """Says what it was asked, and that it is a teapot."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        assert "authorization" not in self.headers
        self.send_response(418)
        self.send_header("content-type", "application/json; of=another")
        self.end_headers()
        self.wfile.write(self.path.encode() + body)

    def log_message(self, *_):
        pass


@contextmanager
def other_server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/embeddings"
        server.shutdown()


async def embed(url):
    async def receive():
        return {"type": "http.request", "body": b'{"input": "x"}', "more_body": False}

    headers = [(b"authorization", b"Bearer ours")]
    scope = {"type": "http", "method": "POST", "headers": headers, SCOPE_KEY: OWNER}
    return await Embeddings(GatewaySettings(embeddings_url=url)).embed(Request(scope, receive))


async def test_request_is_handed_on_without_the_key():
    with other_server() as url:
        reply = await embed(url)
    assert (reply.status_code, reply.body) == (418, b'/v1/embeddings{"input": "x"}')
    assert reply.headers["content-type"] == "application/json; of=another"


async def test_server_that_is_not_there_is_named():
    with other_server() as url:
        pass
    with pytest.raises(HotseatError, match="is it running") as refused:
        await embed(url)
    assert refused.value.spec.http_status == 503


async def test_nobody_named_is_unsupported():
    with pytest.raises(HotseatError, match="embeddings_url") as refused:
        await embed(None)
    assert refused.value.code == "unsupported_feature"
