"""Contexts that other weights made cold are computed again while nobody asks. Real models."""

import pytest
from tests.support.clocks.event_times import EventTimes
from tests.support.daemons.live_daemon import LiveDaemon
from tests.support.daemons.stub_home import QUIET
from tests.support.models.tiny_models import register_tiny

SETTINGS = QUIET + "[kv]\nidle_checkpoint_s = 0.2\n"
TEXT = "The keeper of the lighthouse wrote down the weather of each day. "
LONG, SHORT, LITTLE = TEXT * 40, TEXT * 10, TEXT * 2
CONTEXT = 16_384


def turn(client, session, text):
    message = [{"role": "user", "content": text}]
    return client.generate("a", session=session, append=message, max_tokens=8).result()


@pytest.fixture(scope="module")
def daemon():
    """Sessions `long`, `pinned` and `little` of model "a", which was imported anew since."""
    made = LiveDaemon(settings=SETTINGS)
    register_tiny(made.home, "a", "llama", seed=1, context=CONTEXT)
    with made:
        with made.client() as client:
            for session, text in (("pinned", SHORT), ("little", LITTLE), ("long", LONG)):
                turn(client, session, text)
            client.pin_session("a", "pinned")
        made.stop()
        register_tiny(made.home, "a", "llama", seed=2, context=CONTEXT)
        yield made.start()


def test_pinned_and_recent_ones_are_computed_and_give_way_to_whoever_comes(daemon):
    with daemon.client() as client, EventTimes(daemon) as events:
        client.swap("a")
        events.wait("context.computed", session="pinned")
        ((at, _),) = events.named("context.computing", session="pinned")
        (begun_at, begun) = events.wait("context.computing", session="long")
        assert begun_at > at, "what is pinned comes first"
        turn(client, "other", "Who are you?")
        (_, gave_way) = events.wait("context.gave_way", session="long")
        assert gave_way.facts["tokens"] < begun.facts["tokens"]
        (_, computed) = events.wait("context.computed", session="long")
        assert computed.facts["computed_tokens"] < begun.facts["tokens"], "its blocks were kept"
        assert events.named("context.computing", session="little") == []
        assert events.named("swap.started")[1:] == []
        for session, held in (("pinned", SHORT), ("long", LONG)):
            again = turn(client, session, "And then?")
            assert again.turn == 2
            assert again.usage.computed_tokens < 2 * 256, held[:10]
            assert again.usage.disk_tokens >= 256
        views = {view.session: view for view in client.sessions("a")}
        assert views["pinned"].pinned
