"""The live context that a prompt takes its KV from: which one, and what the disk could add."""

from types import SimpleNamespace

from hotseat.protocol.ids import Tag
from hotseat.protocol.tokens import block_chain
from hotseat.worker.batch.context_source import choose_source
from hotseat.worker.context.live import LiveSession, LiveTier
from hotseat.worker.context.steps import StepLog
from hotseat.worker.context.trace import Trace

TAG = Tag("a" * 32)
PROMPT = list(range(600))


def tier_of(**contexts):
    tier = LiveTier()
    for name, tokens in contexts.items():
        trace = Trace(TAG, list(tokens), StepLog(len(tokens)))
        tier.keep(LiveSession(name, [], trace, persist=True))
    return tier


def turn_of(session, suspended_as=None):
    chain = block_chain(TAG, PROMPT[:-1])
    return SimpleNamespace(ids=PROMPT, chain=chain, session=session, suspended_as=suspended_as)


def test_prompt_that_nothing_serves_has_no_live_source():
    source = choose_source(turn_of("s"), tier_of(other=[7, 8]))
    assert (source.live, source.usable_tokens, source.is_enough) == (None, 0, False)


def test_of_equal_contexts_the_own_one_is_taken():
    source = choose_source(turn_of("s"), tier_of(other=PROMPT[:300], s=PROMPT[:300]))
    assert (source.live, source.usable_tokens, source.is_own) == ("s", 300, True)


def test_what_was_kept_at_suspension_comes_before_the_session():
    tier = tier_of(s=PROMPT[:300], kept=PROMPT[:300])
    assert choose_source(turn_of("s", "kept"), tier).live == "kept"


def test_own_context_that_serves_nothing_is_still_the_own_one():
    source = choose_source(turn_of("s"), tier_of(s=[7, 8], other=[7, 9]))
    assert (source.live, source.usable_tokens, source.is_own) == ("s", 0, True)


def test_another_one_that_serves_more_is_taken_though_it_is_not_enough():
    source = choose_source(turn_of("s"), tier_of(s=PROMPT[:100], other=PROMPT[:300]))
    assert (source.live, source.is_own, source.is_enough) == ("other", False, False)


def test_disk_can_add_nothing_to_the_whole_own_context():
    assert choose_source(turn_of("s"), tier_of(s=PROMPT[:300])).is_enough


def test_disk_may_add_to_an_own_context_that_the_prompt_leaves():
    assert not choose_source(turn_of("s"), tier_of(s=[*PROMPT[:300], 9])).is_enough


def test_disk_can_add_nothing_to_what_serves_all_but_the_last_token():
    assert choose_source(turn_of("s"), tier_of(other=PROMPT)).is_enough


def test_choice_counts_for_the_tier_as_it_was():
    tier = tier_of(s=PROMPT[:300])
    source = choose_source(turn_of("s"), tier)
    assert source.as_of == tier.changes
    tier.take("s")
    assert source.as_of != tier.changes
