"""Models that find too little room beside others in a control group are read in part."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.models.records import full_layers
from tests.unit.models.test_residence import DENSE, SPARSE, record
from tests.unit.models.test_tight import WHOLE, group

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB, MIB
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.rules.plan import plan_model
from hotseat.supervisor.models.rules.room import bytes_to_seat, is_roomy, room_bytes
from hotseat.supervisor.settings.values import Settings

SMALL = record(replace(DENSE, layers=(80 * MIB,) * 64))
"""6.6 GiB of weights."""


def in_group(*, used, held=0, swap=0, idle=0):
    """A machine whose control group has 8 GiB, of which a part is left to others."""
    return replace(group(8 * GIB, used=used, swap=swap, idle=idle), held_bytes=held)


@given(
    held=st.integers(0, 5 * 1024).map(lambda mib: mib * MIB), parts=st.sampled_from([DENSE, SPARSE])
)
def test_what_others_of_a_group_hold_for_good_is_left_to_them(held, parts):
    """So the model is seated beside them, where it would be refused until they end."""
    machine = in_group(used=held, held=held)
    plan = plan_model(record(parts), machine, Settings())
    if plan.residence is None:
        assert held > 4 * GIB, "a part of it fits"
        assert not plan.fits
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

    def __init__(self, used, record=SMALL, is_group=True, worker=0, swap=0, idle=0):
        self.used, self.worker, self.swap, self.idle = used, worker, swap, idle
        self.is_group = is_group
        self.own = OwnMemory()
        self.own.worker_bytes, self.own.worker_pid = worker, 7 if worker else None
        self.record = record
        registry = SimpleNamespace(get=lambda _name: self.record)
        probe = SimpleNamespace(machine=self.machine, quick_footprint=lambda _pid: self.worker)
        self.planner = Planner(registry, probe, self.own, Settings())

    def machine(self):
        if not self.is_group:
            return replace(WHOLE, available_bytes=8 * GIB - self.used)
        return in_group(used=self.used + self.worker, swap=self.swap, idle=self.idle)

    @property
    def residence(self):
        """Of what the gate waits for and what is loaded."""
        return self.planner.plan(self.record, returned_bytes=0).residence

    def begin(self, **how):
        self.planner.begin(self.record, **{"force": False} | how)

    def end_worker(self):
        self.worker, self.own.worker_bytes = 0, None

    def needs(self):
        return self.planner.bytes_to_seat(self.record.name, self.planner.machine())


ADAPTED = replace(SMALL, adapter="/a")


@pytest.mark.parametrize(
    ("worker", "swap", "idle"), [(0, 0, 0), (3 * GIB, 0, 0), (3 * GIB, 4 * GIB, 4 * GIB)]
)
def test_model_that_is_too_large_beside_others_is_read_in_part(worker, swap, idle):
    """So is it for the gate and the load, after the worker, also when a little less is idle."""
    desk = Desk(used=2 * GIB + max(idle - worker, 0), worker=worker, swap=swap, idle=idle)
    desk.planner.check(SMALL)
    desk.planner.check(SMALL)
    assert desk.residence is None, "to ask changes nothing"
    desk.begin()
    assert desk.residence.mode == "layers"
    desk.end_worker()
    desk.idle = max(idle - worker, 0)
    found, needed = desk.residence, desk.needs()
    desk.used += 100 * MIB
    assert (desk.residence, desk.needs()) == (found, needed)
    assert needed <= room_bytes(desk.machine())
    assert desk.planner.plan_to_load(SMALL, None).residence == found


def test_gate_asks_for_what_is_there_whenever_a_swap_may_begin():
    """However little or much others hold: also where a session fits and the reserve does not."""
    lean = replace(SMALL, layers=full_layers(4, 1, 64), parameters=10**9)
    residences = set()
    for one in (SMALL, lean):
        for used in range(0, 3 * GIB, 16 * MIB):
            desk = Desk(used=used, record=one)
            desk.planner.check(one)
            desk.begin()
            assert desk.needs() <= room_bytes(desk.machine())
            plan = desk.planner.plan_to_load(one, None)
            assert plan.fits
            assert plan.residence == desk.residence
            residences.add(plan.residence is None)
    assert residences == {True, False}


def test_it_is_whole_again_once_others_have_ended():
    desk = Desk(used=2 * GIB)
    desk.begin()
    desk.used = 0
    assert desk.residence is None, "at once"
    desk.begin()
    desk.used = 2 * GIB
    assert desk.residence is None, "what was found is found anew each time"


def test_model_that_is_forced_is_whole_and_the_next_time_it_may_not_be():
    desk = Desk(used=2 * GIB)
    desk.begin()
    desk.begin(force=True)
    assert (desk.residence, desk.needs()) == (None, 0)
    assert desk.planner.plan_asked(SMALL).residence.mode == "layers"
    desk.begin()
    assert desk.residence.mode == "layers"


def test_whoever_asks_is_told_what_a_swap_would_seat_and_what_is_available():
    desk = Desk(used=2 * GIB)
    plan = desk.planner.plan_asked(SMALL)
    assert plan.fits
    assert plan.residence.mode == "layers"
    assert plan.available_bytes == 6 * GIB
    assert desk.residence is None


@pytest.mark.parametrize(("record", "is_group"), [(SMALL, False), (ADAPTED, True)])
def test_outside_of_a_group_and_where_it_cannot_be_read_in_part_it_is_refused(record, is_group):
    """Others may end, or be ended."""
    desk = Desk(used=2 * GIB, record=record, is_group=is_group)
    for ask in (desk.planner.check, desk.planner.held_beside):
        with pytest.raises(HotseatError, match="are available"):
            ask(record)
    with pytest.raises(HotseatError):
        desk.begin()
    assert desk.residence is None
    assert not desk.planner.plan_asked(record).fits


def test_less_than_a_session_of_contexts_is_too_little_where_it_can_be_read_in_part():
    found = set()
    for used in range(0, 2 * GIB, 16 * MIB):
        desk, cannot = Desk(used=used), Desk(used=used, record=ADAPTED)
        now = desk.planner.plan(SMALL)
        is_enough = is_roomy(SMALL, now, desk.planner.plan(SMALL, in_any_case=True))
        is_let_in = room_bytes(desk.machine()) >= bytes_to_seat(SMALL, now, desk.machine())
        is_enough &= is_let_in
        assert (desk.planner.held_beside(SMALL) == 0) == is_enough
        if now.fits and is_let_in:
            assert cannot.planner.check(ADAPTED) is ADAPTED, "a block is better than a refusal"
        found.add((now.fits, is_enough))
    assert found == {(True, True), (True, False), (False, False)}


@pytest.mark.parametrize("used", [0, 2 * GIB])
def test_room_that_went_between_gate_and_load_has_more_of_it_read(used):
    desk = Desk(used=used)
    desk.begin()
    before = desk.planner.plan(SMALL, returned_bytes=0)
    desk.used += 2 * GIB
    plan = desk.planner.plan_to_load(SMALL, None)
    assert plan.fits
    assert plan.weights_bytes < before.weights_bytes
    assert room_bytes(desk.machine()) >= bytes_to_seat(SMALL, plan, desk.machine())


def test_what_cannot_be_read_in_part_is_loaded_as_it_was_let_in():
    desk = Desk(used=0, record=ADAPTED)
    desk.begin()
    desk.used = 2 * GIB
    assert desk.planner.plan_to_load(ADAPTED, None) == desk.planner.plan(ADAPTED, returned_bytes=0)
