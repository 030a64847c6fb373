"""A context that its memory does not hold, through a real daemon: swapped away, back, killed."""

import asyncio
import os
import signal
import time

import msgspec
import pytest
from msgspec import UNSET
from tests.support.clocks.event_times import EventTimes
from tests.support.daemons.live_daemon import LiveDaemon
from tests.support.models.tiny_models import register_tiny

from hotseat.protocol.replies import Accepted, Chunk
from hotseat.protocol.streamed_contexts import (
    LEAST_TOKENS_PER_S,
    held_with,
    place_context,
    streamable_entries,
)
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.daemon.kept_figures import READ_RATE_KEY
from hotseat.supervisor.models.rules.residence import ReadRate
from hotseat.worker.model.budget import KvBudget

LINES = "Rain falls on the roof, water runs down the street, {} people walk home. "
PROMPT = "".join(LINES.format(number) for number in range(60))
NEXT = "How many of them have umbrellas?"

DISK = 700_000.0
"""Bytes a second that the disk is said to have given: too few are read here to learn better."""


async def keep_read_rate(home):
    catalogue = await Catalogue.open(home / "catalogue.sqlite")
    rate = ReadRate(bytes_per_s=DISK, at=time.time())
    await catalogue.meta_set(READ_RATE_KEY, msgspec.json.encode(rate).decode())
    await catalogue.close()


@pytest.fixture(scope="module")
def daemon():
    daemon = LiveDaemon(standby=False, settings="[memory]\nreserve_bytes = 1\n")
    record = register_tiny(daemon.home, "long", "llama", seed=3)
    register_tiny(daemon.home, "other", "qwen3")
    daemon.tag = record.tag
    daemon.tight_bytes = held_with(
        record, 2400, tuple(streamable_entries(record.layers))
    ).held_bytes
    assert KvBudget(record, daemon.tight_bytes).fit_tokens(4096) < 1000
    daemon.record = record
    asyncio.run(keep_read_rate(daemon.home))
    with daemon:
        yield daemon


def configure(daemon, client, lines):
    (daemon.home / "config.toml").write_text(f"[memory]\nreserve_bytes = 1\n{lines}\n")
    client.reload()
    client.release()


def turn(client, session, text):
    return client.generate(
        "long",
        session=session,
        append=[{"role": "user", "content": text}],
        max_tokens=40,
        temperature=0.0,
    )


def damage_a_block(daemon, tag):
    """A bit of the last layer's V is another one on the disk, in a block of those of this tag."""
    file = min((daemon.home / "kv" / tag).glob("blocks/*/*.kv"))
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    return file


def await_tokens(stream):
    """Until the first; what was said when the request was accepted."""
    accepted = stream.next_event()
    assert isinstance(accepted, Accepted)
    while not isinstance(stream.next_event(), Chunk):
        pass
    return accepted


def speed_of(daemon, tokens):
    place = place_context(daemon.record, tokens, daemon.tight_bytes)
    return round(DISK / place.step_bytes, 3)


def test_context_is_read_from_the_disk_swapped_away_and_back_with_the_same_tokens(daemon):
    with daemon.client() as client:
        roomy = [turn(client, "roomy", text).result() for text in (PROMPT, NEXT)]
        expected = [result.tokens for result in roomy]
        assert 1000 < roomy[0].usage.prompt_tokens < 2200
        budget = f"kv_budget_bytes = {daemon.tight_bytes}"
        configure(daemon, client, budget)
        plan = client.plan("long")
        assert plan.max_context_tokens < plan.streamed_context_tokens
        first = turn(client, "tight", PROMPT)
        assert await_tokens(first).tokens_per_s is UNSET, "nobody has counted its prompt"
        client.generate("other", prompt="It rains.", max_tokens=4).result()
        assert first.result().tokens == expected[0]
        second = turn(client, "tight", NEXT)
        told = await_tokens(second).tokens_per_s
        assert LEAST_TOKENS_PER_S < told == speed_of(daemon, roomy[1].usage.prompt_tokens) < 1
        os.kill(client.status().worker.pid, signal.SIGKILL)
        found = second.result()
        assert found.tokens == expected[1]
        assert found.usage.restored_tokens > roomy[0].usage.prompt_tokens
        third = turn(client, "counted", PROMPT)
        told = await_tokens(third).tokens_per_s
        assert told == speed_of(daemon, roomy[0].usage.prompt_tokens)
        assert third.result().tokens == expected[0]
        short = turn(client, "short", NEXT)
        assert await_tokens(short).tokens_per_s is UNSET
        short.result()


def test_block_that_is_damaged_on_the_disk_costs_time_and_no_tokens(daemon):
    with daemon.client() as client, EventTimes(daemon) as events:
        configure(daemon, client, "")
        expected = [turn(client, "whole", text).result().tokens for text in (PROMPT, NEXT)]
        assert turn(client, "hurt", PROMPT).result().tokens == expected[0]
        configure(daemon, client, f"kv_budget_bytes = {daemon.tight_bytes}")
        file = damage_a_block(daemon, daemon.tag)
        stream = turn(client, "hurt", NEXT)
        assert stream.result().tokens == expected[1]
        _, quarantined = events.wait("kv.quarantined")
        assert file.match(quarantined.facts["file"])
        assert events.named("request.resumed", session="hurt")
        third = turn(client, "hurt", NEXT).result()
        configure(daemon, client, "")
        assert third.tokens == turn(client, "whole", NEXT).result().tokens
        assert len(events.named("kv.quarantined")) == 1
