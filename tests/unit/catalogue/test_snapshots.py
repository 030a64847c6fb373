"""Snapshots belong to their token prefix: who finds them, and when they go."""

import time
from itertools import pairwise

from tests.support.models.records import TAG, turn_commit

from hotseat.protocol.link_reports import TailWritten
from hotseat.protocol.tokens import block_chain, pack_tokens, root_id
from hotseat.supervisor.catalogue.eviction import Kept
from hotseat.supervisor.catalogue.rebuilding import Found, FoundFile
from hotseat.supervisor.catalogue.rows import BlockRow
from hotseat.supervisor.catalogue.rules.eviction_order import Worth
from hotseat.supervisor.catalogue.snapshots import KEPT_PER_SESSION

LONG = list(range(600))
OTHER = [*range(300), *range(1000, 1300)]
ROOT = root_id(TAG)


async def store_blocks(catalogue, tokens):
    chain = block_chain(TAG, tokens)
    for index, (parent, block) in enumerate(pairwise([ROOT, *chain])):
        row = BlockRow(
            id=block,
            tag=TAG,
            parent=parent,
            index=index,
            file=f"blocks/{block}.kv",
            size_bytes=1000,
            written_at=1.0,
        )
        await catalogue.add_blocks([row])


async def put(catalogue, tokens, file, at=1.0):
    """Reports a snapshot of these tokens; what became obsolete."""
    chain = block_chain(TAG, tokens)
    report = TailWritten(
        kind="snapshot",
        session="",
        parent=chain[-1] if chain else ROOT,
        tokens=pack_tokens(tokens[256 * len(chain) :]),
        hint=b"",
        file=file,
        size_bytes=50,
    )
    return await catalogue.commit_tail(TAG, ("m", ""), report, at)


async def offered(catalogue, tokens, session=None):
    parents = (ROOT, *block_chain(TAG, tokens))
    return [ref.file for ref in await catalogue.tails_under(TAG, parents, session=session)]


async def commit(catalogue, tokens, session="s", **options):
    await store_blocks(catalogue, tokens)
    return await catalogue.commit_turn(turn_commit(tokens, session=session, **options))


async def test_snapshot_is_offered_to_every_chain_with_its_prefix(catalogue):
    await store_blocks(catalogue, LONG)
    assert await put(catalogue, LONG[:280], "snapshots/a.kv") == []
    assert await offered(catalogue, OTHER) == ["snapshots/a.kv"]
    assert await offered(catalogue, [9] * 600) == []


async def test_snapshot_at_a_block_boundary_needs_no_tokens_of_its_own(catalogue):
    await store_blocks(catalogue, LONG)
    await put(catalogue, LONG[:512], "snapshots/a.kv")
    (ref,) = await catalogue.tails_under(TAG, block_chain(TAG, LONG))
    assert (ref.tokens, ref.parent) == (b"", block_chain(TAG, LONG)[1])


async def test_second_snapshot_of_a_prefix_is_given_back(catalogue):
    await store_blocks(catalogue, LONG)
    await put(catalogue, LONG[:280], "snapshots/a.kv")
    obsolete = await put(catalogue, LONG[:280], "snapshots/b.kv")
    assert [file.file for file in obsolete] == ["snapshots/b.kv"]
    assert await offered(catalogue, LONG) == ["snapshots/a.kv"]


async def test_snapshot_reported_twice_stays(catalogue):
    await put(catalogue, LONG[:80], "snapshots/a.kv")
    assert await put(catalogue, LONG[:80], "snapshots/a.kv") == []


async def test_snapshot_on_a_block_that_is_gone_is_given_back(catalogue):
    obsolete = await put(catalogue, LONG[:280], "snapshots/a.kv")
    assert [file.file for file in obsolete] == ["snapshots/a.kv"]


async def test_own_snapshot_comes_before_deeper_foreign_ones(catalogue):
    await commit(catalogue, LONG[:100], session="short")
    await commit(catalogue, LONG)
    await put(catalogue, LONG[:100], "snapshots/own.kv")
    await put(catalogue, LONG[:300], "snapshots/deep.kv")
    files = await offered(catalogue, LONG, ("m", "short"))
    assert files == ["snapshots/own.kv", "snapshots/deep.kv"]


async def test_deleted_session_takes_the_snapshots_that_only_it_begins_with(catalogue):
    await commit(catalogue, LONG, session="a")
    await commit(catalogue, OTHER, session="b")
    await put(catalogue, LONG[:100], "snapshots/both.kv")
    await put(catalogue, LONG[:580], "snapshots/a.kv")
    await put(catalogue, OTHER[:580], "snapshots/b.kv")
    gone = {file.file for file in await catalogue.delete_session("m", "a")}
    assert {name for name in gone if name.startswith("snap")} == {"snapshots/a.kv"}
    assert await offered(catalogue, OTHER) == ["snapshots/b.kv", "snapshots/both.kv"]


async def test_blocks_of_a_deleted_session_go_with_its_snapshots(catalogue):
    await commit(catalogue, LONG)
    await put(catalogue, LONG[:580], "snapshots/a.kv")
    await catalogue.delete_session("m", "s")
    assert await catalogue.files(TAG) == set()


async def test_turn_thins_out_snapshots_but_keeps_the_first_and_the_newest(catalogue):
    ends = list(range(20, 20 * 13, 20))
    for end in ends:
        await put(catalogue, LONG[:end], f"snapshots/{end}.kv")
    gone = (await commit(catalogue, LONG[:255])).obsolete_files
    kept = {ends[0], *ends[-KEPT_PER_SESSION + 1 :]}
    assert {file.file for file in gone} == {f"snapshots/{e}.kv" for e in set(ends) - kept}


async def test_damaged_snapshot_is_not_offered_again(catalogue):
    await put(catalogue, LONG[:80], "snapshots/a.kv")
    assert await catalogue.forget_file(TAG, "snapshots/a.kv")
    assert await offered(catalogue, LONG) == []


async def test_snapshots_are_counted_and_named(catalogue):
    await put(catalogue, LONG[:80], "snapshots/a.kv")
    (total,) = await catalogue.totals()
    assert (total.snapshots, total.tails, total.size_bytes) == (1, 0, 50)
    assert await catalogue.files(TAG) == {"snapshots/a.kv"}


async def test_eviction_takes_all_but_the_snapshot_nearest_to_the_end_as_cache(catalogue):
    await commit(catalogue, LONG)
    await put(catalogue, LONG[:100], "snapshots/early.kv")
    await put(catalogue, LONG[:580], "snapshots/end.kv")
    evicted = await catalogue.evict(float("inf"), Kept(), Worth.UNREFERENCED)
    assert [file.file for file in evicted.files] == ["snapshots/early.kv"]
    assert evicted.sessions == ()
    evicted = await catalogue.evict(1, Kept(), Worth.SESSION)
    assert [file.file for file in evicted.files] == ["snapshots/end.kv"], "not the block below it"
    assert evicted.sessions == (("m", "s"),)


async def test_listed_session_counts_its_snapshots(catalogue):
    await commit(catalogue, LONG[:100])
    await put(catalogue, LONG[:40], "snapshots/early.kv")
    await put(catalogue, LONG[:100], "snapshots/end.kv")
    await put(catalogue, LONG[:120], "snapshots/foreign.kv")
    (summary,) = await catalogue.session_summaries()
    assert (summary.durable_tokens, summary.bytes_on_disk) == (100, 100)


async def test_leased_snapshot_is_not_evicted(catalogue):
    await put(catalogue, LONG[:80], "snapshots/a.kv")
    kept = Kept(tails=frozenset({"snapshots/a.kv"}))
    assert (await catalogue.evict(float("inf"), kept)).files == ()


async def test_rebuilt_catalogue_offers_the_snapshots_it_finds(catalogue):
    files = [
        FoundFile(
            tag=TAG,
            file=f"snapshots/{name}.kv",
            size_bytes=50,
            parent=parent,
            tokens=pack_tokens(LONG[:80]),
            hint=b"h",
            written_at=1.0,
        )
        for name, parent in (("a", ROOT), ("b", block_chain(TAG, LONG)[0]))
    ]
    rebuilt = await catalogue.rebuild(Found(files=tuple(files), sessions=()))
    assert (rebuilt.snapshots, rebuilt.unused_files) == (1, 1)
    assert await offered(catalogue, LONG) == ["snapshots/a.kv"]


async def test_every_snapshot_of_every_session_is_found_where_it_hangs(catalogue):
    """At the root, behind a block, at a boundary; not behind a block of somebody else."""
    await commit(catalogue, LONG, session="a")
    await commit(catalogue, OTHER, session="b")
    for name, tokens in (("r", LONG[:9]), ("i", LONG[:280]), ("x", LONG[:512]), ("o", OTHER[:599])):
        await put(catalogue, tokens, f"snapshots/{name}.kv")
    listed = {one.name: one for one in await catalogue.session_summaries()}
    blocks = 2 * 1000
    assert (listed["a"].durable_tokens, listed["a"].bytes_on_disk) == (512, blocks + 3 * 50)
    assert (listed["b"].durable_tokens, listed["b"].bytes_on_disk) == (599, blocks + 3 * 50)


async def test_list_of_many_sessions_with_snapshots_does_not_compare_all_with_all(catalogue):
    def fill(db):
        for number in range(2000):
            tokens = pack_tokens([number, *range(3999)])
            db.execute(
                "INSERT INTO sessions (model, name, tag, tokenizer_digest, turn, tokens, messages,"
                " hint, closed, clock, persist, created_at, used_at)"
                " VALUES ('m', ?, ?, 'd', 1, ?, x'', x'', 0, 0, 1, 0, 0)",
                (f"s{number}", TAG, tokens),
            )
            db.executemany(
                "INSERT INTO snapshots (tag, parent, idx, tokens, hint, file, size_bytes,"
                " written_at, used_at) VALUES (?, ?, 0, ?, x'', ?, 10, 0, 0)",
                [(TAG, ROOT, tokens[: 200 * n], f"snapshots/{number}-{n}") for n in range(1, 5)],
            )

    await catalogue._thread.call(fill)
    began = time.process_time()  # what others do on the machine is not counted
    listed = await catalogue.session_summaries()
    assert time.process_time() - began < 2.0
    assert {one.bytes_on_disk for one in listed} == {40}


async def test_session_without_a_single_token_is_no_obstacle_to_eviction(catalogue):
    await commit(catalogue, LONG)
    await put(catalogue, LONG[:100], "snapshots/a.kv")
    await commit(catalogue, [], session="empty")
    evicted = await catalogue.evict(float("inf"), Kept(), Worth.SESSION)
    assert "snapshots/a.kv" in {file.file for file in evicted.files}
