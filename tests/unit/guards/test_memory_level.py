"""Readings of memory and what is due because of them: one step at a time, none when it is calm."""

from types import SimpleNamespace

import pytest

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB
from hotseat.supervisor.events.figures import Figures
from hotseat.supervisor.guards.memory_level import MemoryLevel
from hotseat.supervisor.guards.rules.pressure import Level, SuspendYoungest
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.requests.works import WorkState
from hotseat.supervisor.seat.rules.states import Phase, SeatState
from hotseat.supervisor.seat.seat import Seat
from hotseat.supervisor.settings.values import Settings

CRITICAL = 4


class Machine:
    """Memory that the test decides, with one request on the worker."""

    def __init__(self):
        self.level = CRITICAL
        seat = Seat()
        seat.state = SeatState(phase=Phase.READY, model="a", epoch=1)
        seat.beat = SimpleNamespace(live_sessions=())
        memory = MachineMemory(total_bytes=24 * GIB, available_bytes=12 * GIB)
        probe = SimpleNamespace(machine=lambda: memory, pressure=lambda: self.level)
        planner = SimpleNamespace(probe=probe, own=OwnMemory(), settings=Settings())
        works = SimpleNamespace(running=1, in_state=lambda *_: [WorkState.RUNNING])
        self.memory = MemoryLevel(planner, seat, works, Figures(), Settings())


@pytest.fixture
def machine():
    return Machine()


def test_step_that_was_not_taken_yet_is_not_due_twice(machine):
    for now in (0.0, 1.1, 2.2, 3.3):
        machine.memory.look(now)
    assert machine.memory.state.level is Level.CRITICAL
    assert machine.memory.take_due() == (SuspendYoungest(),)
    assert machine.memory.take_due() == ()


def test_step_is_not_taken_any_more_when_memory_is_back(machine):
    machine.memory.look(0.0)
    machine.level = 1
    for now in (10.0, 20.1, 30.2, 40.3):
        machine.memory.look(now)
    assert not machine.memory.is_short
    assert machine.memory.take_due() == ()


def test_nothing_new_begins_while_memory_is_critical(machine):
    with pytest.raises(HotseatError) as refused:
        machine.memory.refuse_new()
    assert refused.value.code == "memory_pressure"
