"""Metal's limit: learnt from any hello, believed as long as its switch stays where it was."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.models.records import full_layers, model_record
from tests.support.peers.mac_host import mac_host

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB, MIB
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.machine.memory import MacProbe
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.rules.working_set import WorkingSet, is_stale, limit_now
from hotseat.supervisor.settings.values import Settings

DEFAULT = WorkingSet(size_bytes=17 * GIB, switch_mb=0)
TURNED = WorkingSet(size_bytes=20 * GIB, switch_mb=20 * 1024)
HEAVY = model_record(name="heavy", weights_bytes=18 * GIB, layers=full_layers(1))


@pytest.mark.parametrize(
    ("known", "switch_mb", "limit"),
    [
        (None, None, None),  # no Metal, or a Mac before the first hello
        (None, 0, None),
        (None, 20 * 1024, 20 * GIB),  # the switch is the limit, nobody has to say it
        (DEFAULT, 0, 17 * GIB),
        (DEFAULT, 20 * 1024, 20 * GIB),
        (TURNED, 0, None),  # turned back: the system's own limit was never told
        (WorkingSet(size_bytes=17 * GIB), None, 17 * GIB),
    ],
)
def test_limit_is_that_of_a_process_which_starts_now(known, switch_mb, limit):
    assert limit_now(known, switch_mb) == limit


@given(
    st.builds(WorkingSet, size_bytes=st.integers(1, 512 * GIB), switch_mb=st.integers(0, 2**20)),
    st.integers(0, 2**20),
)
def test_stale_limit_is_never_planned_with(known, switch_mb):
    limit = limit_now(known, switch_mb)
    if is_stale(known, switch_mb):
        assert limit == (switch_mb * MIB if switch_mb else None)
    else:
        assert limit == (switch_mb * MIB if switch_mb else known.size_bytes)


def test_switch_is_read_from_the_kernel():
    assert MacProbe(object(), mac_host(wired_limit_mb=20_480)).machine().wired_limit_mb == 20_480
    assert MacProbe(object(), mac_host(wired_limit_mb=None)).machine().wired_limit_mb is None


class Mac:
    def __init__(self):
        self.switch_mb = 0
        self.planner = Planner(SimpleNamespace(), self, OwnMemory(), Settings())

    def machine(self):
        return MachineMemory(
            total_bytes=24 * GIB,
            available_bytes=23 * GIB,
            wired_bytes=0,
            pressure=1,
            wired_limit_mb=self.switch_mb,
        )


def test_model_above_the_limit_is_refused_before_anything_was_seated():
    mac = Mac()
    assert mac.planner.check(HEAVY) is HEAVY, "nobody has said a limit yet"
    mac.planner.learn_working_set(17 * GIB)
    with pytest.raises(HotseatError) as refused:
        mac.planner.check(HEAVY)
    assert (refused.value.code, refused.value.facts["binding"]) == ("model_unfit", "working_set")
    mac.switch_mb = 20 * 1024
    assert mac.planner.check(HEAVY) is HEAVY
    assert mac.planner.is_working_set_stale, "a standby of before has the old limit"


def test_process_that_loads_is_planned_with_its_own_limit():
    mac = Mac()
    assert mac.planner.check_machine(HEAVY, 20 * GIB).working_set_bytes == 20 * GIB
    with pytest.raises(HotseatError):
        mac.planner.check_machine(HEAVY, 17 * GIB)


def test_machine_without_metal_has_no_limit_and_forgets_none():
    mac = Mac()
    mac.planner.learn_working_set(17 * GIB)
    mac.planner.learn_working_set(None)
    assert mac.planner.own.working_set == DEFAULT
