"""The gate between two models opens when memory is back, and for what was stranded never again."""

import asyncio
from types import SimpleNamespace

import pytest

from hotseat.protocol.limits import GIB
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.seat.host import SwapFigures
from hotseat.supervisor.seat.memory_gate import MemoryGate


class Machine:
    """Memory that the test decides; every model needs 2 GiB."""

    def __init__(self):
        self.wired = 2 * GIB
        self.gate = MemoryGate(
            SimpleNamespace(machine=self.machine, bytes_to_seat=lambda _model: 2 * GIB)
        )
        self.waits = True
        self.looked = asyncio.Event()

    def machine(self):
        self.looked.set()
        return MachineMemory(
            total_bytes=24 * GIB, available_bytes=8 * GIB, wired_bytes=int(self.wired)
        )

    async def wait(self, model="b"):
        return await self.gate.wait(lambda: (self.waits, model), SwapFigures())


@pytest.fixture
async def machine():
    """A model was seated while 2 GiB were wired; its pages are wired now."""
    made = Machine()
    assert await made.wait("a")
    made.wired = 12 * GIB
    return made


async def test_gate_stays_shut_while_pages_of_the_model_before_are_wired(machine):
    waiting = asyncio.create_task(machine.wait())
    for _ in range(3):
        machine.looked.clear()
        await asyncio.wait_for(machine.looked.wait(), 10)
    assert not waiting.done()
    machine.wired = 2 * GIB
    assert await asyncio.wait_for(waiting, 10)


async def test_stranded_pages_keep_nobody_out_who_asks_at_once(machine):
    waiting = asyncio.create_task(machine.wait())
    await asyncio.sleep(0)  # it waits
    machine.gate.strand()
    again = asyncio.create_task(machine.wait())  # before the first one has looked again
    assert await asyncio.wait_for(again, 10)
    machine.waits = False
    await asyncio.wait_for(waiting, 10)
