"""What goes when the disk tier is too large: tables of cases."""

import pytest
from tests.support.models.records import TAG

from hotseat.protocol.limits import GIB
from hotseat.supervisor.catalogue.rules.eviction_order import KvNode, Worth, files_to_evict
from hotseat.supervisor.kv.rules.disk_budget import DiskState, bytes_to_free
from hotseat.supervisor.settings.values import KvSettings


def node(name, parent="root", *, size=10, depth=0, worth=Worth.SESSION, used=1.0, kept=False):
    return KvNode(
        node=name,
        parent=parent,
        tag=TAG,
        file=name,
        size_bytes=size,
        depth=depth,
        worth=worth,
        used_at=used,
        is_kept=kept,
    )


def chosen(nodes, wanted=1e9, most=Worth.SESSION):
    return [entry.node for entry in files_to_evict(nodes, wanted, most)]


def test_leaf_goes_before_what_it_hangs_on():
    chain = [node("a"), node("b", "a", depth=1), node("c", "b", depth=2)]
    assert chosen(chain) == ["c", "b", "a"]


def test_kept_leaf_keeps_its_whole_chain():
    chain = [node("a"), node("b", "a", depth=1), node("c", "b", depth=2, kept=True)]
    assert chosen([*chain, node("d")]) == ["d"]


def test_shared_block_stays_while_a_session_hangs_on_it():
    nodes = [node("a"), node("b", "a", depth=1), node("c", "a", depth=1, kept=True)]
    assert chosen(nodes) == ["b"]


def test_unusable_goes_before_unreferenced_before_sessions_whatever_their_age():
    nodes = [
        node("session", used=1.0),
        node("loose", worth=Worth.UNREFERENCED, used=2.0),
        node("foreign", worth=Worth.UNUSABLE, used=3.0),
    ]
    assert chosen(nodes) == ["foreign", "loose", "session"]
    assert chosen(nodes, most=Worth.UNREFERENCED) == ["foreign", "loose"]


def test_least_recently_used_session_goes_first_and_eviction_ends_when_enough_went():
    nodes = [node("new", used=9.0), node("old", used=1.0), node("middle", used=5.0)]
    assert chosen(nodes, wanted=11) == ["old", "middle"]


def test_pinned_session_survives_any_demand():
    assert chosen([node("a", kept=True), node("b", "a", kept=True)], wanted=float("inf")) == []


def state(used, free=500, budget=100, floor=0):
    return DiskState(used_bytes=used, free_bytes=free, budget_bytes=budget, floor_bytes=floor)


@pytest.mark.parametrize(
    ("disk", "wanted"),
    [
        (state(95), 0),
        (state(96), 11),
        (state(150), 65),
        (state(50, free=99, floor=100), 6),
        (state(3, free=0, floor=100), 3),
        (state(0, free=0, floor=100), 0),
        (state(98, free=70, floor=100), 35),
    ],
)
def test_demand_reaches_low_water_or_the_floor(disk, wanted):
    assert bytes_to_free(disk) == wanted


def test_defaults_are_fifty_gib_or_a_fifth_and_a_floor_of_ten_gib():
    settings = KvSettings()
    assert settings.disk_budget_for(1000 * GIB) == 50 * GIB
    assert settings.disk_budget_for(100 * GIB) == 20 * GIB
    assert settings.free_floor_for(1000 * GIB) == 10 * GIB
