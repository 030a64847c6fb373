"""Requests that do not arrive end by themselves, and nobody else notices them."""

import asyncio
import contextlib
import time

import pytest
from anthropic.types import ErrorResponse

from hotseat.gateway.keys import owner_key
from hotseat.gateway.ports import bind_port
from hotseat.gateway.server import PatientProtocol, QuietServer, _config
from hotseat.gateway.settings import GatewaySettings

EACH = 30
ARRIVAL_S = 1.0
LONGEST_S = ARRIVAL_S * 35 / 30 + 1.0
"""The promise is 35 s where 30 are given; a second for a busy machine."""
DRIP_S = 0.1


@pytest.fixture
async def port(tmp_path, monkeypatch):
    monkeypatch.setattr(PatientProtocol, "arrival_s", ARRIVAL_S)
    monkeypatch.delenv("HOTSEAT_ENDPOINT", raising=False)
    listening = bind_port("127.0.0.1", 0)
    server = QuietServer(_config(tmp_path, GatewaySettings()))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    yield listening.getsockname()[1]
    server.stop()
    await serving


def body_head(key):
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n"
        f"content-type: application/json\r\nx-api-key: {key}\r\n\r\n"
    ).encode()


async def drip(port, begin, piece):
    """Sends a little for ever; how long it took until the other side had enough."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.monotonic()
    ended = asyncio.create_task(reader.read())
    writer.write(begin)
    with contextlib.suppress(OSError):
        while not ended.done():
            writer.write(piece)
            await asyncio.wait({ended}, timeout=DRIP_S)
    with contextlib.suppress(OSError):
        await ended
    writer.close()
    return time.monotonic() - began


async def ask(port):
    """How long a whole request takes, and what it is answered."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return time.monotonic() - began, answer.split(b"\r\n", 1)[0]


async def test_slow_headers_and_bodies_harm_nobody_and_are_gone_in_time(port, tmp_path):
    begins = [(b"GET / HTTP/1.1\r\nhost: localhost\r\nx-a: ", b"a")] * EACH
    begins += [(body_head(owner_key(tmp_path)), b" ")] * EACH
    slow = [asyncio.create_task(drip(port, *begin)) for begin in begins]
    asked = []
    while not all(one.done() for one in slow):
        asked.append(await ask(port))
        await asyncio.wait(slow, timeout=DRIP_S)
    lasted = [one.result() for one in slow]
    assert all(0.9 * ARRIVAL_S <= one < LONGEST_S for one in lasted), sorted(lasted)
    assert len(asked) >= 3
    assert {status for _, status in asked} == {b"HTTP/1.1 200 OK"}
    assert sorted(took for took, _ in asked)[len(asked) // 2] < ARRIVAL_S / 2


async def test_one_connection_too_many_is_told_in_json_when_to_ask_again(port, monkeypatch):
    monkeypatch.setattr(PatientProtocol, "most", 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head
    other, more = await asyncio.open_connection("127.0.0.1", port)
    more.write(b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
    head, _, body = (await other.read()).partition(b"\r\n\r\n")
    assert b" 503 " in head and b"retry-after: 1" in head and b"x-should-retry: true" in head
    told = ErrorResponse.model_validate_json(body)
    assert (told.type, told.error.type) == ("error", "overloaded_error")
    writer.close()
    more.close()
    assert (await ask(port))[1] == b"HTTP/1.1 200 OK"
