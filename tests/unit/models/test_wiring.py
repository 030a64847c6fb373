"""Whether a worker wires weights: the settings say so, or a panic did."""

from types import SimpleNamespace

import pytest
from tests.support.models.records import model_record

from hotseat.protocol.views import PlanView
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.seat.load_order import load_order
from hotseat.supervisor.settings.values import KvSettings, MemorySettings, Settings


@pytest.mark.parametrize(
    ("asked", "panic", "wire", "tells"),
    [
        (None, "", "weights", False),
        (None, "k.panic", "off", True),
        ("weights", "k.panic", "weights", False),
        ("off", "k.panic", "off", False),
        ("off", "", "off", False),
    ],
)
def test_worker_is_told_what_to_wire_and_a_person_why_nothing(tmp_path, asked, panic, wire, tells):
    own = OwnMemory()
    own.panic_report = panic
    settings = Settings(memory=MemorySettings(wire=asked))
    planner = Planner(SimpleNamespace(), SimpleNamespace(), own, settings)
    plan = PlanView(model="a", fits=True)
    order = load_order(model_record("a"), plan, tmp_path, KvSettings(), planner.wiring, None)
    assert order.wire == wire
    assert bool(planner.wiring_notice) is tells
    if tells:
        assert panic in planner.wiring_notice
        assert '`[memory] wire = "weights"`' in planner.wiring_notice
