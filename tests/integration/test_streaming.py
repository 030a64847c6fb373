"""A model that its memory does not hold whole: planned, said, seated, and the same tokens."""

import pytest
from tests.support.daemons.live_daemon import LiveDaemon
from tests.support.models.tiny_models import register_tiny

from hotseat.protocol.limits import MIB

QUESTION = {"append": [{"role": "user", "content": "What runs down the street?"}]}
KINDS = {"plain": "llama", "windows": "gemma3"}


@pytest.fixture(scope="module")
def daemon():
    daemon = LiveDaemon(standby=False)
    for name, kind in KINDS.items():
        register_tiny(daemon.home, name, kind, seed=3)
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


@pytest.mark.parametrize("name", KINDS)
def test_session_goes_on_with_the_model_whole_and_streamed(daemon, client, name):
    whole = client.plan(name)
    assert whole.residence is None
    expected = [turn(client, name, "whole").tokens for _ in range(3)]
    fixed = whole.overhead_bytes + whole.prefill_peak_bytes
    session = client.plan(name).sessions[0].bytes_per_session // 2
    try:
        first = turn(client, name, "both")
        limit(daemon, client, fixed + session + whole.weights_bytes * 85 // 100)
        plan = client.plan(name)
        assert plan.fits, plan.reason
        assert plan.residence.mode == "layers"
        assert plan.weights_bytes < whole.weights_bytes
        client.release()
        second = turn(client, name, "both")
        limit(daemon, client, 64 * 1024 * MIB)
        client.release()
        third = turn(client, name, "both")
    finally:
        limit(daemon, client, 64 * 1024 * MIB)
    assert [first.tokens, second.tokens, third.tokens] == expected
    assert second.usage.restored_tokens > 0
