"""A room that is held is never read into, whatever order layers come in and whatever fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hotseat.worker.streaming.rooms import Rooms


class Disk:
    """Contents of rooms as a reader that takes its time would leave them."""

    def __init__(self, rooms):
        self.content = [None] * rooms
        self.under_way = {}
        self.fails = None

    def begin(self, owner, room):
        assert room not in self.under_way, "two reads into one room"
        self.content[room] = "torn"
        self.under_way[room] = owner
        return room

    def finish(self, room):
        owner = self.under_way.pop(room)
        if owner == self.fails:
            raise OSError("no such block")
        self.content[room] = owner


class Passing(RuleBasedStateMachine):
    """A step that may break off anywhere, over layers of which some hold their room for a while."""

    @initialize(rooms=st.integers(1, 4), layers=st.integers(1, 7))
    def start(self, rooms, layers):
        self.disk = Disk(rooms)
        self.layers = layers
        self.rooms = Rooms(rooms, range(layers), self.disk.begin, self.disk.finish)
        self.held = {}
        self.following = 0

    def take(self, owner):
        room = self.rooms.take(owner)
        self.held[owner] = room

    @rule()
    def compute_the_next_layer(self):
        owner = self.following % self.layers
        if owner in self.held or len(self.held) == len(self.disk.content):
            return
        self.take(owner)
        self.following += 1

    @rule(owner=st.integers(0, 6))
    def begin_a_step_anew(self, owner):
        owner %= self.layers
        if owner in self.held or len(self.held) == len(self.disk.content):
            return
        self.take(owner)
        self.following = owner + 1

    @rule()
    def give_back(self):
        if self.held:
            owner, _ = self.held.popitem()
            self.rooms.give(owner)

    @rule(owner=st.integers(0, 6))
    def fail_to_read(self, owner):
        owner %= self.layers
        if owner in self.held or len(self.held) == len(self.disk.content):
            return
        self.disk.fails = owner
        try:
            self.take(owner)
        except OSError:
            pass
        else:
            pytest.fail("a failed read was taken for weights")
        finally:
            self.disk.fails = None

    @invariant()
    def a_held_room_has_what_its_owner_needs(self):
        for owner, room in getattr(self, "held", {}).items():
            assert self.disk.content[room] == owner
            assert room not in self.disk.under_way
            assert self.rooms.state(room) == ("held", owner)


TestPassing = Passing.TestCase


@given(rooms=st.integers(2, 4), layers=st.integers(2, 8), steps=st.integers(1, 4))
def test_layers_in_turn_are_each_read_once_a_step(rooms, layers, steps):
    disk, reads = Disk(rooms), []

    def begin(owner, room):
        reads.append(owner)
        return disk.begin(owner, room)

    passing = Rooms(rooms, range(layers), begin, disk.finish)
    for _ in range(steps):
        for owner in range(layers):
            assert disk.content[passing.take(owner)] == owner
            passing.give(owner)
    used = reads[: steps * layers]
    assert used == [number % layers for number in range(steps * layers)] or rooms >= layers
    assert len(reads) <= steps * layers + rooms


def test_what_holds_no_room_cannot_give_one_back():
    disk = Disk(1)
    rooms = Rooms(1, [0, 1], disk.begin, disk.finish)
    with pytest.raises(RuntimeError, match="holds no room"):
        rooms.give(0)
    rooms.take(0)
    with pytest.raises(RuntimeError, match="already"):
        rooms.take(0)
    with pytest.raises(RuntimeError, match="every room is held"):
        rooms.take(1)
