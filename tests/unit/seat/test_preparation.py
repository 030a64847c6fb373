"""What the standby is told to make ready: for whom, how much memory, with what left over."""

from types import SimpleNamespace

import pytest
from tests.support.models.records import model_record

from hotseat.protocol.limits import GIB
from hotseat.protocol.residence import WeightParts
from hotseat.protocol.telemetry import MemoryPages
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.seat.preparation import KERNELS_BYTES, Preparation
from hotseat.supervisor.settings.values import MemorySettings, SeatSettings, Settings

RESERVE = 2 * GIB
PAGES = MemoryPages(**dict.fromkeys(MemoryPages.__struct_fields__, 0))


class Standby:
    """Notes what it is told."""

    def __init__(self):
        self.prepared = []
        self.held = []

    def prepare(self, record, **options):
        self.prepared.append(record.name)
        self.options = options

    def hold_blank(self, size_bytes, free_floor_bytes):
        self.held.append((size_bytes, free_floor_bytes))


def foreseen(available_gib, likely, pages=None, **seat):
    records = {
        name: model_record(name=name, weights_bytes=size * GIB)
        for name, size in {"a": 1, "b": 3, "c": 5}.items()
    }
    machine = MachineMemory(
        total_bytes=24 * GIB, available_bytes=int(available_gib * GIB), pages=pages
    )
    planner = Planner(
        SimpleNamespace(get=records.__getitem__),
        SimpleNamespace(machine=lambda: machine),
        OwnMemory(),
        Settings(memory=MemorySettings(reserve_bytes=RESERVE), seat=SeatSettings(**seat)),
    )
    up_next, *seated_before = likely or [None]
    seat = SimpleNamespace(
        state=SimpleNamespace(model="a"), seated_before=list(reversed(seated_before))
    )
    standby = Standby()
    host = SimpleNamespace(up_next=up_next)
    return Preparation(planner, seat, standby, host), standby, planner


@pytest.mark.parametrize(
    ("available_gib", "held"),
    [(8.1, [(5 * GIB, RESERVE)]), (7.9, [(3 * GIB, RESERVE)]), (5.9, [])],
)
def test_memory_is_held_for_the_largest_that_leaves_reserves_alone(available_gib, held):
    ready, standby, _ = foreseen(available_gib, [None, "b", "c", "b"])
    ready.prepare_likely()
    assert standby.held == held


def test_seated_model_is_not_made_ready():
    ready, standby, _ = foreseen(20, ["a", "b"])
    ready.prepare_likely()
    assert standby.prepared == ["b"]


def test_ready_memory_off_holds_nothing_and_still_prepares():
    ready, standby, _ = foreseen(20, ["b"], ready_memory="off")
    ready.prepare_likely()
    assert standby.held == []
    assert standby.prepared == ["b"]


def test_held_memory_counts_as_available_and_not_as_the_standbys():
    _, _, planner = foreseen(10, [])
    planner.own.ready_bytes = 3 * GIB
    planner.own.standby_bytes = 3 * GIB + 100
    plan = planner.plan(model_record(weights_bytes=GIB), returned_bytes=0)
    assert planner.machine().available_bytes == 13 * GIB
    assert plan.standby_bytes == 100


@pytest.mark.parametrize(("available_gib", "reads"), [(7.1, True), (6.9, False)])
def test_macs_weights_are_read_ahead_by_the_supervisors_own_count(available_gib, reads):
    """psutil leaves the cache out that is being read into: a worker would stop in the middle."""
    ready, standby, _ = foreseen(available_gib, [None], pages=PAGES)
    ready.read_ahead("c")
    assert standby.options == {
        "warm_pages": reads,
        "residence": None,
        "free_floor_bytes": 0,
        "kernels_limit_bytes": KERNELS_BYTES,
    }


def test_elsewhere_the_worker_itself_keeps_to_the_floor():
    ready, standby, _ = foreseen(1, [None])
    ready.read_ahead("c")
    assert standby.options == {
        "warm_pages": True,
        "residence": None,
        "free_floor_bytes": RESERVE + 5 * GIB,
    }


@pytest.mark.parametrize(
    ("available_gib", "pages", "limit"),
    [(8, PAGES, KERNELS_BYTES), (2.25, PAGES, GIB // 4), (1, PAGES, 0), (8, None, 0)],
)
def test_kernels_are_asked_for_on_a_mac_with_what_the_reserve_leaves(available_gib, pages, limit):
    ready, standby, _ = foreseen(available_gib, [None, "b"], pages=pages)
    ready.prepare_likely()
    assert standby.options["kernels_limit_bytes"] == limit


@pytest.mark.parametrize(("pages", "available_gib"), [(None, 1), (PAGES, 24)])
def test_of_a_model_that_does_not_fit_whole_what_stays_is_read_ahead(pages, available_gib):
    ready, standby, planner = foreseen(available_gib, [None], pages=pages)
    parts = WeightParts(layers=(GIB,) * 30, outside=GIB)
    large = model_record(name="d", weights_bytes=parts.total, parts=parts)
    planner.registry.get = lambda _name: large
    ready.read_ahead("d")
    plan = planner.plan(large, in_any_case=True)
    assert plan.residence.mode == "layers"
    assert (standby.options["warm_pages"], standby.options["residence"]) == (True, plan.residence)
