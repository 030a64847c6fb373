"""Session files: one per revision, written before the commit, verified before they are believed."""

import stat

import pytest
from tests.support.models.records import accept_record, turn_commit

from hotseat.supervisor.catalogue.session_files import (
    SessionDamagedError,
    newest_sessions,
    read_session,
)
from hotseat.supervisor.catalogue.store import Catalogue


@pytest.fixture
def home(tmp_path):
    (tmp_path / "sessions").mkdir()
    return tmp_path


async def opened(home):
    return await Catalogue.open(home / "catalogue.sqlite", home / "sessions")


def files(home):
    return sorted((home / "sessions").iterdir())


async def test_turn_is_in_one_private_file_with_its_reply(home):
    catalogue = await opened(home)
    await catalogue.accept(accept_record(session="s"))
    await catalogue.commit_turn(turn_commit([1, 2], key=accept_record().key, reply=b"reply"))
    await catalogue.commit_turn(turn_commit([1, 2, 3], messages=b"two"))
    (file,) = files(home)
    content = read_session(file)
    await catalogue.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert content.row.messages == b"two"
    assert [turn.turn for turn in content.turns] == [1, 2]
    assert content.request.reply == b"reply"


async def test_pin_and_removal_reach_the_file_at_once(home):
    catalogue = await opened(home)
    await catalogue.commit_turn(turn_commit([1]))
    assert await catalogue.pin("m", "s", pinned=True)
    (file,) = files(home)
    assert read_session(file).row.pinned
    await catalogue.delete_session("m", "s")
    assert files(home) == []
    assert not await catalogue.pin("m", "s", pinned=True)
    await catalogue.close()


async def test_hidden_session_and_failed_turn_leave_no_file(home):
    catalogue = await opened(home)
    await catalogue.commit_turn(turn_commit([1], ".run-1"))
    with pytest.raises(Exception, match="turn 5"):
        await catalogue.commit_turn(turn_commit([1], "s", turn=5))
    await catalogue.close()
    assert files(home) == []


async def test_reopened_catalogue_writes_missing_files_and_drops_strange_ones(home):
    catalogue = await opened(home)
    for number in range(20):
        await catalogue.commit_turn(turn_commit([number], f"s{number}"))
    await catalogue.close()
    kept = files(home)[5:]
    for file in files(home)[:5]:
        file.unlink()
    strange = home / "sessions" / f"{'0' * 32}-1.session"
    strange.write_bytes(b"x")
    catalogue = await opened(home)
    assert await catalogue.reconcile_files() == 5
    assert not strange.exists()
    while await catalogue.catch_up_files():
        pass
    await catalogue.close()
    assert len(files(home)) == 20
    assert set(kept) < set(files(home))


async def test_damaged_file_is_told_and_not_believed(home):
    catalogue = await opened(home)
    await catalogue.commit_turn(turn_commit([1]))
    await catalogue.close()
    (file,) = files(home)
    data = bytearray(file.read_bytes())
    for place in (0, 9, 30, len(data) - 1):
        bad = bytearray(data)
        bad[place] ^= 1
        file.write_bytes(bad)
        with pytest.raises(SessionDamagedError):
            read_session(file)
    (damaged,) = newest_sessions(home / "sessions")
    assert isinstance(damaged, SessionDamagedError)


async def test_file_that_cannot_be_written_costs_no_turn(home):
    catalogue = await opened(home)
    (home / "sessions").rmdir()
    assert (await catalogue.commit_turn(turn_commit([1]))).turn == 1
    (home / "sessions").mkdir()
    assert await catalogue.catch_up_files() == 0
    await catalogue.close()
    assert len(files(home)) == 1
