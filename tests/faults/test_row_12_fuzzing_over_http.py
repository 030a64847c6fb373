"""Promise: whatever body arrives over HTTP, the answer is of its dialect and nothing stays."""

import asyncio
import json
import random

import httpx2
import psutil
import pytest
from tests.support.daemons.gateways import Gateway
from tests.support.daemons.live_daemon import wait_for
from tests.support.daemons.real_home import tiny_daemon
from tests.support.http_bodies import VALID, spoilt

from hotseat.protocol.limits import MIB

SLICE, PUSH, RELEASE = 120, 1000, 10_000
GROWTH = 32 * MIB
AT_A_TIME = 4
MODELS = {"agent": {"template": "agent", "ends": True, "context": 1024}}
SETTINGS = '[deadlines]\ngrace_s = 0.05\n[seat]\nstandby = "off"\n'
MADE_UP = {"internal", "bad_frame"}
"""Codes that only a defect has."""


def complaint(path, answer):
    """What is wrong with an answer; empty if nothing is."""
    told = answer.text
    kind = answer.headers.get("content-type", "")
    if answer.status_code == 200 and not kind.startswith("application/json"):
        lines = [line.removeprefix("data: ") for line in told.splitlines()]
        plain = [json.loads(line) for line in lines if line.startswith("{")]
    else:
        plain = [answer.json()]
    for one in plain:
        inner = one.get("response")
        error = one.get("error") or (inner.get("error") if isinstance(inner, dict) else None)
        if answer.status_code >= 400 and not error:
            return "no error in it"
        if isinstance(error, dict) and error.get("code", error.get("type")) in MADE_UP:
            return str(error)
        if isinstance(error, str) and (not error or answer.status_code == 500):
            return error
    return f"status {answer.status_code}" if answer.status_code == 500 else ""


async def ask_all(gateway, bodies):
    """Sends all; what was wrong with whom."""
    found = []
    turn = asyncio.Semaphore(AT_A_TIME)
    head = gateway.headers | {"content-type": "application/json"}

    async def ask(http, path, data):
        async with turn:
            answer = await http.post(path, content=data, headers=head)
        try:
            wrong = complaint(path, answer)
        except (ValueError, AttributeError) as error:
            wrong = f"{error!r} in {answer.status_code} {answer.text[:200]!r}"
        if wrong:
            found.append((path, wrong, data[:2000]))

    async with httpx2.AsyncClient(base_url=gateway.url, timeout=120) as http:
        await asyncio.gather(*(ask(http, path, data) for path, data in bodies))
    return found


@pytest.mark.timeout(7200)
def test_spoilt_bodies_get_answers_of_their_dialect(row):
    count = row.runs(push=PUSH, slice=SLICE, release=RELEASE)
    rng = random.Random(12)
    paths = list(VALID)
    with tiny_daemon(MODELS, SETTINGS) as daemon, Gateway(daemon.home) as gateway:
        with daemon.client() as client:
            client.swap("agent")
        process = psutil.Process(gateway.process.pid)
        first = [(path, json.dumps({"model": "agent", **VALID[path]}).encode()) for path in paths]
        assert asyncio.run(ask_all(gateway, first)) == []
        before = process.memory_full_info().uss
        bodies = [
            (path, spoilt(rng, {"model": "agent", **VALID[path]}))
            for path in (rng.choice(paths) for _ in range(count))
        ]
        wrong = asyncio.run(ask_all(gateway, bodies))
        assert wrong == [], [one[:2] for one in wrong]
        with daemon.client() as client:
            wait_for(lambda: client.status().queue.running == 0, what="nothing stays")
        grown = process.memory_full_info().uss - before
        row.record("growth", grown / MIB, GROWTH / MIB, "MiB", runs=count, what="spoilt bodies")
        assert grown <= GROWTH
