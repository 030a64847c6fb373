"""The gate between two models opens when memory is available; pages that stay wired are told of."""

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotseat.protocol.limits import GIB
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.seat.host import SwapFigures
from hotseat.supervisor.seat.memory_gate import MemoryGate
from hotseat.supervisor.seat.rules.states import Phase
from hotseat.supervisor.seat.rules.wired import (
    MAX_STRANDED,
    STRANDED_BYTES,
    Strands,
    Wired,
    after_end,
    not_back_bytes,
    wired_of_worker,
)
from hotseat.supervisor.seat.runner import SeatRunner

LONG_S = 60.0
"""Longer than any wait here: a gate that opens did not do so because time was up."""


class Machine:
    """Memory that the test decides; every model needs 2 GiB, the worker holds 10."""

    def __init__(self):
        self.wired = 2 * GIB
        self.available = 8 * GIB
        own = OwnMemory()
        own.worker_bytes = 10 * GIB
        self.gate = MemoryGate(
            SimpleNamespace(
                machine=self.machine,
                probe=self,
                own=own,
                bytes_to_seat=lambda _model, _machine: 2 * GIB,
            )
        )
        self.waits = True
        self.looked = asyncio.Event()
        self.figures = SwapFigures()

    def machine(self):
        self.looked.set()
        return MachineMemory(
            total_bytes=24 * GIB, available_bytes=self.available, wired_bytes=self.wired
        )

    async def wait(self, model="b", wired_wait_s=LONG_S):
        self.figures = SwapFigures()
        return await self.gate.wait(
            lambda: (self.waits, model), self.figures, wired_wait_s=wired_wait_s
        )

    async def look(self, times=3):
        for _ in range(times):
            self.looked.clear()
            await asyncio.wait_for(self.looked.wait(), 10)


@pytest.fixture
async def machine():
    """A model was seated while 2 GiB were wired; it wired 10 more and is told to end."""
    made = Machine()
    assert await made.wait("a")
    made.wired = 12 * GIB
    made.gate.note_end(made.figures)
    return made


async def opens(waiting):
    return await asyncio.wait_for(waiting, 10)


async def test_gate_waits_for_the_pages_of_the_worker_that_ended(machine):
    waiting = asyncio.create_task(machine.wait())
    await machine.look()
    assert not waiting.done()
    machine.wired = 2 * GIB
    assert await opens(waiting)
    assert machine.figures.memory.wired_not_back_bytes == 0


async def test_what_other_programs_wire_meanwhile_holds_nothing_up(machine):
    machine.wired = 4 * GIB  # of the worker's ten all came back, and others took two
    assert await opens(machine.wait())
    assert machine.figures.memory.wired_not_back_bytes == 0


async def test_pages_that_stay_wired_are_told_of_and_no_fault(machine):
    assert await opens(machine.wait(wired_wait_s=0.05))
    assert machine.figures.memory.wired_not_back_bytes == 10 * GIB
    assert await opens(machine.wait("c")), "they are waited for once"
    assert machine.figures.memory.wired_not_back_bytes == 0


async def test_available_memory_is_waited_for_however_little_is_wired(machine):
    machine.wired, machine.available = 0, GIB
    waiting = asyncio.create_task(machine.wait(wired_wait_s=0.01))
    await machine.look(5)
    assert not waiting.done()
    machine.available = 2 * GIB
    assert await opens(waiting)


async def test_model_that_the_system_had_unwired_at_rest_is_not_waited_for(machine):
    machine.wired = 3 * GIB
    machine.gate.note_end(machine.figures)
    machine.wired = 3 * GIB - GIB // 2  # a desktop that changed, no more
    waiting = asyncio.create_task(machine.wait(wired_wait_s=LONG_S))
    await machine.look()
    assert not waiting.done(), "one GiB was wired by the worker, and is looked for"
    machine.wired = 2 * GIB
    assert await opens(waiting)


async def test_stranded_pages_keep_nobody_out_who_asks_at_once(machine):
    waiting = asyncio.create_task(machine.wait())
    await asyncio.sleep(0)  # it waits
    machine.gate.strand()
    again = asyncio.create_task(machine.wait())  # before the first one has looked again
    assert await opens(again)
    machine.waits = False
    await opens(waiting)


async def end_stranding(machine, stranded):
    """A worker that held 10 GiB ends and leaves so much of them wired; the next one is seated."""
    machine.wired = base = 2 * GIB
    assert await machine.wait("a")
    machine.wired = base + 10 * GIB
    machine.gate.note_end(machine.figures)
    machine.wired = base + stranded
    assert await machine.wait(wired_wait_s=0.01)
    return machine.gate.strands


async def test_ends_in_a_row_that_strand_pages_are_counted_until_some_come_back(machine):
    await opens(machine.wait(wired_wait_s=0.01))
    counts = []
    for stranded in (5 * GIB, 5 * GIB, 5 * GIB, GIB // 2, 5 * GIB):
        counts.append((await end_stranding(machine, stranded)).in_a_row)
    assert counts[1:] == [counts[0] + 1, counts[0] + 2, 0, 1]


async def test_gate_that_follows_no_end_judges_nothing(machine):
    strands = await end_stranding(machine, 5 * GIB)
    assert await opens(machine.wait())
    assert machine.gate.strands == strands


async def test_wired_memory_before_an_end_is_in_the_report_of_a_restart_too(machine):
    assert machine.figures.memory.wired_before == 12 * GIB


@pytest.mark.parametrize("phase", list(Phase))
def test_end_that_nobody_asked_for_is_looked_at_before_its_footprint_is_forgotten(phase):
    calls = []
    runner = SimpleNamespace(
        seat=SimpleNamespace(state=SimpleNamespace(phase=phase)),
        _gate=SimpleNamespace(note_end=lambda _figures: calls.append("noted")),
        _messages=SimpleNamespace(reaped=lambda _ended: calls.append("told")),
        _figures=SwapFigures(),
    )
    SeatRunner.reaped(runner, None)
    assert calls == (["told"] if phase is Phase.STOPPING else ["noted", "told"])


@pytest.mark.parametrize(
    ("missing", "in_a_row"),
    [
        ([2 * GIB] * 3, 3),
        ([2 * GIB, 2 * GIB, STRANDED_BYTES], 0),
        ([2 * GIB, 0, 2 * GIB], 1),
        ([2 * GIB, None], 0),
        ([STRANDED_BYTES + 1] * 2, 2),
    ],
)
def test_only_ends_in_a_row_ask_for_a_restart(missing, in_a_row):
    known = Strands()
    for not_back in missing:
        known = after_end(known, not_back)
    assert known.in_a_row == in_a_row
    assert known.wants_restart == (in_a_row >= MAX_STRANDED)


@pytest.mark.parametrize(
    ("at_end", "before_load", "footprint", "own"),
    [
        (12 * GIB, 2 * GIB, 9 * GIB, 9 * GIB),  # others wired one meanwhile
        (12 * GIB, 2 * GIB, 11 * GIB, 10 * GIB),  # not all it held was wired
        (3 * GIB, 4 * GIB, 9 * GIB, 0),  # unwired at rest, and others let go
        (12 * GIB, None, 9 * GIB, 9 * GIB),  # seated by a daemon before this one's gate
        (12 * GIB, 2 * GIB, None, 0),  # ended before anybody measured it
    ],
)
def test_own_pages_are_neither_more_than_it_held_nor_than_were_wired(
    at_end, before_load, footprint, own
):
    found = wired_of_worker(at_end, before_load, footprint)
    assert found == Wired(own_bytes=own, at_end_bytes=at_end)


@pytest.mark.parametrize(
    ("now", "missing"),
    [(4 * GIB, 0), (int(4.1 * GIB), 10 * GIB - (12 * GIB - int(4.1 * GIB))), (13 * GIB, 10 * GIB)],
)
def test_four_fifths_are_all(now, missing):
    assert not_back_bytes(Wired(own_bytes=10 * GIB, at_end_bytes=12 * GIB), now) == missing


def test_system_that_does_not_tell_has_nothing_to_wait_for():
    assert wired_of_worker(None, None, 9 * GIB) is None
    assert not_back_bytes(None, None) is None


BYTES = st.integers(0, 64 * GIB)


@given(BYTES, st.none() | BYTES, st.none() | BYTES, BYTES)
def test_missing_pages_are_never_more_than_the_worker_had(at_end, before_load, footprint, now):
    wired = wired_of_worker(at_end, before_load, footprint)
    missing = not_back_bytes(wired, now)
    assert 0 <= missing <= (footprint or 0)
    assert not (missing and now <= (before_load or 0)), "back to the level before the load"
