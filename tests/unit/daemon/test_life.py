"""The end of a daemon comes, also when something on the way to it is defect."""

import asyncio
from types import SimpleNamespace

import pytest

from hotseat.supervisor.daemon.life import Life
from hotseat.supervisor.dispatch.releases import Releases
from hotseat.supervisor.requests.works import Works
from hotseat.supervisor.seat.rules.states import Phase, SeatState


class Parts:
    """A life around parts of which one may be defect."""

    def __init__(self):
        self.emptied = asyncio.Event()
        self.runner = SimpleNamespace(
            seat=SimpleNamespace(state=SeatState(phase=Phase.READY, model="a")), feed=self.feed
        )
        self.swaps = SimpleNamespace(next_number=lambda: 1, end_all=self.end_all)
        self.life = Life(
            works=Works(),
            runs=None,
            runner=self.runner,
            dispatcher=SimpleNamespace(close=lambda: None),
            swaps=self.swaps,
            releases=Releases(),
            events=SimpleNamespace(publish=lambda *_, **__: None),
            emptied=self.emptied,
        )

    def feed(self, event):
        self.runner.seat.state = SeatState(phase=Phase.DRAINING, model="a", plan=event.plan)

    async def end_all(self, _error):
        pass

    def defect(self, *_):
        raise ValueError


@pytest.fixture
async def parts():
    return Parts()


async def settle(parts):
    parts.life.stop()
    await parts.life._tasks.settle()


async def test_daemon_lives_on_until_the_seat_is_empty(parts):
    await settle(parts)
    assert not parts.emptied.is_set()
    parts.emptied.set()
    await asyncio.wait_for(parts.life.over(), 10)


async def test_daemon_whose_seat_cannot_be_told_ends_at_once(parts):
    parts.runner.feed = parts.defect
    await settle(parts)
    await asyncio.wait_for(parts.life.over(), 10)


async def test_defect_behind_the_seat_leaves_the_drain_its_time(parts):
    parts.swaps.end_all = parts.defect
    await settle(parts)
    assert not parts.emptied.is_set()
    parts.emptied.set()
    await asyncio.wait_for(parts.life.over(), 10)
