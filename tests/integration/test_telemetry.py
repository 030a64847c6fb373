"""Samples of a running daemon: at their pace, adding up, only for those who asked; stub workers."""

import statistics
from functools import partial
from itertools import pairwise

import msgspec
import pytest
from tests.support.daemons.stub_home import WEIGHTS, stub_daemon
from tests.support.peers.raw_peer import RawPeer

from hotseat.protocol.credit import EVENT_COST
from hotseat.protocol.messages import Credit, Events
from hotseat.protocol.replies import Event
from hotseat.protocol.telemetry import SAMPLED, Sample

CLASSES = ("weights", "live_kv", "runtime", "standby", "other", "free")
MODELS = {"slow": {"slow_token_s": 0.02, "reply_tokens": 100_000}}
DAEMON = partial(stub_daemon, ["a", "slow"], reply_tokens=8, models=MODELS)


def samples(events, count):
    """The next so many."""
    found = []
    while len(found) < count:
        item = events.next(timeout_s=30)
        assert item is not None, f"nothing after {len(found)} samples"
        if isinstance(item, Event) and item.name == SAMPLED:
            found.append(msgspec.convert(item.facts, Sample))
    return found


@pytest.mark.alone
def test_watched_daemon_samples_five_times_a_second(client):
    with client.events(topics=["telemetry"]) as events:
        times = [sample.at for sample in samples(events, 16)][1:]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert 0.18 < statistics.mean(gaps) < 0.22, gaps


def test_classes_of_every_sample_add_up_to_the_memory(client):
    with client.events(topics=["telemetry"]) as events:
        client.swap("a")
        for sample in samples(events, 3):
            parts = [getattr(sample, f"{name}_bytes") for name in CLASSES]
            assert sum(parts) == sample.total_bytes
            assert min(parts) >= 0


def test_sample_shows_seat_and_what_runs_at_which_rate(client):
    with client.events(topics=["telemetry"]) as events:
        stream = client.generate("slow", prompt="x", max_tokens=100_000)
        next(iter(stream))
        sample = samples(events, 1)[0]
        while sample.running == 0 or sample.tokens_per_s <= 5:  # those kept come first
            sample = samples(events, 1)[0]
        stream.cancel()
    assert (sample.phase, sample.model, sample.running) == ("ready", "slow", 1)
    assert sample.weights_bytes <= WEIGHTS
    assert sample.footprint_bytes > 0
    assert sample.tokens_per_s < 200


def test_subscription_without_topics_holds_no_samples(client):
    with client.events() as plain, client.events(topics=["telemetry"]) as watched:
        samples(watched, 2)
        client.swap("a")
        names = {item.name for item in iter(lambda: plain.next(timeout_s=0.3), None)}
    assert SAMPLED not in names


def test_since_zero_brings_the_samples_kept_before(client):
    with client.events(topics=["telemetry"]) as events:
        last = samples(events, 3)[-1]
    with client.events(0, topics=["telemetry"]) as events:
        assert samples(events, 1)[0].at < last.at


def test_lifecycle_events_keep_their_order_and_number_among_samples(client):
    client.swap("a")
    with client.events(topics=["telemetry", "swap"]) as events:
        client.swap("slow")
        client.swap("a")
        names = []
        while names.count("swap.finished") < 2:
            item = events.next(timeout_s=10)
            assert isinstance(item, Event)
            names += [item.name] if item.name != SAMPLED else []
    assert [name for name in names if name == "swap.finished"] == ["swap.finished"] * 2


def test_reader_without_credit_misses_samples_and_stays_connected(daemon):
    with RawPeer(daemon.endpoint().requests) as raw:
        raw.say(Events(topics=("telemetry",), credit_bytes=2 * EVENT_COST), "e")
        assert [raw.answer("e").name, raw.answer("e").name] == [SAMPLED] * 2
        assert raw.silence(0.6)
        raw.say(Credit(grant_bytes=EVENT_COST), "e")
        assert raw.answer("e").name == SAMPLED
