"""What forks cost on a real engine: a 4K context forked eight ways."""

from functools import partial

from tests.support.daemons.real_home import tiny_daemon
from tests.support.daemons.stub_home import QUIET

from hotseat.protocol.limits import BLOCK_TOKENS

WAYS = 8
CONTEXT = 4096
UNFED = 1
"""The last token of a full answer is not in KV yet; the next turn computes it."""
DAEMON = partial(
    tiny_daemon, {"a": {}, "b": {"seed": 1}}, QUIET + "[kv]\nidle_checkpoint_s = 600\n"
)


def files(daemon, folder):
    return {path.name for path in (daemon.home / "kv").glob(f"*/{folder}/**/*") if path.is_file()}


def test_forks_of_a_long_context_prefill_new_tokens_and_write_a_tail_each(daemon, client):
    tokens = [5 + (n * 7919) % 500 for n in range(CONTEXT + 100)]
    base = client.generate("a", tokens=tokens, session="base", max_tokens=4).result()
    held = client.session("a", "base").tokens
    client.swap("b")
    client.swap("a")
    before = files(daemon, "tails")
    blocks = files(daemon, "blocks")
    for way in range(WAYS):
        client.fork_session("a", "base", f"fork-{way}")
    assert files(daemon, "tails") == before, "forking writes nothing"
    for way in range(WAYS):
        more = [10 + way, 11, 12]
        context = base_ids(base, tokens, held)
        done = client.generate(
            "a", tokens=context + more, session=f"fork-{way}", max_tokens=4
        ).result()
        # The first fork computes it, the others find it there.
        unfed = UNFED if way == 0 else 0
        assert done.usage.computed_tokens == unfed + len(more)
        assert done.usage.own_tokens == done.usage.restored_tokens == held - unfed
    client.swap("b")
    assert len(files(daemon, "tails") - before) <= WAYS
    assert files(daemon, "blocks") == blocks


def base_ids(base, tokens, held):
    ids = [*tokens, *base.tokens]
    return ids[:held]


def test_fork_at_an_earlier_turn_restores_to_the_token(daemon, client):
    """The cut lies inside a block: its beginning serves."""
    prompt = list(range(5, 305))
    first = client.generate("a", tokens=prompt, session="s", max_tokens=10).result()
    held = client.session("a", "s").tokens
    ids = base_ids(first, prompt, held)
    client.generate("a", tokens=[*ids, *range(20, 300)], session="s", max_tokens=10).result()
    client.fork_session("a", "s", "early", at_turn=1)
    client.swap("b")
    client.swap("a")
    done = client.generate("a", tokens=[*ids, 9, 9], session="early", max_tokens=4).result()
    assert held > BLOCK_TOKENS
    assert (done.usage.restored_tokens, done.usage.own_tokens) == (held, held)
    assert done.usage.disk_tokens == held


def test_first_turn_of_another_agent_shares_the_system_prompt(client):
    prompt = [7 + (n * 31) % 400 for n in range(300)]
    client.generate("a", tokens=[*prompt, 4, 4], session="one", max_tokens=2).result()
    done = client.generate("a", tokens=[*prompt, 3, 3], session="two", max_tokens=2).result()
    assert (done.usage.shared_tokens, done.usage.own_tokens) == (300, 0)
    assert done.usage.live_tokens == 300


def test_divergence_is_an_event_with_both_pieces(client):
    prompt = [9 + (n * 17) % 400 for n in range(280)]
    client.generate("a", tokens=[*prompt, 50, 51], session="left", max_tokens=2).result()
    with client.events(topics=["prefix."]) as events:
        client.status()
        client.generate("a", tokens=[*prompt, 60, 61], max_tokens=2).result()
        told = events.next(timeout_s=10.0)
    assert (told.name, told.facts["position"]) == ("prefix.diverged", 280)
    assert told.facts["held"] != told.facts["given"]
