"""A model that its memory does not hold whole: planned, said, seated, and the same tokens."""

import asyncio
import os
import time

import msgspec
import pytest
from tests.support.clocks.event_times import EventTimes
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.daemons.stub_home import error_of
from tests.support.models.tiny_models import register_tiny

from hotseat.protocol.limits import MIB
from hotseat.protocol.replies import Accepted
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.daemon.kept_figures import READ_RATE_KEY
from hotseat.supervisor.models.rules.residence import ReadRate

QUESTION = {"append": [{"role": "user", "content": "What runs down the street?"}]}
KINDS = {"plain": "llama", "windows": "gemma3"}


GRACE_S = 10.0
DISK = 200_000.0
"""Bytes a second that the disk is said to have given: too few are read here to learn better."""


async def keep_read_rate(home):
    catalogue = await Catalogue.open(home / "catalogue.sqlite")
    rate = ReadRate(bytes_per_s=DISK, at=time.time())
    await catalogue.meta_set(READ_RATE_KEY, msgspec.json.encode(rate).decode())
    await catalogue.close()


@pytest.fixture(scope="module")
def daemon():
    daemon = LiveDaemon(standby=False)
    for name, kind in KINDS.items():
        register_tiny(daemon.home, name, kind, seed=3)
    register_tiny(daemon.home, "cut", "llama", seed=4)
    asyncio.run(keep_read_rate(daemon.home))
    with daemon:
        yield daemon


@pytest.fixture
def client(daemon):
    with daemon.client() as connected:
        yield connected


def limit(daemon, client, size_bytes):
    (daemon.home / "config.toml").write_text(f"[memory]\nlimit_bytes = {size_bytes}\n")
    client.reload()


def turn(client, model, session):
    return client.generate(
        model, session=session, max_tokens=24, temperature=0.0, **QUESTION
    ).result()


def make_room_for(daemon, client, name, share):
    """So that this share of the model's weights fits, with half the context it could have."""
    whole = client.plan(name)
    fixed = whole.overhead_bytes + whole.prefill_peak_bytes
    session = whole.sessions[0].bytes_per_session // 2
    limit(daemon, client, int(fixed + session + whole.weights_bytes * share))


@pytest.mark.parametrize("name", KINDS)
def test_session_goes_on_with_the_model_whole_and_streamed(daemon, client, name):
    whole = client.plan(name)
    assert whole.residence is None
    expected = [turn(client, name, "whole").tokens for _ in range(3)]
    try:
        first = turn(client, name, "both")
        make_room_for(daemon, client, name, 0.85)
        plan = client.plan(name)
        assert plan.fits, plan.reason
        assert plan.residence.mode == "layers"
        assert plan.weights_bytes < whole.weights_bytes
        client.release()
        stream = client.generate(name, session="both", max_tokens=24, temperature=0.0, **QUESTION)
        accepted = next(event for event in stream.events() if isinstance(event, Accepted))
        second = stream.result()
        held = client.status().streamed
        limit(daemon, client, 64 * 1024 * MIB)
        client.release()
        third = turn(client, name, "both")
    finally:
        limit(daemon, client, 64 * 1024 * MIB)
    assert accepted.tokens_per_s == held.tokens_per_s == round(DISK / plan.step_bytes, 3) < 1
    assert held.resident_bytes == plan.weights_bytes
    assert (held.mode, held.of - held.held) == ("layers", len(plan.residence.streamed))
    assert [first.tokens, second.tokens, third.tokens] == expected
    assert second.usage.restored_tokens > 0


def test_slow_model_gives_the_seat_up_between_two_tokens(daemon, client):
    make_room_for(daemon, client, "plain", 0.85)
    try:
        with daemon.client() as other, EventTimes(daemon) as events:
            stream = client.generate("plain", prompt="Rain falls", max_tokens=3000)
            next(stream.text())
            other.generate("windows", prompt="Rain falls", max_tokens=2).result()
            (_, swap) = events.wait("swap.finished", to="windows")
            stream.cancel()
            begun = stream.result()
    finally:
        limit(daemon, client, 64 * 1024 * MIB)
    assert begun.finish_reason == "cancelled"
    assert swap.facts["phases"]["drain_s"] < GRACE_S / 2


def reasons_that_begin(events, text):
    told = (event.facts["reason"] for _, event in events.named("worker.exited"))
    return [reason for reason in told if reason.startswith(text)]


def test_file_that_is_cut_under_an_answer_is_told_as_such_and_not_as_a_defect(daemon, client):
    make_room_for(daemon, client, "cut", 0.85)
    file = daemon.home / "src" / "cut" / "model.safetensors"
    try:
        with EventTimes(daemon) as events:
            stream = client.generate("cut", prompt="Rain falls", max_tokens=2000, temperature=1.0)
            next(stream.text())
            os.truncate(file, 5000)
            error = error_of(stream.result)
            # A read that was under way finds the file changed, one that begins later its end.
            said = f"weights of cut cannot be read: {file} "
            told = wait_for(lambda: reasons_that_begin(events, said), 15, "exit of the worker")
    finally:
        limit(daemon, client, 64 * 1024 * MIB)
    rest = told[0].removeprefix(said)
    assert rest.startswith(("ended before byte", "was changed while it was in use"))
    assert error.code == "model_unavailable"
    assert f"file {file} has 5000 bytes" in error.message
