"""Weights that one request needs cannot be read: it ends with the reason, others go on."""

from types import SimpleNamespace

import pytest
from tests.support.models.records import model_record

from hotseat.protocol.exits import EX_WEIGHTS
from hotseat.protocol.messages import Generate
from hotseat.supervisor.requests.running import WorkRuns
from hotseat.supervisor.requests.works import Works, WorkState
from hotseat.supervisor.seat.rules.worker_exits import describe_exit

UNREADABLE = describe_exit(
    EX_WEIGHTS, (), ("worker: /w failed at byte 9 (Input/output error)",), epoch=1, model="big"
)


class Desk:
    """Two running requests; `ended` are errors by request."""

    def __init__(self):
        self.works, self.ended = Works(), {}
        self.runs = WorkRuns(
            works=self.works,
            abandoned=None,
            turns=None,
            ends=SimpleNamespace(fail=self._fail),
            suspended=None,
            outbox=None,
            events=None,
            seat=None,
        )
        for key in ("asks", "stands by"):
            work = self.works.create(key, key, "c", Generate(model="big", prompt="x"))
            work.record = model_record("big")
            work.state = WorkState.WAITING

    async def _fail(self, work, error):
        self.ended[work.key] = error
        self.works.mark_ended(work)

    async def run_until_weights_fail(self):
        """Whoever may start does, gets further, and loses its worker; who that was."""
        started = [entry.key for entry in self.works.startable()]
        for key in started:
            work = self.works.get(key)
            work.state = WorkState.RUNNING
            assert work.reach(work.reached_tokens + 1)
        self.runs.running_lost(UNREADABLE)
        await self.runs.settle()
        return started


@pytest.fixture
def desk():
    return Desk()


async def test_request_that_asks_for_them_again_and_again_ends_however_far_it_gets(desk):
    rounds = [await desk.run_until_weights_fail() for _ in range(3)]
    assert rounds == [["asks", "stands by"], ["asks", "stands by"], ["asks"]]
    error = desk.ended.pop("asks")
    assert (error.code, error.facts["deaths"]) == ("model_unavailable", 3)
    assert error.message.startswith("weights of big cannot be read: /w failed at byte 9")
    assert "put the file back as it was, or import the model again" in error.message
    assert desk.ended == {}
    assert [entry.key for entry in desk.works.startable()] == ["stands by"]


async def test_nobody_joins_whoever_was_there_twice_until_it_ends(desk):
    for _ in range(2):
        await desk.run_until_weights_fail()
    late = desk.works.create("late", "late", "c", Generate(model="big", prompt="x"))
    late.state = WorkState.WAITING
    first = desk.works.get("asks")
    first.state = WorkState.RUNNING
    assert first.reach(100)
    assert desk.works.startable() == []
    desk.works.mark_ended(first)
    assert [entry.key for entry in desk.works.startable()] == ["stands by"]
    desk.works.mark_ended(desk.works.get("stands by"))
    assert [entry.key for entry in desk.works.startable()] == ["late"]
