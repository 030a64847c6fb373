"""R9, S3, R11: contexts go on with the same tokens after swaps, restarts and kills; real models."""

import signal

import psutil
import pytest
from tests.support.daemons.live_daemon import LiveDaemon, wait_for
from tests.support.engine.beside_others import expect_as_alone
from tests.support.models.tiny_models import register_tiny

STORY = (
    "The keeper of the lighthouse wrote down the weather of each day, the ships that passed and "
    "the birds that rested on the rail. "
)
TURNS = [
    STORY * 3 + "What did the keeper write?",
    "And who read it in the end?",
    STORY + "Tell it again, but shorter.",
    "Which bird came first?",
    "Close the book.",
]
REPLY_TOKENS = 90
UNFED = 1
"""The last token of a full answer is not in KV yet; the next turn computes it."""


def ask(client, model, text, **options):
    return client.generate(
        model,
        append=[{"role": "user", "content": text}],
        session="agent",
        max_tokens=REPLY_TOKENS,
        **options,
    ).result()


def never_swapped(kind, dtype, seed=7):
    """The same five turns in one life of one worker."""
    daemon = LiveDaemon()
    register_tiny(daemon.home, "a", kind, dtype=dtype, seed=seed)
    with daemon:
        client = daemon.client()
        return [ask(client, "a", text) for text in TURNS]


def kill_worker(daemon, client):
    pid = client.status().worker.pid
    psutil.Process(pid).send_signal(signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(pid), what="worker gone")


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        pytest.param("llama", "float32", marks=pytest.mark.long),
        pytest.param("llama", "bfloat16", marks=pytest.mark.long),
        ("qwen3", "float32"),
        pytest.param("qwen3", "bfloat16", marks=pytest.mark.long),
        ("gemma3", "float32"),
        pytest.param("gemma3", "bfloat16", marks=pytest.mark.long),
        ("falcon_h1", "float32"),
        ("lfm2", "bfloat16"),
    ],
)
def test_context_survives_swap_restart_and_kills_with_identical_tokens(kind, dtype):
    expected = never_swapped(kind, dtype)
    daemon = LiveDaemon(standby=True)
    register_tiny(daemon.home, "a", kind, dtype=dtype, seed=7)
    register_tiny(daemon.home, "b", "llama", seed=8)
    with daemon:
        client = daemon.client()
        turns = [ask(client, "a", TURNS[0])]

        report = client.swap("b")
        assert (report.from_, report.to, report.sessions_checkpointed) == ("a", "b", 1)
        client.swap("a")
        turns.append(ask(client, "a", TURNS[1]))

        assert daemon.stop() == 0
        daemon.start()
        client = daemon.client()
        turns.append(ask(client, "a", TURNS[2]))

        kill_worker(daemon, client)
        turns.append(ask(client, "a", TURNS[3]))

        daemon.kill()
        daemon.start()
        client = daemon.client()
        turns.append(ask(client, "a", TURNS[4]))

    for number, (turn, reference) in enumerate(zip(turns, expected, strict=True)):
        assert turn.tokens == reference.tokens, f"turn {number + 1} diverged"
        assert turn.text == reference.text
        assert turn.usage.prompt_tokens == reference.usage.prompt_tokens
    assert len(set(turns[0].tokens)) > 10, "output too uniform to prove anything"
    lost = [
        turn.usage.computed_tokens - ref.usage.computed_tokens
        for turn, ref in zip(turns, expected, strict=True)
    ]
    assert lost[:3] == [0, 0, 0], "a swap or an orderly restart cost recomputation"
    assert all(0 <= extra <= 255 for extra in lost[3:]), "a kill cost more than a tail"


def test_same_shape_and_tokenizer_but_other_weights_never_exchange_kv():
    daemon = LiveDaemon()
    records = [
        register_tiny(daemon.home, name, "llama", seed=seed) for name, seed in (("a", 1), ("b", 2))
    ]
    assert records[0].tag != records[1].tag
    assert records[0].tag_parts.tokenizer == records[1].tag_parts.tokenizer
    with daemon:
        client = daemon.client()
        first = ask(client, "a", TURNS[0])
        other = ask(client, "b", TURNS[0])
        assert other.usage.restored_tokens == 0
        assert other.tokens != first.tokens
        again = ask(client, "a", TURNS[1])
        other_again = ask(client, "b", TURNS[1])
        assert again.usage.restored_tokens == len_of(first) - UNFED
        assert other_again.usage.restored_tokens == len_of(other) - UNFED
        views = {view.model: view for view in client.sessions()}
        assert {view.session for view in views.values()} == {"agent"}
        assert (views["a"].turn, views["b"].turn) == (2, 2)


def len_of(done):
    """Tokens a session holds after its first turn."""
    return done.usage.prompt_tokens + done.usage.completion_tokens


def test_append_after_length_and_cancel_does_not_repeat_the_system_text():
    daemon = LiveDaemon()
    register_tiny(daemon.home, "a", "llama", seed=3)
    with daemon:
        client = daemon.client()
        first = ask(client, "a", "Say something long.")
        assert first.finish_reason == "length"
        with client.generate(
            "a", append=[{"role": "user", "content": "Go on."}], session="agent", max_tokens=4000
        ) as stream:
            for _ in zip(range(5), stream, strict=False):
                pass
            stream.cancel()
            second = stream.result()
        assert second.finish_reason == "cancelled"
        assert second.context == "appended"
        third = ask(client, "a", "Once more.")
        grown = third.usage.prompt_tokens - len_of(second)
        # Closing, one user turn, generation prompt: nothing of the system text.
        assert 0 < grown < first.usage.prompt_tokens
        assert third.usage.computed_tokens == grown
        view = client.session("a", "agent")
        assert [entry["role"] for entry in view.messages] == ["user", "assistant"] * 3


def test_streams_running_when_a_swap_is_asked_end_complete_and_unaltered():
    daemon = LiveDaemon()
    register_tiny(daemon.home, "a", "llama", seed=4)
    register_tiny(daemon.home, "b", "llama", seed=5)
    with daemon:
        client = daemon.client()
        prompts = [f"Number {number}: {STORY}" for number in range(3)]
        alone = client.generate("a", prompt=prompts[0], max_tokens=200).result()
        streams = [client.generate("a", prompt=text, max_tokens=200) for text in prompts]
        for stream in streams:
            next(iter(stream))
        report = client.swap("b")
        results = [stream.result() for stream in streams]
        assert report.phases.drain_s > 0
        assert [result.usage.completion_tokens for result in results] == [200] * 3
        assert [result.finish_reason for result in results] == ["length"] * 3
        expect_as_alone(results[0].tokens, alone.tokens)


def test_agents_with_one_system_prompt_keep_their_own_contexts_over_swaps():
    daemon = LiveDaemon(standby=True)
    register_tiny(daemon.home, "a", "llama", seed=7)
    register_tiny(daemon.home, "b", "qwen3", seed=8)
    agents = [("a", "planner"), ("a", "critic"), ("b", "writer"), ("b", "reader")]
    system = {"role": "system", "content": "Be short."}
    with daemon:
        client = daemon.client()
        for turn, text in enumerate(("What to pack?", "Why that?", "And then?")):
            for model, name in agents:
                held = client.session(model, name).tokens if turn else 0
                said = [{"role": "user", "content": f"{name}: {text}"}]
                done = client.generate(
                    model, append=said if turn else [system, *said], session=name, max_tokens=8
                ).result()
                # The reply's last token was drawn and not fed.
                assert done.usage.own_tokens >= held - 1, (name, turn, held, done.usage)
