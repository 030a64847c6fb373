"""When the end of a worker process is told, beside the walk over all processes for what it left."""

import asyncio
import json
import sys
import threading

import pytest

from hotseat.protocol.ids import Epoch
from hotseat.supervisor.seat import worker_process
from hotseat.supervisor.seat.worker_process import COMMAND_VARIABLE, spawn_worker

DEADLINE_S = 30.0


class Walk:
    """The walk, as long as the test wants it to take; it finds process 77."""

    def __init__(self):
        self.began = threading.Event()
        self.may_end = threading.Event()

    def __call__(self, _mark):
        self.began.set()
        assert self.may_end.wait(DEADLINE_S)
        return [77]


@pytest.fixture
def walk(monkeypatch):
    made = Walk()
    monkeypatch.setattr(worker_process, "end_leftovers", made)
    yield made
    made.may_end.set()


async def start(tmp_path, monkeypatch, code):
    """A worker that ends at once with that code, and the queue its end is told to."""
    command = [sys.executable, "-c", f"raise SystemExit({code})"]
    monkeypatch.setenv(COMMAND_VARIABLE, json.dumps(command))
    told = asyncio.Queue()
    process = await spawn_worker(tmp_path / "link", Epoch(1), told.put_nowait, "mark")
    return process, told


async def test_end_in_order_is_told_without_waiting_for_the_walk(tmp_path, monkeypatch, walk):
    process, told = await start(tmp_path, monkeypatch, 0)
    ended = await asyncio.wait_for(told.get(), DEADLINE_S)
    assert (ended.returncode, ended.leftovers) == (0, ())
    assert not walk.may_end.is_set()
    assert await asyncio.to_thread(walk.began.wait, DEADLINE_S), "it is looked for all the same"
    walk.may_end.set()
    await process.wait()


async def test_end_nobody_asked_for_is_told_with_what_was_left(tmp_path, monkeypatch, walk):
    process, told = await start(tmp_path, monkeypatch, 3)
    assert await asyncio.to_thread(walk.began.wait, DEADLINE_S)
    assert told.empty()
    walk.may_end.set()
    await process.wait()
    assert told.get_nowait().leftovers == (77,)
