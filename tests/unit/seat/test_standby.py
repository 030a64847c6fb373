"""The standby by itself, as processes that are no workers at all."""

import asyncio
import json
import sys
from types import SimpleNamespace

import pytest
from tests.support.models.records import model_record
from tests.support.stub_worker import COMMAND

from hotseat.protocol.exits import EX_GPU, EX_INTERNAL
from hotseat.protocol.ids import Epoch
from hotseat.protocol.installed_code import Code
from hotseat.protocol.link_reports import PREPARING, Beat, KernelsWarmed, LoadProgress
from hotseat.supervisor.loop.rhythm import Rhythm
from hotseat.supervisor.machine.locks import SeatLock
from hotseat.supervisor.machine.running_code import RunningCode
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.seat import standby as standby_module
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.seat.standby import Seatable, Standby
from hotseat.supervisor.seat.worker_process import COMMAND_VARIABLE
from hotseat.supervisor.settings.home import Home

# Lives and says nothing until it is killed.
# Has to live until it is killed.
MUTE = [sys.executable, "-c", "import time; time.sleep(600)"]
ENDED_S = 30.0
SHOWN = "by both"


@pytest.fixture
async def started(tmp_path, monkeypatch):
    """A standby that never says hello, and the list of processes that ended."""
    monkeypatch.setenv(COMMAND_VARIABLE, json.dumps(MUTE))
    home = Home.find(tmp_path)
    home.create()
    ended = asyncio.Queue()
    host = SimpleNamespace(reaped=ended.put_nowait, awaits_first_token=False)
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
    assert standby._own.taken_bytes == 0, "nobody measured it"
    taken.process.signal(standby_module.signal.SIGKILL)
    await asyncio.wait_for(ended.get(), ENDED_S)
    taken.link.close()


class Disk:
    """Code that a test says is installed."""

    def __init__(self):
        self.code = Code(version="1", digest="old")

    def read(self):
        return self.code


@pytest.fixture
def standby_of(tmp_path, monkeypatch):
    """Makes a standby whose workers are stubs of the code under test, beside `disk`."""
    monkeypatch.setenv(COMMAND_VARIABLE, json.dumps(COMMAND))
    home = Home.find(tmp_path)
    home.create()
    lock = SeatLock(tmp_path / "seat.lock")

    def make(disk):
        seat = Seat(RunningCode(disk))
        host = SimpleNamespace(standby_greeted=lambda _hello: None, awaits_first_token=False)
        return Standby(home, seat, lock, OwnMemory(), Rhythm(lambda: True), host, enabled=True)

    yield make
    lock.close()


async def until(is_so):
    async with asyncio.timeout(ENDED_S):
        while not is_so():  # noqa: ASYNC110 - the standby tells nobody
            await asyncio.sleep(0.01)  # between two looks at it


async def test_standby_of_other_code_is_ended_and_no_other_started(standby_of):
    standby = standby_of(Disk())
    standby.start_soon(0.0)
    await until(lambda: standby.pid is not None)
    await until(lambda: standby.pid is None)
    assert not standby.is_greeted and standby._timer is None
    await standby.close()


async def test_no_standby_is_started_once_the_code_was_replaced(standby_of):
    disk = Disk()
    standby = standby_of(disk)
    disk.code = Code(version="2", digest="new")
    standby._start(latest=0.0)
    assert standby._starting is None
    await standby.close()


class Prompt:
    """A host whose worker computes a prompt; counts how often that was asked."""

    is_computed = False
    looks = 0

    @property
    def awaits_first_token(self):
        self.looks += 1
        return not self.is_computed

    def standby_greeted(self, hello):
        pass


async def test_standby_starts_once_the_first_token_is_there(standby_of, monkeypatch):
    monkeypatch.setattr(standby_module, "LOOK_S", 0.01)
    standby = standby_of(Disk())
    prompt = standby._host = Prompt()
    standby.start_soon(0.0)
    await until(lambda: prompt.looks > 3)
    assert standby._timer is not None and standby._starting is None
    prompt.is_computed = True
    await until(lambda: standby.pid is not None)
    await standby.close()


async def test_standby_waits_for_no_prompt_longer_than_its_limit(standby_of, monkeypatch):
    monkeypatch.setattr(standby_module, "LOOK_S", 0.01)
    monkeypatch.setattr(standby_module, "LONGEST_DELAY_S", 0.05)
    standby = standby_of(Disk())
    standby._host.awaits_first_token = True
    standby.start_soon(0.0)
    await until(lambda: standby.pid is not None)
    await standby.close()


class Link:
    """Of a standby that is no process: notes what it is sent."""

    def __init__(self):
        self.sent = []
        self.send = self.sent.append

    def close(self):
        pass


@pytest.fixture
def greeted(standby_of):
    """A standby that is ready as far as it knows, and its link."""
    standby = standby_of(Disk())

    def make():
        process = SimpleNamespace(pid=7, secret=SHOWN)
        standby._ready = Seatable(Epoch(1), Link(), process)
        standby._ready.link.hello = SimpleNamespace(token=SHOWN)
        return standby, standby._ready.link

    return make


def beat(phase, **held):
    return Beat(phase=phase, step=0, busy=False, peak_bytes=0, live_kv_bytes=0, **held)


async def test_what_layers_for_kernels_hold_is_as_good_as_available(greeted):
    standby, link = greeted()
    held = {"active_bytes": 300, "cache_bytes": 20, "blank_bytes": 1000}
    standby._receive(link, Epoch(1), beat(PREPARING, **held))
    assert standby._own.ready_bytes == 1320
    standby._receive(link, Epoch(1), KernelsWarmed(model="a", seconds=1.0))
    standby._receive(link, Epoch(1), beat("empty", **held))
    assert standby._own.ready_bytes == 1000


async def test_what_a_standby_holds_is_noted_until_it_acts_as_a_worker(greeted):
    standby, link = greeted()
    standby.prepare(model_record(name="a"), warm_pages=False, free_floor_bytes=0)
    standby._note_held()
    assert list(standby._own.tokenizers_of) == ["a"]
    standby._own.standby_bytes = 300
    standby._host.receive = lambda *_: None
    await standby.take(Epoch(1))
    standby._receive(link, Epoch(1), beat("empty", active_bytes=0, cache_bytes=0))
    assert (standby._own.standby_bytes, standby._own.taken_bytes) == (0, 300)
    assert list(standby._own.tokenizers_of) == ["a"], "there is no other one"
    standby._receive(link, Epoch(1), LoadProgress(bytes_done=1, bytes_total=2))
    assert standby._own.taken_bytes == 0


@pytest.mark.parametrize(("returncode", "limit"), [(EX_GPU, 0), (EX_INTERNAL, 5), (-9, 5)])
async def test_standby_after_one_that_lost_the_gpu_runs_nothing_on_it(greeted, returncode, limit):
    standby, link = greeted()
    options = {"warm_pages": False, "free_floor_bytes": 0, "kernels_limit_bytes": 5}
    standby.prepare(model_record(name="a"), **options)
    assert link.sent[-1].kernels_limit_bytes == 5
    standby.start_soon = lambda _delay: None
    standby._reaped(SimpleNamespace(pid=7, returncode=returncode))
    _, link = greeted()
    standby.prepare(model_record(name="a"), **options)
    assert link.sent[-1].kernels_limit_bytes == limit
