"""How often a turn asks the system to keep what was written, by kind, as a Mac would count it.

Files, rows and commits are the real ones; `fsync` and `fcntl` are a table that counts. What SQLite
asks for by itself is settled by its pragmas (`tests/unit/catalogue/test_store.py`).
"""

import os
import stat
from collections import Counter

import pytest
from tests.support.engine.kv_payloads import TAG, make_chain
from tests.support.models.records import accept_record, model_record, turn_commit

from hotseat.protocol.ids import Epoch, RequestKey
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_reports import Lookup
from hotseat.protocol.tokens import unpack_tokens
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.machine.drives import Drives
from hotseat.worker.store.folders import prepare_kv_dir
from hotseat.worker.store.writer import WriterThread

F_FULLFSYNC = 51
RECORD = model_record(tag=TAG)


class Calls:
    """The table: full flushes, syncs by kind, and how many files each flush made durable."""

    def __init__(self, monkeypatch):
        self.counted = Counter()
        self.flushed = []
        self._fsync = os.fsync
        self._unflushed = 0
        monkeypatch.setattr(os, "fsync", self.fsync)

    def fsync(self, fd):
        is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        self.counted["folder" if is_folder else "file"] += 1
        self._unflushed += not is_folder
        self._fsync(fd)

    def control(self, _fd, command):
        assert command == F_FULLFSYNC
        self.counted["full"] += 1
        self.flushed.append(self._unflushed)
        self._unflushed = 0


class Told:
    def publish(self, *_args, **_facts):
        pass


class Home:
    """Catalogue, session files and KV, and a worker's writer whose reports the keeper commits."""

    def __init__(self, catalogue, folder):
        self.catalogue = catalogue
        self.kv = folder
        self.keeper = KvKeeper(catalogue, folder, Told(), lambda _: None, lambda *_: None)

    async def turn(self, number, blocks):
        """What is made durable of one turn, in order: accept, blocks, turn and reply."""
        accepted = accept_record(f"r{number}")
        await self.catalogue.accept(accepted)
        ids = tuple(block for block, _ in blocks)
        self.keeper.lookup(Lookup(request=RequestKey("k"), blocks=ids), RECORD, "s")
        await self.keeper.flush()
        reports = []
        writer = WriterThread(self.kv / TAG, TAG, Epoch(1), reports.append)
        for index, (block, payload) in enumerate(blocks):
            writer.put_block(payload, block, index)
        writer.after_written(lambda _failures: None)
        writer.drain()
        writer.stop()
        for report in reports:
            self.keeper.block_written(report, RECORD)
        tokens = [token for _, payload in blocks for token in unpack_tokens(payload.tokens)]
        turn = turn_commit([*tokens, 1, 2, 3], tag=TAG, key=accepted.key, reply=b"reply")
        await self.catalogue.commit_turn(turn)
        await self.keeper.flush()


@pytest.fixture
def calls(monkeypatch):
    return Calls(monkeypatch)


@pytest.fixture
async def home(calls, tmp_path):
    prepare_kv_dir(tmp_path / "kv" / TAG)
    (tmp_path / "sessions").mkdir()
    drives = Drives(tmp_path, tmp_path / "kv", control=calls.control)
    catalogue = await Catalogue.open(
        tmp_path / "catalogue.sqlite", tmp_path / "sessions", drives=drives
    )
    calls.counted.clear()
    yield Home(catalogue, tmp_path / "kv")
    await catalogue.close()


async def test_short_turn_flushes_the_drive_twice(calls, home):
    await home.turn(1, [])
    assert calls.counted == {"full": 2, "file": 1, "folder": 1}
    assert calls.flushed[-1] == 1, "the session's file was handed over before"


async def test_turn_of_1464_tokens_flushes_the_drive_twice(calls, home):
    await home.turn(1, [])
    calls.counted.clear()
    chain = make_chain(1464 // BLOCK_TOKENS)
    await home.turn(2, chain)
    assert calls.counted["full"] == 2
    assert calls.flushed[-1] == len(chain) + 1, "all blocks were handed over before the one flush"


async def test_blocks_of_one_turn_of_the_loop_share_a_commit(calls, home, monkeypatch):
    commits = []
    add_blocks = Catalogue.add_blocks

    async def counted(self, rows):
        commits.append(len(rows))
        return await add_blocks(self, rows)

    monkeypatch.setattr(Catalogue, "add_blocks", counted)
    await home.turn(1, make_chain(5))
    assert commits == [5]
