"""`[scheduling] exact`: requests that come together run one after the other, with a real model."""

import time
from concurrent.futures import ThreadPoolExecutor

from tests.support.daemons.live_daemon import LiveDaemon
from tests.support.models.tiny_models import register_tiny

TOKENS = 120


def answer(client, prompt):
    """Tokens of a greedy answer, and when the first and the last of them came."""
    stream = client.generate("m", prompt=prompt, max_tokens=TOKENS, temperature=0.0)
    arrivals = [time.monotonic() for _ in stream]
    return stream.result().tokens, arrivals[0], arrivals[-1]


def test_two_requests_at_once_run_one_after_the_other_with_the_tokens_of_alone_ones():
    daemon = LiveDaemon(settings="[scheduling]\nexact = true\n")
    register_tiny(daemon.home, "m", "llama")
    prompts = ("The quick brown fox", "A seat holds one model at a time")
    with daemon, daemon.client() as one, daemon.client() as other:
        alone = [answer(one, prompt)[0] for prompt in prompts]
        with ThreadPoolExecutor(2) as pool:
            together = list(pool.map(answer, (one, other), prompts))
    assert [tokens for tokens, _, _ in together] == alone
    assert [len(tokens) for tokens in alone] == [TOKENS] * 2
    (_, _, first_end), (_, second_begin, _) = sorted(together, key=lambda one: one[1])
    assert first_end < second_begin
