"""Sessions, their turns, and which KV files a commit makes obsolete."""

import pytest
from tests.support.models.records import TAG, turn_commit

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.link_reports import TailWritten
from hotseat.protocol.tokens import block_chain, pack_tokens, root_id
from hotseat.supervisor.catalogue.eviction import Kept
from hotseat.supervisor.catalogue.rows import BlockRow
from hotseat.supervisor.catalogue.rules.eviction_order import Worth

LONG = list(range(600))
OWN = ("m", "s")


def block_rows(tokens, written_at=1.0):
    chain = block_chain(TAG, tokens)
    parents = [root_id(TAG), *chain]
    return [
        BlockRow(
            id=block,
            tag=TAG,
            parent=parents[index],
            index=index,
            file=f"blocks/{block}.kv",
            size_bytes=1000,
            written_at=written_at,
        )
        for index, block in enumerate(chain)
    ]


def tail_of(tokens, file="tails/t1.kv", hint=b"", session="s"):
    chain = block_chain(TAG, tokens)
    rest = tokens[256 * len(chain) :]
    return TailWritten(
        session=session,
        parent=chain[-1] if chain else root_id(TAG),
        tokens=pack_tokens(rest),
        hint=hint,
        file=file,
        size_bytes=50,
    )


async def store_blocks(catalogue, tokens):
    for row in block_rows(tokens):
        await catalogue.add_blocks([row])


async def test_committed_session_comes_back_whole(catalogue):
    commit = turn_commit(LONG, messages=b"[1]", closed=False, persist=False, clock=5.0)
    await catalogue.commit_turn(commit)
    row = await catalogue.session(*OWN)
    assert (row.tokens, row.messages, row.hint) == (pack_tokens(LONG), b"[1]", b"hint")
    assert (row.turn, row.closed, row.persist, row.clock) == (1, False, False, 5.0)
    assert (row.tag, row.tokenizer_digest) == (TAG, "t")


async def test_next_turn_keeps_clock_and_creation(catalogue):
    await catalogue.commit_turn(turn_commit(LONG, clock=5.0, at=1.0))
    await catalogue.commit_turn(turn_commit([*LONG, 1], clock=9.0, at=2.0, message_count=4))
    row = await catalogue.session(*OWN)
    assert (row.turn, row.clock, row.created_at, row.used_at) == (2, 5.0, 1.0, 2.0)
    turns = await catalogue.turns(*OWN)
    assert [(turn.turn, turn.tokens, turn.message_count) for turn in turns] == [
        (1, 600, 2),
        (2, 601, 4),
    ]


async def test_turn_out_of_order_is_refused_and_changes_nothing(catalogue):
    await catalogue.commit_turn(turn_commit([1], turn=1))
    with pytest.raises(HotseatError) as caught:
        await catalogue.commit_turn(turn_commit([1, 2], turn=1))
    assert (caught.value.code, caught.value.facts) == ("session_conflict", {"turn": 1})
    assert (await catalogue.session(*OWN)).tokens == pack_tokens([1])


async def test_same_name_on_two_models_is_two_sessions(catalogue):
    await catalogue.commit_turn(turn_commit([1], model="a"))
    await catalogue.commit_turn(turn_commit([2], model="b"))
    assert (await catalogue.session("a", "s")).tokens == pack_tokens([1])
    assert [found.model for found in await catalogue.session_summaries("b")] == ["b"]
    assert len(await catalogue.session_summaries()) == 2


async def test_durable_tokens_count_stored_blocks_and_tail(catalogue):
    await store_blocks(catalogue, LONG)
    await catalogue.commit_turn(turn_commit(LONG))
    before = (await catalogue.session_summaries())[0]
    await catalogue.commit_tail(TAG, OWN, tail_of(LONG), 2.0)
    after = (await catalogue.session_summaries())[0]
    assert (before.tokens, before.durable_tokens, before.bytes_on_disk) == (600, 512, 2000)
    assert (after.durable_tokens, after.bytes_on_disk) == (600, 2050)


async def test_chain_with_a_hole_is_linked_up_to_it(catalogue):
    tokens = list(range(1024))
    rows = block_rows(tokens)
    for row in (rows[0], rows[2], rows[3]):
        await catalogue.add_blocks([row])
    await catalogue.commit_turn(turn_commit(tokens))
    assert (await catalogue.session_summaries())[0].durable_tokens == 256
    assert await catalogue.known_prefix(TAG, [row.id for row in rows]) == 1


async def test_tail_that_became_a_block_is_obsolete(catalogue):
    tokens = LONG[:300]
    await store_blocks(catalogue, tokens)
    await catalogue.commit_turn(turn_commit(tokens))
    assert await catalogue.commit_tail(TAG, OWN, tail_of(tokens), 2.0) == []
    await store_blocks(catalogue, LONG)
    done = await catalogue.commit_turn(turn_commit(LONG))
    assert [file.file for file in done.obsolete_files] == ["tails/t1.kv"]
    assert await catalogue.tails_under(TAG, [root_id(TAG), *block_chain(TAG, LONG)]) == []


async def test_tail_that_is_still_a_prefix_stays(catalogue):
    await catalogue.commit_turn(turn_commit(LONG[:100]))
    await catalogue.commit_tail(TAG, OWN, tail_of(LONG[:100]), 2.0)
    done = await catalogue.commit_turn(turn_commit(LONG[:180]))
    assert done.obsolete_files == ()
    assert len(await catalogue.tails_under(TAG, [root_id(TAG)])) == 1
    replaced = await catalogue.commit_tail(TAG, OWN, tail_of(LONG[:180], "tails/t2.kv"), 3.0)
    assert [file.file for file in replaced] == ["tails/t1.kv"]


async def test_tail_of_a_rewritten_history_is_obsolete(catalogue):
    await catalogue.commit_turn(turn_commit(LONG[:100]))
    await catalogue.commit_tail(TAG, OWN, tail_of(LONG[:100]), 2.0)
    done = await catalogue.commit_turn(turn_commit([9, 9, 9]))
    assert [file.file for file in done.obsolete_files] == ["tails/t1.kv"]


async def test_late_tail_of_a_session_that_moved_on_is_returned(catalogue):
    late = tail_of(LONG[:100])
    await catalogue.commit_turn(turn_commit([9, 9, 9]))
    assert [file.file for file in await catalogue.commit_tail(TAG, OWN, late, 2.0)] == [late.file]
    gone = await catalogue.commit_tail(TAG, ("m", "gone"), late, 2.0)
    assert [file.file for file in gone] == [late.file]
    assert await catalogue.files(TAG) == set()


async def test_shorter_tail_does_not_replace_a_longer_one(catalogue):
    await catalogue.commit_turn(turn_commit(LONG[:180]))
    await catalogue.commit_tail(TAG, OWN, tail_of(LONG[:180], "tails/long.kv"), 2.0)
    late = tail_of(LONG[:100], "tails/short.kv")
    assert [file.file for file in await catalogue.commit_tail(TAG, OWN, late, 3.0)] == [late.file]
    assert await catalogue.files(TAG) == {"tails/long.kv"}


async def test_tail_of_the_whole_session_brings_its_hint(catalogue):
    await catalogue.commit_turn(turn_commit(LONG[:100]))
    await catalogue.commit_tail(TAG, OWN, tail_of(LONG[:90], "tails/a.kv", b"short"), 2.0)
    assert (await catalogue.session(*OWN)).hint == b"hint"
    await catalogue.commit_tail(TAG, OWN, tail_of(LONG[:100], "tails/b.kv", b"whole"), 2.0)
    assert (await catalogue.session(*OWN)).hint == b"whole"


async def test_own_tail_is_offered_first(catalogue):
    await store_blocks(catalogue, LONG[:256])
    for session, tokens in (("s", LONG[:20]), ("deep", LONG[:300]), ("new", LONG[:30])):
        await catalogue.commit_turn(turn_commit(tokens, session))
        tail = tail_of(tokens, f"tails/{session}.kv", session=session)
        await catalogue.commit_tail(TAG, ("m", session), tail, 2.0)
    parents = [root_id(TAG), *block_chain(TAG, LONG)]
    offered = await catalogue.tails_under(TAG, parents, session=OWN)
    assert [tail.file for tail in offered] == ["tails/s.kv", "tails/deep.kv", "tails/new.kv"]
    assert len(await catalogue.tails_under(TAG, parents, limit=1)) == 1
    assert await catalogue.tails_under("b" * 32, parents) == []


async def test_deleted_session_frees_what_nobody_shares(catalogue):
    await store_blocks(catalogue, LONG)
    await catalogue.commit_turn(turn_commit(LONG))
    await catalogue.commit_turn(turn_commit(LONG[:256], "other"))
    await catalogue.commit_tail(TAG, OWN, tail_of(LONG), 2.0)
    second = block_rows(LONG)[1].file
    files = await catalogue.delete_session("m", "s")
    assert {file.file for file in files} == {"tails/t1.kv", second}
    assert await catalogue.session("m", "s") is None
    assert (await catalogue.session_summaries())[0].durable_tokens == 256


async def test_leased_block_survives_the_deletion(catalogue):
    await store_blocks(catalogue, LONG)
    await catalogue.commit_turn(turn_commit(LONG))
    chain = block_chain(TAG, LONG)
    assert await catalogue.delete_session("m", "s", leased=[chain[1]]) == []
    assert await catalogue.known_prefix(TAG, chain) == 2
    assert await catalogue.delete_session("m", "s") is None


async def test_damaged_block_ends_the_chain_before_it(catalogue):
    await store_blocks(catalogue, LONG)
    await catalogue.commit_turn(turn_commit(LONG))
    rows = block_rows(LONG)
    assert await catalogue.forget_file(TAG, rows[0].file)
    assert (await catalogue.session_summaries())[0].durable_tokens == 0
    assert await catalogue.known_prefix(TAG, [row.id for row in rows]) == 0
    assert (await catalogue.session(*OWN)).tokens == pack_tokens(LONG)
    assert not await catalogue.forget_file(TAG, rows[0].file)


async def test_damaged_tail_is_forgotten(catalogue):
    await catalogue.commit_turn(turn_commit(LONG[:100]))
    await catalogue.commit_tail(TAG, OWN, tail_of(LONG[:100]), 2.0)
    assert await catalogue.forget_file(TAG, "tails/t1.kv")
    assert await catalogue.files(TAG) == set()


async def test_rewritten_block_returns_the_file_it_replaces(catalogue):
    row = block_rows(LONG)[0]
    assert await catalogue.add_blocks([row]) == []
    assert await catalogue.add_blocks([row]) == []
    again = BlockRow(
        **{name: getattr(row, name) for name in row.__struct_fields__} | {"file": "v2"}
    )
    assert [file.file for file in await catalogue.add_blocks([again])] == [row.file]
    assert await catalogue.files(TAG) == {"v2"}


async def evict_loose(catalogue, wanted, **kept):
    return (await catalogue.evict(wanted, Kept(**kept), Worth.UNREFERENCED)).files


async def test_eviction_takes_unused_leaves_oldest_first(catalogue):
    old, new = list(range(768)), [5] * 512
    for rows in (block_rows(old, 1.0), block_rows(new, 2.0)):
        for row in rows:
            await catalogue.add_blocks([row])
    await catalogue.commit_turn(turn_commit(old[:256]))
    taken = await evict_loose(catalogue, 1500)
    assert [file.file for file in taken] == [row.file for row in reversed(block_rows(old)[1:])]
    leased = frozenset(block_chain(TAG, new)[1:])
    assert await evict_loose(catalogue, 10**9, blocks=leased) == ()
    assert len(await evict_loose(catalogue, 10**9)) == 2
    assert await catalogue.known_prefix(TAG, block_chain(TAG, old)) == 1


async def test_lookup_counts_as_use(catalogue):
    old, new = [1] * 256, [2] * 256
    for tokens, at in ((old, 1.0), (new, 2.0)):
        for row in block_rows(tokens, at):
            await catalogue.add_blocks([row])
    await catalogue.known_prefix(TAG, block_chain(TAG, old), now=1000.0)
    taken = await evict_loose(catalogue, 1)
    assert [file.file for file in taken] == [block_rows(new)[0].file]


async def test_totals_are_per_tag(catalogue):
    await store_blocks(catalogue, LONG)
    await catalogue.commit_turn(turn_commit(LONG))
    await catalogue.commit_tail(TAG, OWN, tail_of(LONG), 2.0)
    (total,) = await catalogue.totals()
    assert (total.tag, total.size_bytes, total.blocks, total.tails) == (TAG, 2050, 2, 1)


async def test_deleted_session_takes_the_ways_it_went_before_along(catalogue):
    other = [*LONG[:256], *([7] * 344)]
    for tokens in (other, LONG):
        await store_blocks(catalogue, tokens)
        await catalogue.commit_turn(turn_commit(tokens))
    await catalogue.delete_session("m", "s")
    assert await catalogue.files(TAG) == set()


async def test_deleted_session_leaves_what_follows_a_block_of_others(catalogue):
    other = [*LONG[:256], *([7] * 344)]
    for tokens in (other, LONG):
        await store_blocks(catalogue, tokens)
    await catalogue.commit_turn(turn_commit(LONG))
    await catalogue.commit_turn(turn_commit(LONG[:256], "other"))
    files = await catalogue.delete_session("m", "s")
    assert [file.file for file in files] == [block_rows(LONG)[1].file]


async def test_turn_without_its_blocks_names_the_first_that_is_missing(catalogue):
    await store_blocks(catalogue, LONG[:256])
    chain = block_chain(TAG, LONG)
    assert (await catalogue.commit_turn(turn_commit(LONG))).missing == chain[1]
    await store_blocks(catalogue, LONG)
    assert (await catalogue.commit_turn(turn_commit(LONG))).missing is None


async def test_agent_of_the_newest_turn_is_kept_and_goes_along_with_a_fork(catalogue):
    await catalogue.commit_turn(turn_commit(LONG, agent="claude-cli/1"))
    await catalogue.fork_session(*OWN, "f", lambda held: held, 1.0)
    await catalogue.commit_turn(turn_commit(LONG, agent="codex"))
    found = {one.name: one.agent for one in await catalogue.session_summaries()}
    assert found == {"s": "codex", "f": "claude-cli/1"}
    assert (await catalogue.session(*OWN)).agent == "codex"
