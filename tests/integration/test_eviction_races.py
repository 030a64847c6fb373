"""Promise: what the catalogue names is on disk, also when a file is evicted while a worker finds it
there and reports it as written.
"""

import asyncio
import random

import pytest
from tests.support.engine.kv_payloads import TAG, make_chain, make_record

from hotseat.protocol.ids import Epoch
from hotseat.protocol.link_orders import Rewrite
from hotseat.protocol.link_reports import BlockWritten
from hotseat.supervisor.catalogue.eviction import Kept
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.events.log import EventLog
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.worker.store.kv_file import read_kv
from hotseat.worker.store.writer import WriterThread

ROUNDS = 40
STEPS = 12
"""Turns of the loop by which one side may be late."""


class Store:
    """The supervisor's half and a worker's writer, both real; evicts everything when told to."""

    def __init__(self, folder, catalogue):
        self.kv_dir = folder / "kv"
        self.catalogue = catalogue
        self.asked_again = []
        events = EventLog(lambda _event: None)
        self.keeper = KvKeeper(
            catalogue, self.kv_dir, events, self.asked_again.append, lambda *_: None
        )
        self.chain = make_chain(3)
        self.record = make_record()
        self._reports = []
        self._writer = WriterThread(self.kv_dir / TAG, TAG, Epoch(1), self._reports.append)

    async def write(self, blocks):
        """Reports of blocks that are on disk now, as new files or as ones found there."""
        self._reports.clear()
        for block in blocks:
            index = [name for name, _ in self.chain].index(block)
            self._writer.put_block(self.chain[index][1], block, index)
        await asyncio.to_thread(self._writer.drain)
        assert all(isinstance(report, BlockWritten) for report in self._reports), self._reports
        return list(self._reports)

    async def commit(self, reports, late=0):
        await turns(late)
        for report in reports:
            self.keeper.block_written(report, self.record)

    async def evict(self, late=0):
        """All of it, as the disk tier does it."""
        await turns(late)
        evicted = await self.catalogue.evict(float("inf"), Kept())
        await self.keeper.unlink(list(evicted.files))
        return len(evicted.files)

    async def settle(self):
        """Until nothing is asked to be written again."""
        assert await self.keeper.flush() is None
        while self.asked_again:
            wanted = [message.block for message in self.asked_again]
            assert all(isinstance(message, Rewrite) for message in self.asked_again)
            self.asked_again.clear()
            await self.commit(await self.write(wanted))
            assert await self.keeper.flush() is None

    async def check(self):
        """Every file that is named is there and right; the number of them."""
        payloads = {payload.tokens: payload for _, payload in self.chain}
        named = await self.catalogue.files(TAG)
        for file in named:
            found = read_kv(self.kv_dir / TAG, file, tag=TAG, parent=None, tokens=None)
            assert found.parent == payloads[bytes(found.tokens)].parent
        return len(named)

    def close(self):
        self._writer.stop()


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)  # what is counted: turns of the loop


@pytest.fixture
async def store(tmp_path):
    catalogue = await Catalogue.open(tmp_path / "catalogue.sqlite")
    made = Store(tmp_path, catalogue)
    await made.commit(await made.write([block for block, _ in made.chain]))
    await made.settle()
    assert await made.check() == 3
    yield made
    made.close()
    await catalogue.close()


async def test_block_that_was_evicted_after_the_worker_found_it_is_written_again(store):
    found = await store.write([block for block, _ in store.chain])
    assert not any(report.is_new for report in found)
    assert await store.evict() == 3
    await store.commit(found)
    await store.keeper.flush()
    assert len(store.asked_again) == 3
    await store.settle()
    assert await store.check() == 3


async def test_commits_and_evictions_in_any_order_leave_no_name_without_its_file(store):
    chance = random.Random(17)
    blocks = [block for block, _ in store.chain]
    outcomes = set()
    for number in range(ROUNDS):
        found = await store.write(blocks)
        commits = store.commit(found, late=chance.randrange(STEPS))
        if number % 8 == 0:  # once in a while one of them is over before the other begins
            await commits
            await store.keeper.flush()
            evicted = await store.evict()
        else:
            evicted, _ = await asyncio.gather(store.evict(late=chance.randrange(STEPS)), commits)
        await store.keeper.flush()
        outcomes.add((evicted > 0, bool(store.asked_again)))
        await store.settle()
        await store.check()
        await store.commit(await store.write(blocks))
        await store.settle()
    assert (True, True) in outcomes, "no commit ever came late"
    assert (True, False) in outcomes, "no commit ever came early"
