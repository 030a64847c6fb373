"""Memory by class: always the whole machine, whatever the clocks say."""

from hypothesis import given
from hypothesis import strategies as st
from tests.support.peers.mac_host import mac_host

from hotseat.supervisor.machine.mach import VmStatistics64
from hotseat.supervisor.machine.paging import MacPaging, Paging
from hotseat.supervisor.telemetry.rules.memory_classes import Holdings, memory_classes

SIZES = st.integers(min_value=-10, max_value=100)
HELD = st.builds(
    Holdings,
    **dict.fromkeys(
        ("total", "available", "worker", "active", "live_kv", "model_bytes", "standby"), SIZES
    ),
)


@given(HELD)
def test_classes_add_up_and_none_is_negative(held):
    classes = memory_classes(held)
    parts = [getattr(classes, name) for name in classes.__struct_fields__]
    assert sum(parts) == max(0, held.total)
    assert min(parts) >= 0


def test_seated_model_splits_into_weights_contexts_and_the_rest():
    held = Holdings(
        total=100, available=40, worker=30, active=24, live_kv=4, model_bytes=20, standby=5
    )
    classes = memory_classes(held)
    assert (classes.weights, classes.live_kv, classes.runtime) == (20, 4, 6)
    assert (classes.standby, classes.other, classes.free) == (5, 25, 40)


def test_weights_of_a_load_are_those_that_are_there():
    held = Holdings(total=100, available=60, worker=12, active=10, model_bytes=20)
    assert memory_classes(held).weights == 10


def test_mac_swap_is_counted_in_pages_of_the_kernel():
    assert MacPaging(mac_host(swapins=3, swapouts=5))() == Paging(3 * 16384, 5 * 16384)


def test_mac_structure_has_swap_where_the_kernel_puts_it():
    """Offsets of <mach/vm_statistics.h>: sixteen, nine eights, two fours, two eights before it."""
    assert VmStatistics64.swapins.offset == 16 + 9 * 8 + 2 * 4 + 2 * 8
