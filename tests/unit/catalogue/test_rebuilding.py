"""A catalogue made anew holds what the files say, and nothing of what fits nowhere."""

import pytest
from msgspec import structs
from tests.support.models.records import TAG, accept_record, turn_commit

from hotseat.protocol.messages import Message
from hotseat.protocol.tokens import block_chain, pack_tokens, root_id
from hotseat.supervisor.catalogue.rebuilding import Found, FoundFile
from hotseat.supervisor.catalogue.session_files import newest_sessions
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.conversation.cuts import cut_at, replace_history
from hotseat.supervisor.conversation.history import History, encode_history

TOKENS = [*range(600)]


def block_file(index, tokens=TOKENS, **changes):
    chain = [root_id(TAG), *block_chain(TAG, tokens)]
    found = FoundFile(
        tag=TAG,
        file=f"blocks/{chain[index + 1][:2]}/{chain[index + 1]}.kv",
        size_bytes=100,
        parent=chain[index],
        tokens=pack_tokens(tokens[256 * index : 256 * (index + 1)]),
        hint=b"",
        written_at=5.0,
    )
    return structs.replace(found, **changes)


def tail_file(count, name="tails/1-1-a.kv", tokens=TOKENS):
    return FoundFile(
        tag=TAG,
        file=name,
        size_bytes=10,
        parent=block_chain(TAG, tokens)[-1],
        tokens=pack_tokens(tokens[512 : 512 + count]),
        hint=b"h",
        written_at=6.0,
    )


@pytest.fixture
async def written(tmp_path):
    """Session files of a catalogue that is lost."""
    folder = tmp_path / "sessions"
    folder.mkdir()
    catalogue = await Catalogue.open(tmp_path / "old.sqlite", folder)
    await catalogue.accept(accept_record(session="s"))
    await catalogue.commit_turn(turn_commit(TOKENS[:300], "s"))
    await catalogue.commit_turn(
        turn_commit(TOKENS, "s", key=accept_record().key, reply=b"kept", messages=b"both")
    )
    await catalogue.pin("m", "s", pinned=True)
    await catalogue.close()
    return tuple(newest_sessions(folder))


@pytest.fixture
async def fresh(tmp_path):
    catalogue = await Catalogue.open(tmp_path / "new.sqlite")
    yield catalogue
    await catalogue.close()


async def test_session_turns_reply_and_chain_come_back(fresh, written):
    files = (block_file(1), block_file(0), tail_file(40), tail_file(88, "tails/1-2-b.kv"))
    rebuilt = await fresh.rebuild(Found(files=files, sessions=written))
    assert (rebuilt.sessions, rebuilt.turns, rebuilt.replies) == (1, 2, 1)
    assert (rebuilt.blocks, rebuilt.tails, rebuilt.unused_files) == (2, 1, 1)
    row = await fresh.session("m", "s")
    assert (row.messages, row.pinned, row.turn) == (b"both", True, 2)
    assert (await fresh.session_summaries())[0].durable_tokens == 600
    assert (await fresh.request(accept_record().key)).reply == b"kept"
    assert await fresh.files(TAG) == {files[0].file, files[1].file, "tails/1-2-b.kv"}


async def test_block_behind_a_gap_is_left_to_the_sweep(fresh, written):
    rebuilt = await fresh.rebuild(Found(files=(block_file(1),), sessions=written))
    assert (rebuilt.blocks, rebuilt.unused_files) == (0, 1)
    assert (await fresh.session_summaries())[0].durable_tokens == 0


async def test_tail_of_other_ids_is_not_taken(fresh, written):
    other = structs.replace(tail_file(40), tokens=pack_tokens([1] * 40))
    files = (block_file(0), block_file(1), other)
    rebuilt = await fresh.rebuild(Found(files=files, sessions=written))
    assert rebuilt.tails == 0
    assert (await fresh.session_summaries())[0].durable_tokens == 512


async def test_replaced_session_comes_back_as_one_to_be_rendered(fresh, tmp_path):
    folder = tmp_path / "replaced"
    folder.mkdir()
    catalogue = await Catalogue.open(tmp_path / "replaced.sqlite", folder)
    history = encode_history(History(messages=(Message(role="user", content="?"),)))
    await catalogue.commit_turn(turn_commit(TOKENS[:300], "s", messages=history, message_count=1))
    summary = (Message(role="user", content="what was said so far"),)
    await catalogue.change_session(
        "m", "s", lambda held: replace_history(held, summary, 9.0, raw=False), 9.0
    )
    before = await catalogue.session("m", "s"), await catalogue.turns("m", "s")
    await catalogue.close()
    await fresh.rebuild(Found(files=(), sessions=tuple(newest_sessions(folder))))
    row, turns = await fresh.session("m", "s"), await fresh.turns("m", "s")
    assert row.stale
    assert (row.messages, row.revision) == (before[0].messages, before[0].revision)
    assert turns == before[1]
    assert [turn.reachable for turn in turns] == [False, True]


async def test_fork_of_a_lost_catalogue_comes_back_beside_its_origin(fresh, tmp_path):
    folder = tmp_path / "forked"
    folder.mkdir()
    catalogue = await Catalogue.open(tmp_path / "forked.sqlite", folder)
    await catalogue.commit_turn(turn_commit(TOKENS, "s", messages=b""))
    await catalogue.fork_session("m", "s", "f", lambda held: cut_at(held, 1), 9.0)
    await catalogue.close()
    files = (block_file(0), block_file(1))
    await fresh.rebuild(Found(files=files, sessions=tuple(newest_sessions(folder))))
    found = {one.name: one.durable_tokens for one in await fresh.session_summaries()}
    assert found == {"s": 512, "f": 512}
