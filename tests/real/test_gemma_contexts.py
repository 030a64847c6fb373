"""R9 on a real sliding-window model: Gemma 3 past its window goes on with the same tokens."""

import pytest
from msgspec.structs import replace
from tests.support.daemons.live_daemon import LiveDaemon, put_record
from tests.support.models.sample_models import GEMMA3, sample_record
from tests.support.models.tiny_models import register_tiny

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]
WINDOW = 512
STORY = (
    "The lighthouse stood at the end of a long pier, and every evening the keeper walked out to "
    "light the lamp. He counted the boats that came home, wrote their names into a grey book and "
    "put a small stone on the sill for each that did not. "
)
PARTS = (STORY * 10 + "One night in October", " Nobody in the village", " In the end")
REPLY_TOKENS = 6


def ask(client, text):
    return client.generate(GEMMA3, session="writer", append=text, max_tokens=REPLY_TOKENS).result()


def never_swapped():
    daemon = LiveDaemon()
    put_record(daemon.home, sample_record(GEMMA3))
    with daemon:
        client = daemon.client()
        return [ask(client, text) for text in PARTS]


def interrupted():
    """A swap between the first two turns, an orderly restart before the third."""
    daemon = LiveDaemon()
    put_record(daemon.home, sample_record(GEMMA3))
    register_tiny(daemon.home, "tiny", "llama", seed=8)
    with daemon:
        client = daemon.client()
        turns = [ask(client, PARTS[0])]
        report = client.swap("tiny")
        assert report.sessions_checkpointed == 1
        turns.append(ask(client, PARTS[1]))
        assert daemon.stop() == 0
        client = daemon.start().client()
        turns.append(ask(client, PARTS[2]))
        return turns


@pytest.fixture(scope="module")
def runs():
    return never_swapped(), interrupted()


def test_gemma_past_its_window_gives_the_tokens_of_a_run_that_never_swapped(runs):
    expected, turns = runs
    assert expected[0].usage.prompt_tokens > WINDOW, "the window was never left"
    for number, (turn, reference) in enumerate(zip(turns, expected, strict=True), start=1):
        assert turn.tokens == reference.tokens, f"turn {number} diverged"
        assert turn.text == reference.text


def test_gemma_past_its_window_computes_only_what_is_new(runs):
    expected, turns = runs
    for turn, reference in zip(turns, expected, strict=True):
        usage = turn.usage
        moved = replace(usage, live_tokens=usage.restored_tokens, disk_tokens=0)
        assert moved == reference.usage, "but for where the context came from"
    assert all(turn.usage.disk_tokens == turn.usage.restored_tokens for turn in turns)
    assert all(turn.usage.restored_tokens > WINDOW for turn in turns[1:])
    assert all(turn.usage.computed_tokens < 20 for turn in turns[1:])
