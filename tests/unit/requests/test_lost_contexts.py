"""A request whose context is read from files loses a block of it: it begins again, not for ever."""

from types import SimpleNamespace

import pytest
from tests.support.models.records import model_record

from hotseat.protocol.link_reports import ContextLost, Prefilled
from hotseat.protocol.messages import Generate
from hotseat.supervisor.requests.running import MAX_BLOCKS_LOST, WorkRuns
from hotseat.supervisor.requests.worker_reports import WorkerReports
from hotseat.supervisor.requests.works import Works, WorkState

LOST = ContextLost(request="r", reason="block 12 of the context cannot be read: digest of a part")


class Desk:
    """One running request; `ended` is how it ended."""

    def __init__(self):
        self.works, self.ended = Works(), []
        ends = SimpleNamespace(fail=self._fail, cancelled=self._cancelled)
        outbox = SimpleNamespace(progress=lambda *_: None, note_for=lambda *_: None)
        self.runs = WorkRuns(
            works=self.works,
            abandoned=None,
            turns=None,
            ends=ends,
            suspended=None,
            outbox=outbox,
            events=None,
            seat=None,
        )
        self._reports = WorkerReports(self.works, self.runs, ends, outbox, None, None)
        self.work = self.works.create("r", "r", "c", Generate(model="m", prompt="x"))
        self.work.record = model_record("m")

    async def _fail(self, _work, error):
        self.ended.append(error)

    async def _cancelled(self, _work):
        self.ended.append("cancelled")

    async def lose_block(self, reached=0):
        self.work.state = WorkState.RUNNING
        if reached:
            self._reports.hear(Prefilled(request="r", tokens_done=reached))
        self._reports.hear(LOST)
        await self.runs.settle()


@pytest.fixture
def desk():
    return Desk()


async def test_request_that_lost_a_block_waits_for_its_next_start(desk):
    await desk.lose_block()
    assert (desk.work.state, desk.work.phase) == (WorkState.WAITING, "queued")
    assert desk.works.changed.is_set()
    assert [entry.key for entry in desk.works.startable()] == ["r"]
    assert not desk.work.suspicion.is_suspect


async def test_request_that_loses_blocks_in_a_row_ends_with_the_way_out(desk):
    for _ in range(MAX_BLOCKS_LOST):
        assert desk.ended == []
        await desk.lose_block()
    (error,) = desk.ended
    assert (error.code, error.facts) == ("worker_lost", {"blocks_lost": MAX_BLOCKS_LOST})
    assert error.message.startswith(LOST.reason)
    assert error.message.endswith("check the disk under the folder kv of the home, then ask again")


async def test_request_that_gets_further_in_between_goes_on(desk):
    for reached in range(1, 3 * MAX_BLOCKS_LOST):
        await desk.lose_block(reached)
    assert desk.ended == []


async def test_request_cancelled_before_it_begins_again_ends_cancelled(desk):
    desk.work.cancel_asked = True
    await desk.lose_block()
    assert desk.ended == ["cancelled"]
