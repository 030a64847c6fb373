"""A removed session takes along what it had before its history changed."""

from itertools import pairwise

from tests.support.models.records import TAG, turn_commit

from hotseat.protocol.link_reports import TailWritten
from hotseat.protocol.tokens import block_chain, pack_tokens, root_id
from hotseat.supervisor.catalogue.rows import BlockRow
from hotseat.supervisor.conversation.cuts import cut_at

FIRST = list(range(600))
SECOND = list(range(5000, 5300))
OLD_TAG = "b" * 32
OWN = ("m", "s")


async def commit(catalogue, tokens, session="s", tag=TAG, **options):
    """A turn whose blocks are stored; their files."""
    files = []
    for index, (parent, block) in enumerate(pairwise([root_id(tag), *block_chain(tag, tokens)])):
        files.append(f"blocks/{block}.kv")
        row = BlockRow(
            id=block,
            tag=tag,
            parent=parent,
            index=index,
            file=files[-1],
            size_bytes=10,
            written_at=1.0,
        )
        await catalogue.add_blocks([row])
    await catalogue.commit_turn(turn_commit(tokens, session, tag=tag, **options))
    return files


async def put_snapshot(catalogue, tokens, file):
    report = TailWritten(
        kind="snapshot",
        session="",
        parent=root_id(TAG),
        tokens=pack_tokens(tokens),
        hint=b"",
        file=file,
        size_bytes=5,
    )
    await catalogue.commit_tail(TAG, OWN, report, 1.0)


async def all_files(catalogue):
    return await catalogue.files(TAG) | await catalogue.files(OLD_TAG)


async def test_blocks_of_a_history_replaced_from_its_first_token_go_with_the_session(catalogue):
    old = await commit(catalogue, FIRST)
    new = await commit(catalogue, SECOND)
    files = await catalogue.delete_session(*OWN)
    assert {file.file for file in files} == {*old, *new}
    assert await all_files(catalogue) == set()


async def test_blocks_of_an_old_history_stay_while_a_fork_has_them(catalogue):
    old = await commit(catalogue, FIRST)
    await catalogue.fork_session(*OWN, "fork", lambda held: cut_at(held, held.turn), 1.0)
    await commit(catalogue, SECOND)
    await catalogue.delete_session(*OWN)
    assert await all_files(catalogue) == set(old)
    await catalogue.delete_session("m", "fork")
    assert await all_files(catalogue) == set()


async def test_blocks_under_the_tag_before_an_upgrade_go_with_the_session(catalogue):
    await commit(catalogue, FIRST, tag=OLD_TAG)
    await commit(catalogue, FIRST)
    await catalogue.delete_session(*OWN)
    assert await all_files(catalogue) == set()


async def test_blocks_behind_a_damaged_one_go_with_the_session(catalogue):
    first, second = await commit(catalogue, FIRST)
    await catalogue.forget_file(TAG, first)
    assert await all_files(catalogue) == {second}
    await catalogue.delete_session(*OWN)
    assert await all_files(catalogue) == set()


async def test_blocks_of_a_failed_turn_between_old_ones_go_with_the_session(catalogue):
    """A block that no session ever had hangs on an old one, and an old one on it."""
    await commit(catalogue, FIRST[:256])
    await commit(catalogue, FIRST, session="other")
    await catalogue.delete_session("m", "other", leased=[block_chain(TAG, FIRST)[1]])
    assert len(await all_files(catalogue)) == 2
    await commit(catalogue, SECOND)
    await catalogue.delete_session(*OWN)
    assert await all_files(catalogue) == set()


async def test_snapshot_of_an_old_history_goes_with_the_session(catalogue):
    await commit(catalogue, FIRST[:100])
    await put_snapshot(catalogue, FIRST[:100], "snapshots/old.kv")
    await commit(catalogue, SECOND[:100])
    assert await all_files(catalogue) == {"snapshots/old.kv"}
    await catalogue.delete_session(*OWN)
    assert await all_files(catalogue) == set()


async def test_snapshot_of_an_old_history_stays_while_another_session_begins_with_it(catalogue):
    await commit(catalogue, FIRST[:100])
    await commit(catalogue, FIRST[:150], session="other")
    await put_snapshot(catalogue, FIRST[:100], "snapshots/old.kv")
    await commit(catalogue, SECOND[:100])
    await catalogue.delete_session(*OWN)
    assert await all_files(catalogue) == {"snapshots/old.kv"}


async def test_removed_block_is_no_longer_noted(catalogue):
    await commit(catalogue, FIRST)
    await commit(catalogue, SECOND)
    for file in await catalogue.files(TAG):
        await catalogue.forget_file(TAG, file)
    assert await catalogue.delete_session(*OWN) == []


async def test_session_adopts_what_was_computed_again_and_keeps_the_rest(catalogue):
    old = await commit(catalogue, FIRST, tag=OLD_TAG)
    before = await catalogue.session(*OWN)
    new = await commit(catalogue, FIRST, session="other")
    assert await catalogue.adopt_tag(*OWN, TAG, pack_tokens(FIRST)) == []
    after = await catalogue.session(*OWN)
    assert (before.tag, after.tag, after.hint) == (OLD_TAG, TAG, b"")
    assert (after.turn, after.messages, after.used_at) == (1, before.messages, before.used_at)
    assert len(await catalogue.turns(*OWN)) == 1
    durable = {one.name: one.durable_tokens for one in await catalogue.session_summaries()}
    assert durable == {"s": 512, "other": 512}
    await catalogue.delete_session("m", "other")
    assert {file.file for file in await catalogue.delete_session(*OWN)} == {*old, *new}


async def test_session_that_went_on_meanwhile_adopts_nothing(catalogue):
    await commit(catalogue, FIRST, tag=OLD_TAG)
    before = await catalogue.session(*OWN)
    assert await catalogue.adopt_tag(*OWN, TAG, pack_tokens(SECOND)) == []
    assert await catalogue.adopt_tag("m", "gone", TAG, pack_tokens(SECOND)) == []
    assert await catalogue.session(*OWN) == before
