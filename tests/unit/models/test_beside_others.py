"""Models that find too little room beside others in a control group are read in part."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.models.records import full_layers, model_record

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.memory_bounds import Bound
from hotseat.protocol.residence import WeightParts
from hotseat.supervisor.machine.figures import MachineMemory, within
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.rules.plan import plan_model
from hotseat.supervisor.models.rules.room import bytes_to_seat, is_roomy, room_bytes
from hotseat.supervisor.settings.values import Settings

WHOLE = MachineMemory(total_bytes=24 * GIB, available_bytes=20 * GIB)
DENSE = WeightParts(layers=(272 * MIB,) * 64, outside=1600 * MIB)
SPARSE = WeightParts(
    layers=(340 * MIB,) * 48,
    outside=700 * MIB,
    experts=(320 * MIB,) * 48,
    expert_count=128,
    chosen=8,
)


def record(parts):
    return model_record(
        layers=full_layers(48, 4, 128),
        parameters=32 * 10**9,
        weights_bytes=parts.total,
        parts=parts,
    )


SMALL = record(replace(DENSE, layers=(80 * MIB,) * 64))
"""6.6 GiB of weights."""


def in_group(*, used, held=0, limit=8 * GIB):
    """A machine whose control group has so much, of which others hold a part for good."""
    bound = Bound(
        name="control group /x",
        limit_bytes=limit,
        available_bytes=limit - used,
        swap_bytes=0,
        is_group=True,
    )
    return replace(within(WHOLE, (bound,), 0), held_bytes=held)


@given(
    held=st.integers(0, 5 * 1024).map(lambda mib: mib * MIB), parts=st.sampled_from([DENSE, SPARSE])
)
def test_what_others_of_a_group_hold_for_good_is_left_to_them(held, parts):
    """So the model is seated beside them, where it would be refused until they end."""
    machine = in_group(used=held, held=held)
    plan = plan_model(record(parts), machine, Settings())
    if plan.residence is None:
        assert "exceed the limit" in plan.reason
        return
    assert plan.fits
    assert room_bytes(machine) >= bytes_to_seat(record(parts), plan, machine)
    alone = plan_model(record(parts), in_group(used=held, held=0), Settings())
    assert plan.weights_bytes <= alone.weights_bytes


@pytest.mark.parametrize("overhead", [None, 400 * MIB])
def test_model_that_fits_whole_only_without_what_others_hold_is_read_in_part(overhead):
    alone, beside = in_group(used=0, held=0), in_group(used=2 * GIB, held=2 * GIB)
    whole = plan_model(SMALL, alone, Settings(), overhead_bytes=overhead)
    assert (whole.fits, whole.residence) == (True, None)
    for in_any_case in (True, False):
        plan = plan_model(
            SMALL, beside, Settings(), overhead_bytes=overhead, in_any_case=in_any_case
        )
        assert plan.fits
        assert plan.residence.mode == "layers"
        assert "beside what other programs hold" in plan.notice
        assert room_bytes(beside) >= bytes_to_seat(SMALL, plan, beside)
    assert plan_model(SMALL, in_group(used=2 * GIB, held=0), Settings()).residence is None


def test_what_others_hold_refuses_nothing_for_good():
    """A model that cannot be read in part, or only too slowly, waits until they hold less."""
    beside = in_group(used=2 * GIB, held=2 * GIB)
    for one, rate in ((replace(SMALL, adapter="/a"), None), (SMALL, 1000.0)):
        assert plan_model(one, beside, Settings(), in_any_case=True, read_rate=rate).fits
        now = plan_model(one, beside, Settings(), read_rate=rate)
        assert (now.fits, now.residence, now.binding) == (False, None, "available")


def test_where_others_leave_too_little_a_model_waits_for_them_and_is_not_unfit():
    alone = plan_model(record(DENSE), in_group(used=0, held=0), Settings())
    squeezed = in_group(used=7 * GIB, held=7 * GIB)
    in_any_case = plan_model(record(DENSE), squeezed, Settings(), in_any_case=True)
    assert (in_any_case.fits, in_any_case.residence) == (True, alone.residence)
    assert not plan_model(record(DENSE), squeezed, Settings()).fits


class Desk:
    """A planner in a control group of 8 GiB of which the test decides how much others use."""

    def __init__(self, used, is_group=True):
        self.used = used
        self.is_group = is_group
        self.own = OwnMemory()
        self.record = SMALL
        registry = SimpleNamespace(get=lambda _name: self.record)
        probe = SimpleNamespace(machine=self.machine, quick_footprint=lambda _pid: 0)
        self.planner = Planner(registry, probe, self.own, Settings())

    def machine(self):
        if self.is_group:
            return in_group(used=self.used)
        return replace(WHOLE, available_bytes=8 * GIB - self.used)

    @property
    def residence(self):
        return self.planner.plan(self.record).residence

    def needs(self):
        return self.planner.bytes_to_seat(self.record.name, self.planner.machine())


def test_model_that_is_too_large_beside_others_is_read_in_part_from_then_on():
    desk = Desk(used=2 * GIB)
    assert desk.residence is None, "nobody asked for it yet"
    desk.planner.check(SMALL)
    assert (found := desk.residence).mode == "layers"
    needed = desk.needs()
    desk.used += 100 * MIB  # what is idle is so by the moment
    assert (desk.residence, desk.needs()) == (found, needed)
    assert needed <= room_bytes(desk.machine())
    assert desk.planner.plan_to_load(SMALL, None).residence == found


def test_it_is_whole_again_once_others_have_ended():
    desk = Desk(used=2 * GIB)
    desk.planner.check(SMALL)
    desk.used = 0
    assert desk.residence is None
    desk.planner.check(SMALL)
    desk.used = 2 * GIB
    assert desk.residence is None, "what was found is found anew each time"


def test_model_that_is_forced_is_whole_whatever_others_hold():
    desk = Desk(used=2 * GIB)
    desk.planner.check(SMALL)
    desk.planner.force(SMALL.name, is_wanted=True)
    assert desk.residence is None


def test_outside_of_a_group_it_is_refused_as_others_may_end():
    desk = Desk(used=2 * GIB, is_group=False)
    with pytest.raises(HotseatError, match="are available"):
        desk.planner.check(SMALL)
    assert desk.residence is None


def test_model_that_cannot_be_read_in_part_is_refused_beside_others():
    desk = Desk(used=2 * GIB)
    desk.record = replace(SMALL, adapter="/a")
    with pytest.raises(HotseatError, match="are available"):
        desk.planner.check(desk.record)
    assert desk.residence is None


def test_less_than_a_session_of_contexts_is_no_room():
    """A block is better than a refusal, and worse than reading a part."""
    found = set()
    for used in range(0, 2 * GIB, 16 * MIB):
        desk = Desk(used=used)
        now = desk.planner.plan(SMALL)
        is_enough = is_roomy(SMALL, now, desk.planner.plan(SMALL, in_any_case=True))
        is_enough &= room_bytes(desk.machine()) >= bytes_to_seat(SMALL, now, desk.machine())
        desk.planner.check(SMALL)
        assert (desk.residence is None) == is_enough
        found.add((now.fits, is_enough))
    assert found == {(True, True), (True, False), (False, False)}


def test_room_that_went_between_gate_and_load_makes_it_read_in_part():
    desk = Desk(used=0)
    desk.planner.check(SMALL)
    desk.used = 2 * GIB
    plan = desk.planner.plan_to_load(SMALL, None)
    assert plan.fits
    assert plan.residence.mode == "layers"
    desk.record = replace(SMALL, adapter="/a")
    assert not desk.planner.plan_to_load(desk.record, None).fits
