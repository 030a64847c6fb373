"""What is planned where a control group leaves a model little more than its weights."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.models.records import full_layers, model_record, window_layers
from tests.unit.models.test_residence import DENSE

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.memory_bounds import Bound
from hotseat.protocol.model import TOKENIZER_BYTES_PER_BYTE, FileDigest
from hotseat.protocol.residence import WeightParts
from hotseat.supervisor.machine.figures import MachineMemory, within
from hotseat.supervisor.models.own_memory import OwnMemory
from hotseat.supervisor.models.planner import Planner
from hotseat.supervisor.models.rules.plan import plan_model
from hotseat.supervisor.models.rules.room import bytes_to_load, least_bytes, room_bytes
from hotseat.supervisor.models.rules.sizes import least_contexts, session_bytes
from hotseat.supervisor.models.rules.tight import (
    DEFAULT_OVERHEAD_BYTES,
    LEAST_OVERHEAD_BYTES,
    Needs,
    share_out,
)
from hotseat.supervisor.settings.values import MemorySettings, Settings

WHOLE = MachineMemory(total_bytes=24 * GIB, available_bytes=20 * GIB)
RECORD = model_record(
    layers=full_layers(8, 2, 64), weights_bytes=2 * GIB, parameters=500_000_000, vocab_size=512
)


def group(limit, *, used=0, swap=0, idle=0, is_group=True):
    """A machine whose control group /x has so much."""
    bound = Bound(
        name="control group /x",
        limit_bytes=limit,
        available_bytes=limit - used,
        swap_bytes=swap,
        idle_bytes=idle,
        is_group=is_group,
    )
    return within(WHOLE, (bound,), swap)


def test_limit_of_a_group_binds_and_is_named():
    plan = plan_model(RECORD, group(3 * GIB), Settings())
    assert (plan.binding, plan.limit_bytes) == ("group", 3 * GIB - plan.reserve_bytes)
    assert plan.limited_by == "control group /x: 3.0 GiB, none of swap"
    assert (plan.fits, plan.notice) == (True, "")


def test_refusal_names_the_group_and_the_way_out():
    plan = plan_model(RECORD, group(GIB), Settings())
    assert not plan.fits
    assert "control group /x" in plan.remedy
    assert "(group)" in plan.reason


@pytest.mark.parametrize("share", [1.2, 1.25, 1.5])
def test_model_runs_in_a_group_a_little_larger_than_its_weights(share):
    machine = group(int(share * RECORD.weights_bytes))
    plan = plan_model(RECORD, machine, Settings(), standby_bytes=80 * MIB)
    assert plan.fits, plan.reason
    assert bytes_to_load(plan, machine) <= room_bytes(machine)
    assert least_bytes(RECORD, plan, machine) <= room_bytes(machine)


def test_smaller_assumption_is_told():
    plan = plan_model(RECORD, group(int(1.2 * RECORD.weights_bytes)), Settings())
    assert LEAST_OVERHEAD_BYTES <= plan.overhead_bytes < DEFAULT_OVERHEAD_BYTES
    assert "overhead assumed as" in plan.notice
    assert "control group /x: 2.4 GiB" in plan.notice


def test_same_memory_without_a_group_is_refused_as_before():
    limit = int(1.15 * RECORD.weights_bytes)
    bare = MachineMemory(total_bytes=limit, available_bytes=limit)
    assert not plan_model(RECORD, bare, Settings()).fits


def test_limit_of_a_process_assumes_the_whole_overhead():
    machine = group(int(1.15 * RECORD.weights_bytes), is_group=False)
    plan = plan_model(RECORD, machine, Settings())
    assert (plan.binding, plan.overhead_bytes) == ("rlimit", DEFAULT_OVERHEAD_BYTES)


def test_swap_lends_standby_and_reserve_and_says_so():
    limit = RECORD.weights_bytes + 200 * MIB
    tight = {"standby_bytes": 80 * MIB}
    assert not plan_model(RECORD, group(limit), Settings(), **tight).fits
    plan = plan_model(RECORD, group(limit, swap=GIB), Settings(), **tight)
    assert plan.fits
    assert "may have to be swapped" in plan.notice


def test_chosen_reserve_is_not_lent():
    chosen = Settings(memory=MemorySettings(reserve_bytes=150 * MIB))
    machine = group(RECORD.weights_bytes + 200 * MIB, swap=GIB)
    assert not plan_model(RECORD, machine, chosen).fits
    assert plan_model(RECORD, machine, Settings()).fits


def test_measured_overhead_is_never_assumed_smaller():
    machine = group(int(1.15 * RECORD.weights_bytes))
    plan = plan_model(RECORD, machine, Settings(), overhead_bytes=290 * MIB, overhead_measured=True)
    assert plan.overhead_bytes == 290 * MIB
    assert not plan.fits


def test_idle_memory_of_a_group_that_may_swap_is_room():
    machine = group(3 * GIB, used=2 * GIB, swap=GIB, idle=GIB // 2)
    assert room_bytes(machine) == GIB + GIB // 2
    assert room_bytes(machine, GIB // 4) == GIB + GIB // 2
    assert room_bytes(group(3 * GIB, used=2 * GIB, idle=GIB // 2)) == GIB


def test_reserve_inside_a_group_is_small_unless_the_machine_wants_it():
    memory = MemorySettings()
    assert memory.reserve_for(group(2 * GIB)) == int(0.06 * 2 * GIB)
    assert memory.reserve_for(group(256 * MIB)) == 64 * MIB
    almost_all = group(24 * GIB - 1)
    assert memory.reserve_for(almost_all) == memory.reserve_for(WHOLE) - 1


NEEDS = st.builds(
    Needs,
    free=st.integers(-GIB, 2 * GIB),
    overhead=st.none() | st.integers(0, GIB),
    standby=st.integers(0, 200 * MIB),
    reserve=st.integers(0, GIB),
    session=st.integers(16 * MIB, 512 * MIB),
    block=st.integers(1, 16 * MIB),
    ahead=st.integers(0, GIB),
)
GROUPS = st.builds(group, st.integers(GIB, 4 * GIB), swap=st.integers(0, GIB))


@given(NEEDS, GROUPS)
def test_share_is_honest(needs, machine):
    share = share_out(needs, machine)
    if needs.overhead is not None:
        assert share.overhead == needs.overhead
    lent = share.borrowed + needs.standby - share.standby
    assert 0 <= lent <= machine.bound.swap_bytes
    assert share.borrowed <= needs.reserve
    usual = share_out(needs, WHOLE)
    assert share.room(needs.free) >= usual.room(needs.free)
    if not share.notice:
        assert share == usual or share.room(needs.free) < needs.block
    else:
        asked_beside = needs.ahead - needs.standby if needs.overhead is None else 0
        assert needs.block <= share.room(needs.free) <= max(needs.session, asked_beside)


@given(NEEDS, GROUPS, st.integers(0, GIB))
def test_more_room_never_means_a_refusal(needs, machine, more):
    larger = replace(needs, free=needs.free + more)
    if share_out(needs, machine).room(needs.free) >= needs.block:
        assert share_out(larger, machine).room(larger.free) >= needs.block


@given(NEEDS, GROUPS)
def test_what_is_asked_for_before_a_load_is_there_unless_overhead_was_measured(needs, machine):
    share = share_out(needs, machine)
    if needs.overhead is None and share.overhead > LEAST_OVERHEAD_BYTES:
        assert needs.free - share.overhead >= needs.ahead


def test_session_below_the_usual_length_is_promised_only_in_a_group():
    machine = group(RECORD.weights_bytes + 300 * MIB)
    chosen = Settings(memory=MemorySettings(kv_budget_bytes=least_contexts(RECORD, 256)))
    assert plan_model(RECORD, machine, chosen).fits
    assert not plan_model(RECORD, WHOLE, chosen).fits


class Desk:
    """A planner on one machine, with a worker whose footprint is known late."""

    def __init__(self, machine, footprint=0, record=RECORD):
        self.own = OwnMemory()
        self.record = record
        self.planner = Planner(
            SimpleNamespace(get=lambda _name: record),
            SimpleNamespace(machine=lambda: machine, quick_footprint=lambda _pid: footprint),
            self.own,
            Settings(),
        )

    def check(self):
        return self.planner.check(self.record)

    @property
    def is_let_in(self):
        """Whether a swap to the model would begin."""
        try:
            return self.check() is self.record
        except HotseatError:
            return False


@pytest.mark.parametrize("parts", [None, WeightParts(layers=(80 * MIB,) * 24, outside=128 * MIB)])
@pytest.mark.parametrize("swap", [0, 200 * MIB, GIB])
def test_larger_group_never_refuses_what_a_smaller_one_seats(parts, swap):
    """Also where what is borrowed of the reserve makes the difference."""
    layers = window_layers(20, 512) + full_layers(4)
    model = replace(RECORD, layers=layers, kv_dtype="float32", parts=parts)
    idle = min(swap, 100 * MIB)
    limits = range(GIB // 2, 4 * GIB, 24 * MIB)
    machines = [group(limit, used=200 * MIB, swap=swap, idle=idle) for limit in limits]
    let_in = [Desk(machine, record=model).is_let_in for machine in machines]
    assert any(let_in)
    assert not all(let_in)
    assert let_in == sorted(let_in)


def test_model_that_nothing_can_be_read_of_is_seated_where_the_reserve_may_be_swapped():
    """What is borrowed for its session is not asked for as free memory."""
    model = replace(RECORD, layers=window_layers(20, 512) + full_layers(4), kv_dtype="float32")
    desk = Desk(group(2664 * MIB, used=200 * MIB, swap=200 * MIB), 100 * MIB, model)
    desk.own.standby_bytes, desk.own.standby_pid = 100 * MIB, 9
    assert desk.is_let_in
    assert desk.planner.plan(model).max_context_tokens >= 256


def test_outside_of_a_group_a_session_is_asked_for_as_it_is_stored():
    """A model that runs on a Mac with shorter prompts is not refused for the copies of longer."""
    model = replace(RECORD, layers=window_layers(20, 512) + full_layers(4))
    plan = plan_model(model, WHOLE, Settings())
    fixed = plan.weights_bytes + plan.overhead_bytes + plan.prefill_peak_bytes
    assert least_bytes(model, plan, WHOLE) == fixed + session_bytes(model, 2048)
    assert session_bytes(model, 2048) < least_contexts(model)


@pytest.mark.parametrize("held", ["standby_bytes", "taken_bytes"])
def test_standby_is_room_in_a_group_since_the_next_worker_is_made_of_it(held):
    """Also when it is that worker: the gate counted with it, so whoever loads the model does."""
    machine = group(3 * GIB, used=GIB)
    desk, bare = Desk(machine), Desk(WHOLE)
    for one in (desk, bare):
        setattr(one.own, held, 100 * MIB)
    assert desk.planner.machine().available_bytes == machine.available_bytes + 100 * MIB
    assert bare.planner.machine() == WHOLE


def test_worker_that_loads_is_measured_and_given_back_once():
    """The tokenizer may have come since it was the standby; as the worker it is measured too."""
    desk = Desk(group(4 * GIB, used=GIB), footprint=300 * MIB)
    desk.own.taken_pid, desk.own.taken_bytes = 7, 100 * MIB
    desk.planner.plan_to_load(RECORD, None)
    assert desk.own.taken_bytes == 300 * MIB
    desk.own.worker_bytes = 310 * MIB
    assert desk.own.returned_bytes == 10 * MIB


def with_tokenizer(name, mib):
    """A model whose tokenizer takes so much."""
    size = mib * MIB // TOKENIZER_BYTES_PER_BYTE
    file = FileDigest(name="tokenizer.json", size_bytes=size, mtime_ns=0, blake2b="")
    return replace(RECORD, name=name, files=(file,))


@pytest.mark.parametrize(
    ("loaded", "held", "prepared", "beside"),
    [
        ("small", 320, ("large",), 120),  # theirs are exchanged by the swap
        ("small", 340, ("large", "small"), 120),  # a prompt of the seated one was counted
        ("large", 320, ("large",), 320),  # there it is, as it will be
        ("small", 320, (), 340),
        ("small", 100, ("large",), 100),  # it is being loaded: a bare one is no smaller
        (None, 320, ("large",), 100),
        ("small", 0, ("large",), 0),
    ],
)
def test_standby_beside_a_model_has_the_others_tokenizer(loaded, held, prepared, beside):
    models = {"large": with_tokenizer("large", 220), "small": with_tokenizer("small", 20)}
    own = OwnMemory()
    own.loaded, own.standby_bytes, own.tokenizers_of = models.get(loaded), held * MIB, prepared
    own.worker_pid = 7 if loaded else None
    found = own.standby_beside(models["large"], in_group=True)
    assert found / MIB == pytest.approx(beside, abs=0.01)
    assert own.standby_beside(models["large"], in_group=False) == held * MIB
    own.standby_bytes, own.taken_bytes = 0, held * MIB
    taken = own.standby_beside(models["large"], in_group=True)
    is_same = loaded == "large"  # seated again: its worker was the standby that has it
    assert taken / MIB == pytest.approx(100 if is_same else beside, abs=0.01)
    assert own.standby_beside(models["large"], in_group=False) == 0, "the next one is not there"


@given(
    windows=st.integers(0, 20),
    full=st.integers(0, 20),
    room=st.integers(0, 4096).map(lambda mib: mib * MIB),
    parts=st.sampled_from([None, DENSE]),
)
def test_model_that_fits_a_group_takes_a_prompt(windows, full, room, parts):
    """Whose windows are copied when they are restored, whatever is read of the rest."""
    layers = window_layers(windows, 512) + full_layers(full)
    if parts is not None:
        parts = replace(parts, layers=parts.layers[:1] * len(layers))
    model = replace(RECORD, layers=layers, kv_dtype="float32", parts=parts)
    plan = plan_model(model, group(2 * GIB + room), Settings())
    if plan.fits and layers:
        assert plan.longest_tokens >= 256
    if plan.fits and plan.kv_budget_bytes >= least_contexts(model):
        assert plan.longest_tokens >= 2048


def test_worker_that_grew_since_it_was_measured_is_measured_before_a_refusal():
    desk = Desk(group(3 * GIB, used=5 * GIB // 2), footprint=9 * GIB // 4)
    desk.own.worker_bytes = GIB
    with pytest.raises(HotseatError, match="are available"):
        desk.check()
    desk.own.worker_pid = 7
    assert desk.check() is RECORD
    assert desk.own.worker_bytes == 9 * GIB // 4


def test_standby_that_grew_since_it_was_measured_is_measured_before_a_refusal():
    desk = Desk(group(3 * GIB, used=822 * MIB), footprint=300 * MIB)
    with pytest.raises(HotseatError, match="are available"):
        desk.check()
    desk.own.standby_pid = 8
    assert desk.check() is RECORD
    assert desk.own.standby_bytes == 300 * MIB


def test_model_in_little_room_is_not_refused_for_what_went_between_two_looks():
    desk = Desk(group(3 * GIB, used=GIB))
    used = iter(range(700 * MIB, 0, -4096))
    desk.planner.probe.machine = lambda: group(3 * GIB, used=next(used))
    assert "little room" in desk.planner.plan(RECORD).notice, "else nothing is shown"
    assert desk.check() is RECORD


@pytest.mark.parametrize("swap", [0, 2 * GIB])
def test_model_that_is_planned_with_an_assumed_overhead_is_seated(swap):
    """The gate asks for the reserve beside the overhead, so this is not all that is left."""
    planned = 0
    for available in range(2 * GIB, 5 * GIB // 2, 10 * MIB):
        desk = Desk(group(3 * GIB, used=3 * GIB - available, swap=swap))
        if LEAST_OVERHEAD_BYTES < desk.planner.plan(RECORD).overhead_bytes < DEFAULT_OVERHEAD_BYTES:
            planned += 1
            assert desk.check() is RECORD
    assert planned > 3


def test_assumed_overhead_has_room_for_the_tokenizer():
    """Assumed smaller than it is, a load in a group without swap ends by the system's hand."""
    record = with_tokenizer("large", 360)
    least = LEAST_OVERHEAD_BYTES + record.tokenizer_bytes
    assert least > DEFAULT_OVERHEAD_BYTES
    assert plan_model(record, WHOLE, Settings()).overhead_bytes == least
    for used in range(0, GIB, 64 * MIB):
        assert plan_model(record, group(3 * GIB, used=used), Settings()).overhead_bytes == least
    assert plan_model(record, WHOLE, Settings(), overhead_bytes=MIB).overhead_bytes == MIB
