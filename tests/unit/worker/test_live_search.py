"""The live context that serves most of a prompt is found without reading all contexts."""

import random

from hypothesis import given
from hypothesis import strategies as st

from hotseat.protocol.ids import Tag
from hotseat.protocol.tokens import block_chain
from hotseat.worker.context.live import LiveSession, LiveTier
from hotseat.worker.context.steps import StepLog, common_prefix
from hotseat.worker.context.trace import Trace

TAG = Tag("a" * 32)
RUNS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([1, 100, 256, 300])), max_size=4)


class Counted(list):
    """Tokens that count how many of them were copied to be compared."""

    copied = 0

    def __getitem__(self, key):
        found = super().__getitem__(key)
        if isinstance(key, slice):
            Counted.copied += len(found)
        return found


def tokens_of(runs):
    return [token for token, count in runs for _ in range(count)]


def live(name, tokens):
    return LiveSession(name, [], Trace(TAG, tokens, StepLog(len(tokens))), persist=True)


@given(RUNS, RUNS.filter(bool))
def test_shared_prefix_by_blocks_is_the_one_by_tokens(held, asked):
    session, tokens = live("s", tokens_of(held)), tokens_of(asked)
    usable = session.usable_prefix(tokens, block_chain(TAG, tokens[:-1]))
    assert usable == common_prefix(tokens_of(held), tokens[:-1])


def test_search_among_many_long_contexts_reads_few_of_their_tokens():
    draw = random.Random(1)
    shared = [draw.randrange(30_000) for _ in range(2_000)]
    tier = LiveTier()
    for number in range(50):
        rest = [draw.randrange(30_000) for _ in range(6_000)]
        session = live(f"s{number}", shared + rest)
        session.trace.tokens = Counted(session.trace.tokens)
        tier.keep(session)
    prompt = shared + [draw.randrange(30_000) for _ in range(6_000)]
    chain = block_chain(TAG, prompt[:-1])
    Counted.copied = 0
    assert {one.usable_prefix(prompt, chain) for one in tier.sessions()} == {2_000}
    assert Counted.copied < 50 * 1_024
