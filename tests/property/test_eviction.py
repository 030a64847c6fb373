"""Eviction never takes what is kept, never leaves a hole, and takes no more than it has to."""

from hypothesis import given
from hypothesis import strategies as st
from tests.support.models.records import TAG

from hotseat.supervisor.catalogue.rules.eviction_order import (
    KvNode,
    Worth,
    files_to_evict,
    total_bytes,
)
from hotseat.supervisor.kv.rules.disk_budget import DiskState, bytes_to_free


@st.composite
def forests(draw):
    """Trees of files: each hangs on an earlier one or on a root."""
    nodes = []
    for number in range(draw(st.integers(0, 25))):
        parent = draw(st.sampled_from(["root", *(entry.node for entry in nodes)]))
        depth = next((entry.depth + 1 for entry in nodes if entry.node == parent), 0)
        nodes.append(
            KvNode(
                node=f"n{number}",
                parent=parent,
                tag=TAG,
                file=f"n{number}",
                size_bytes=draw(st.integers(0, 50)),
                depth=depth,
                worth=draw(st.sampled_from(Worth)),
                used_at=draw(st.sampled_from([1.0, 2.0, 3.0])),
                is_kept=draw(st.booleans()) and draw(st.booleans()),
            )
        )
    return nodes


@given(forests(), st.integers(0, 600), st.sampled_from(Worth))
def test_evicted_set_is_closed_under_what_hangs_on_it(nodes, wanted, most):
    gone = {entry.node for entry in files_to_evict(nodes, wanted, most)}
    by_name = {entry.node: entry for entry in nodes}
    assert all(not by_name[name].is_kept and by_name[name].worth <= most for name in gone)
    for entry in nodes:
        if entry.node not in gone:
            assert entry.parent not in gone


@given(forests(), st.integers(0, 600))
def test_last_file_taken_was_needed(nodes, wanted):
    taken = files_to_evict(nodes, wanted)
    assert total_bytes(taken[:-1]) < max(wanted, 1)
    if total_bytes(taken) < wanted:
        # Nothing that may go is left: all that stays is kept, or something kept hangs on it.
        left = [entry for entry in nodes if entry not in taken]
        needed = {entry.node for entry in left if entry.is_kept}
        for entry in reversed(left):
            assert entry.node in needed
            needed.add(entry.parent)


@given(forests())
def test_lesser_worth_goes_first_unless_more_hangs_on_it(nodes):
    taken = files_to_evict(nodes, float("inf"))
    for place, entry in enumerate(taken):
        for later in taken[place + 1 :]:
            if later.worth < entry.worth:
                hanging = {later.node}
                for other in nodes:  # parents come before what hangs on them
                    if other.parent in hanging:
                        hanging.add(other.node)
                assert hanging & {other.node for other in taken[place : taken.index(later)]}


sizes = st.integers(0, 10**12)


@given(sizes, sizes, sizes, sizes)
def test_demand_is_met_by_what_is_there_and_ends_below_high_water(used, free, budget, floor):
    disk = DiskState(used_bytes=used, free_bytes=free, budget_bytes=budget, floor_bytes=floor)
    wanted = bytes_to_free(disk)
    assert 0 <= wanted <= used
    if wanted == 0 and used:
        assert used <= disk.high_bytes and free >= floor
    else:
        assert used - wanted <= disk.high_bytes
        assert wanted == used or free + wanted >= floor
