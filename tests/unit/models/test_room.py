"""What has to be available before a model loads, what counts as available, and the refusal."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.models.records import full_layers, model_record
from tests.support.peers.mac_host import PAGE, mac_host

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB, MIB
from hotseat.supervisor.machine.figures import MachineMemory, available_bytes
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.rules.plan import plan_model
from hotseat.supervisor.models.rules.room import bytes_to_load, room_bytes
from hotseat.supervisor.settings.values import MemorySettings, Settings

TOTAL = 24 * GIB
QWEN = {"name": "qwen", "weights_bytes": 12 * GIB, "layers": full_layers(1)}
"""With one layer, so that KV and prefill take next to nothing."""


def mac(*, available_gib, idle_gib=0.0, level=1):
    """A Mac whose programs hold what is not available, of it `idle_gib` untouched for long."""
    held, idle = round((24 - available_gib) * GIB) // PAGE, round(idle_gib * GIB) // PAGE
    pages = mac_host(internal_page_count=held, inactive_count=idle).pages()
    return MachineMemory(
        total_bytes=TOTAL,
        available_bytes=available_bytes(TOTAL, pages),
        wired_bytes=0,
        pages=pages,
        pressure=level,
    )


def linux(available_gib):
    return MachineMemory(total_bytes=TOTAL, available_bytes=int(available_gib * GIB))


class Desk:
    def __init__(self, machine, record=QWEN, worker_bytes=None, **memory):
        self.record = model_record(**record)
        own = OwnMemory()
        own.worker_bytes = worker_bytes
        self.planner = Planner(
            SimpleNamespace(get=lambda _name: self.record),
            SimpleNamespace(machine=lambda: machine),
            own,
            Settings(memory=MemorySettings(**memory)),
        )

    def refusal(self, **how):
        with pytest.raises(HotseatError) as refused:
            self.planner.check(self.record, **how)
        return refused.value

    def passes(self, **how):
        return self.planner.check(self.record, **how) is self.record


def test_mac_asks_for_a_gibibyte_over_weights_and_overhead():
    machine = mac(available_gib=14)
    plan = plan_model(model_record(**QWEN), machine, Settings())
    assert bytes_to_load(plan, machine) == 12 * GIB + plan.overhead_bytes + GIB


def test_system_without_a_level_asks_for_the_whole_reserve():
    machine = linux(14)
    plan = plan_model(model_record(**QWEN), machine, Settings())
    assert bytes_to_load(plan, machine) == 12 * GIB + plan.overhead_bytes + plan.reserve_bytes


def test_reserve_below_a_gibibyte_is_all_that_is_asked_for():
    machine = mac(available_gib=14)
    plan = plan_model(
        model_record(**QWEN), machine, Settings(memory=MemorySettings(reserve_bytes=7))
    )
    assert bytes_to_load(plan, machine) == 12 * GIB + plan.overhead_bytes + 7


def test_model_that_leaves_less_than_the_reserve_is_let_in_on_a_mac():
    """4.3 GiB of 24 are reserved; what others hold is not in "available" and counts once."""
    assert Desk(mac(available_gib=13.5)).passes()
    assert Desk(linux(13.5)).refusal().code == "memory_pressure"
    assert Desk(linux(17)).passes()


def test_gate_and_check_ask_for_the_same():
    machine = mac(available_gib=13)
    desk = Desk(machine)
    error = desk.refusal()
    assert error.facts["needed_bytes"] == desk.planner.bytes_to_seat("qwen", machine)
    assert error.facts["available_bytes"] == room_bytes(machine)
    assert "qwen needs 13.3 GiB and 13.0 GiB are available" in error.message
    assert "hotseat swap qwen --force" in error.message


def test_model_that_fits_the_machine_but_not_now_is_short_of_memory_not_unfit():
    assert Desk(mac(available_gib=3)).refusal().code == "memory_pressure"
    assert Desk(linux(3)).refusal().code == "memory_pressure"
    heavy = QWEN | {"weights_bytes": 22 * GIB}
    assert Desk(mac(available_gib=24), heavy).refusal().code == "model_unfit"
    assert Desk(mac(available_gib=24), heavy).refusal(force=True).code == "model_unfit"


def test_forced_model_is_planned_and_seated_whatever_others_hold():
    machine = mac(available_gib=3, level=2)
    desk = Desk(machine)
    assert desk.passes(force=True)
    assert desk.planner.bytes_to_seat("qwen", machine) > 13 * GIB, "not before a swap begins"
    desk.planner.begin(desk.record, force=True)
    assert desk.planner.bytes_to_seat("qwen", machine) == 0
    plan = desk.planner.plan(desk.record, returned_bytes=0)
    assert (plan.fits, plan.binding) == (True, "ram")
    assert plan.limit_bytes == TOTAL - plan.reserve_bytes
    with pytest.raises(HotseatError, match="are available"):
        desk.planner.begin(desk.record, force=False)
    assert not desk.planner.plan_asked(desk.record).fits, "who asks without force is refused"
    assert desk.planner.bytes_to_seat("qwen", machine) == 0, "the swap may be under way"


def test_half_of_what_programs_left_alone_counts_while_the_level_is_normal():
    assert room_bytes(mac(available_gib=10, idle_gib=4)) == pytest.approx(12 * GIB, abs=2 * PAGE)
    for level in (2, 4, None):
        machine = mac(available_gib=10, idle_gib=4, level=level)
        assert room_bytes(machine) == machine.available_bytes


def test_weights_of_an_idle_worker_are_not_counted_twice():
    """Metal unwires what no GPU work needs: then they are inactive memory of a program."""
    machine = mac(available_gib=10, idle_gib=6)
    assert room_bytes(machine, 6 * GIB) == machine.available_bytes + 6 * GIB
    own = 4 * GIB
    expected = machine.available_bytes + own + (6 * GIB - own) // 2
    assert room_bytes(machine, own) == pytest.approx(expected, abs=2 * PAGE)


def test_browser_in_the_background_does_not_keep_the_model_out():
    """The 24 GB Mac of the review: much is idle, the level is normal, and Ollama would load."""
    assert Desk(mac(available_gib=12, idle_gib=6)).passes()
    assert Desk(mac(available_gib=12, idle_gib=6, level=2)).refusal().code == "memory_pressure"


MACHINES = st.builds(
    mac,
    available_gib=st.floats(0, 24),
    idle_gib=st.floats(0, 24),
    level=st.sampled_from([None, 1, 2, 4]),
)


@given(MACHINES, st.integers(0, 24 * GIB), st.integers(0, GIB))
def test_more_available_memory_never_means_less_room(machine, own, more):
    roomier = replace(machine, available_bytes=machine.available_bytes + more)
    assert room_bytes(roomier, own) >= room_bytes(machine, own)
    assert room_bytes(machine, own) >= machine.available_bytes + own


@given(MACHINES, st.none() | st.integers(0, 8 * GIB))
def test_what_is_let_in_is_let_through_the_gate(machine, reserve):
    desk = Desk(machine, reserve_bytes=reserve)
    try:
        desk.planner.check(desk.record)
    except HotseatError:
        return
    assert room_bytes(machine) >= desk.planner.bytes_to_seat("qwen", machine)
    assert desk.planner.plan(desk.record, returned_bytes=0).kv_budget_bytes >= MIB
