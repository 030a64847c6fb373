"""R9 on a real model: SmolLM2 goes on with the same tokens after a swap, a restart and kills."""

import itertools

import pytest
from tests.support.daemons.live_daemon import LiveDaemon, put_record
from tests.support.daemons.real_home import kill_worker
from tests.support.models.sample_models import SMOLLM2, sample_record
from tests.support.models.tiny_models import register_tiny

pytestmark = pytest.mark.timeout(300)
TURNS = [
    "Name the capital of France.",
    "And of Italy?",
    "Which is larger?",
    "Why?",
    "Thanks.",
]
REPLY_TOKENS = 8


def ask(client, text):
    return client.generate(
        SMOLLM2,
        append=[{"role": "user", "content": text}],
        session="agent",
        max_tokens=REPLY_TOKENS,
    ).result()


def never_swapped():
    """The same turns in one life of one worker, in a home of its own."""
    daemon = LiveDaemon()
    put_record(daemon.home, sample_record(SMOLLM2))
    with daemon:
        client = daemon.client()
        return [ask(client, text) for text in TURNS]


def interrupted():
    """A swap, an orderly restart, a killed worker and a killed supervisor between the turns."""
    daemon = LiveDaemon()
    put_record(daemon.home, sample_record(SMOLLM2))
    register_tiny(daemon.home, "tiny", "llama", seed=8)
    with daemon:
        client = daemon.client()
        turns = [ask(client, TURNS[0])]
        client.swap("tiny")
        turns.append(ask(client, TURNS[1]))
        assert daemon.stop() == 0
        client = daemon.start().client()
        turns.append(ask(client, TURNS[2]))
        kill_worker(daemon)
        turns.append(ask(client, TURNS[3]))
        daemon.kill()
        client = daemon.start().client()
        turns.append(ask(client, TURNS[4]))
        return turns


def counts(turn):
    usage = turn.usage
    return usage.prompt_tokens, usage.restored_tokens, usage.computed_tokens


@pytest.fixture(scope="module")
def runs():
    return never_swapped(), interrupted()


def test_smollm2_after_swap_restart_and_kills_gives_the_tokens_of_a_run_that_never_swapped(runs):
    expected, turns = runs
    for number, (turn, reference) in enumerate(zip(turns, expected, strict=True), start=1):
        assert turn.tokens == reference.tokens, f"turn {number} diverged"
        assert turn.text == reference.text
        assert turn.usage.prompt_tokens == reference.usage.prompt_tokens
    assert "Paris" in expected[0].text


def test_smollm2_after_swap_and_restart_computes_only_what_is_new(runs):
    expected, turns = runs
    for turn, reference in zip(turns[:3], expected[:3], strict=True):
        assert counts(turn) == counts(reference)
    assert all(turn.usage.restored_tokens > 0 for turn in turns[1:])
    lost = [
        turn.usage.computed_tokens - reference.usage.computed_tokens
        for turn, reference in zip(turns[3:], expected[3:], strict=True)
    ]
    assert all(0 <= extra <= 255 for extra in lost), "a kill cost more than a tail"


def test_append_to_smollm2_does_not_repeat_its_default_system_text(runs):
    expected, _ = runs
    opening = expected[0].usage.prompt_tokens
    for before, turn in itertools.pairwise(expected):
        assert turn.context == "appended"
        held = before.usage.prompt_tokens + before.usage.completion_tokens
        grown = turn.usage.prompt_tokens - held
        # Closing, one short user turn and the generation prompt; the system text alone is longer.
        assert 0 < grown < opening - 10, f"{grown} tokens were appended"
