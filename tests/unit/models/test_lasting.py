"""What other processes of a control group hold for good: the least of a while, without our own."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from hotseat.protocol.limits import GIB
from hotseat.protocol.memory_bounds import Bound
from hotseat.supervisor.machine.figures import MachineMemory, within
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.rules.lasting import WINDOW_S, Lasting
from hotseat.supervisor.settings.values import Settings


@given(st.lists(st.tuples(st.floats(0, WINDOW_S), st.integers(0, 9)), min_size=1, max_size=30))
def test_least_of_the_window_is_what_lasts(steps):
    lasting, now, samples = Lasting(), 0.0, []
    for step_s, held in steps:
        now += step_s
        samples.append((now, held))
        lasting = lasting.with_sample(held, now)
        assert lasting.least_bytes == min(size for at, size in samples if now - at < WINDOW_S)
    assert len(lasting.seen) <= 10, "one for each size at most"


def test_nothing_lasts_before_anything_was_measured():
    assert Lasting().least_bytes == 0


def planner_on(machine, *, worker=0, standby=0):
    own = OwnMemory()
    own.worker_bytes, own.standby_bytes = worker, standby
    probe = SimpleNamespace(machine=lambda: machine)
    return Planner(None, probe, own, Settings())


def group(*, used, idle=0, swap=0, is_group=True):
    bound = Bound(
        name="control group /x",
        limit_bytes=8 * GIB,
        available_bytes=8 * GIB - used,
        swap_bytes=swap,
        idle_bytes=idle,
        is_group=is_group,
    )
    return within(MachineMemory(total_bytes=24 * GIB, available_bytes=20 * GIB), (bound,), swap)


def test_what_hotseat_holds_itself_is_not_held_by_others():
    planner = planner_on(group(used=6 * GIB), worker=3 * GIB, standby=GIB)
    planner.note_others()
    assert planner.machine().held_bytes == 2 * GIB


def test_what_others_do_not_touch_and_may_be_swapped_is_not_held():
    planner = planner_on(group(used=6 * GIB, idle=4 * GIB, swap=4 * GIB), worker=3 * GIB)
    planner.note_others()
    assert planner.machine().held_bytes == 2 * GIB


def test_of_a_whole_machine_or_a_limit_of_one_process_nothing_is_held():
    for machine in (
        MachineMemory(total_bytes=24 * GIB, available_bytes=8 * GIB),
        group(used=6 * GIB, is_group=False),
    ):
        planner = planner_on(machine)
        planner.note_others()
        assert planner.machine().held_bytes == 0
