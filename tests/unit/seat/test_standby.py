"""The standby by itself, as processes that are no workers at all."""

import asyncio
import json
import sys
from types import SimpleNamespace

import pytest

from hotseat.protocol.ids import Epoch
from hotseat.supervisor.loop.rhythm import Rhythm
from hotseat.supervisor.machine.locks import SeatLock
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.seat import standby as standby_module
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.seat.standby import Standby
from hotseat.supervisor.seat.worker_process import COMMAND_VARIABLE
from hotseat.supervisor.settings.home import Home

# Lives and says nothing until it is killed.
MUTE = [sys.executable, "-c", "import time; time.sleep(600)"]
ENDED_S = 30.0


@pytest.fixture
async def started(tmp_path, monkeypatch):
    """A standby that never says hello, and the list of processes that ended."""
    monkeypatch.setenv(COMMAND_VARIABLE, json.dumps(MUTE))
    home = Home.find(tmp_path)
    home.create()
    ended = asyncio.Queue()
    host = SimpleNamespace(reaped=ended.put_nowait)
    lock = SeatLock(tmp_path / "seat.lock")
    standby = Standby(home, Seat(), lock, OwnMemory(), Rhythm(lambda: True), host, enabled=True)
    standby.start_soon(0.0)
    async with asyncio.timeout(ENDED_S):
        while standby.pid is None:  # noqa: ASYNC110 - it tells nobody when it has started
            await asyncio.sleep(0.01)  # between two looks at its pid
    yield standby, ended
    await standby.close()
    lock.close()


async def test_standby_that_never_said_hello_is_ended_instead_of_taken(started, monkeypatch):
    standby, ended = started
    pid = standby.pid
    monkeypatch.setattr(standby_module, "START_S", 0.0)
    assert await standby.take(Epoch(3)) is None
    gone = await asyncio.wait_for(ended.get(), ENDED_S)
    assert (gone.pid, gone.epoch) == (pid, 0), "its end must not be taken for the next worker's"


async def test_standby_older_than_a_change_of_the_machine_is_ended_instead_of_taken(started):
    standby, ended = started
    pid = standby.pid
    assert await standby.take(Epoch(3), is_outdated=True) is None
    gone = await asyncio.wait_for(ended.get(), ENDED_S)
    assert (gone.pid, gone.epoch) == (pid, 0)


async def test_standby_that_is_still_starting_is_taken(started):
    standby, ended = started
    pid = standby.pid
    taken = await standby.take(Epoch(4))
    assert (taken.process.pid, taken.epoch) == (pid, 4)
    assert standby.is_untried(pid), "it has said nothing yet"
    taken.process.signal(standby_module.signal.SIGKILL)
    await asyncio.wait_for(ended.get(), ENDED_S)
    taken.link.close()
