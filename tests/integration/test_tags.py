"""R5, R11: KV belongs to weights, not to a name. Real models."""

import pytest
from tests.support.daemons.live_daemon import LiveDaemon
from tests.support.models.tiny_models import register_tiny

PROMPT = "The keeper of the lighthouse wrote down the weather of each day. " * 20


def ask(client, model, text, **options):
    return client.generate(
        model, append=[{"role": "user", "content": text}], max_tokens=20, **options
    ).result()


def fresh(text, **options):
    """The answer of a daemon that never knew anything else."""
    daemon = LiveDaemon()
    register_tiny(daemon.home, "a", "llama", **options)
    with daemon:
        return ask(daemon.client(), "a", text, session="s")


@pytest.mark.parametrize("restart", [pytest.param(False, marks=pytest.mark.long), True])
def test_model_imported_again_with_other_weights_uses_nothing_of_the_old_kv(restart):
    expected = fresh(PROMPT, seed=2)
    daemon = LiveDaemon()
    old = register_tiny(daemon.home, "a", "llama", seed=1)
    register_tiny(daemon.home, "b", "llama", seed=3)
    with daemon:
        client = daemon.client()
        before = ask(client, "a", PROMPT, session="s")
        client.swap("b")
        new = register_tiny(daemon.home, "a", "llama", seed=2)
        assert (new.path, new.tag != old.tag) == (old.path, True)
        if restart:
            daemon.stop()
            client = daemon.start().client()
        # The session keeps its words; what it had computed belongs to the weights that are gone.
        again = ask(client, "a", "And then?", session="s")
        assert again.turn == 2
        assert again.usage.restored_tokens == 0
        assert again.usage.computed_tokens == again.usage.prompt_tokens > before.usage.prompt_tokens
        other = ask(client, "a", PROMPT, session="other")
        assert other.tokens == expected.tokens != before.tokens


def test_same_weights_under_two_names_share_blocks_and_keep_two_sessions():
    daemon = LiveDaemon()
    one = register_tiny(daemon.home, "a", "llama", seed=1)
    two = register_tiny(daemon.home, "b", "llama", seed=1)
    assert one.tag == two.tag
    with daemon:
        client = daemon.client()
        first = ask(client, "a", PROMPT, session="s")
        second = ask(client, "b", PROMPT, session="s")
        assert (first.turn, second.turn) == (1, 1)
        assert second.tokens == first.tokens
        assert second.usage.restored_tokens >= 256, "equal prefixes are stored once"


def test_other_tokenizer_or_template_is_another_tag(tmp_path):
    record = register_tiny(tmp_path, "a", "llama")
    thinking = register_tiny(tmp_path, "b", "llama", template="thinking")
    assert record.tag_parts.weights == thinking.tag_parts.weights
    assert record.tag != thinking.tag
    half = register_tiny(tmp_path, "c", "llama", dtype="bfloat16")
    assert half.tag not in (record.tag, thinking.tag)
