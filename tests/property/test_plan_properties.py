"""Plan and engine hold their arithmetic for any model and machine."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.support.models.records import model_record

from hotseat.protocol.limits import GIB
from hotseat.protocol.live_contexts import longest_alone
from hotseat.protocol.model import LayerSpec, StateSpec
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.models.rules.plan import plan_model
from hotseat.supervisor.models.rules.sizes import session_bytes
from hotseat.supervisor.settings.values import MemorySettings, Settings
from hotseat.worker.model.budget import KvBudget

SIZES = st.integers(0, 256 * GIB)
HEADS = st.integers(1, 64)
DIMS = st.sampled_from([16, 64, 96, 128, 256, 576])
LAYERS = st.lists(
    st.builds(LayerSpec, kind=st.just("full"), kv_heads=HEADS, k_dim=DIMS, v_dim=DIMS)
    | st.builds(
        LayerSpec,
        kind=st.just("window"),
        kv_heads=HEADS,
        k_dim=DIMS,
        v_dim=DIMS,
        window=st.integers(1, 8192),
    ),
    min_size=1,
    max_size=64,
).map(tuple)
RECORDS = st.builds(
    model_record,
    layers=LAYERS,
    parameters=st.integers(1, 10**12),
    vocab_size=st.integers(1, 300_000),
    weights_bytes=st.integers(1, 128 * GIB),
    context_tokens=st.integers(1, 1_000_000),
    kv_dtype=st.sampled_from(["float32", "bfloat16"]),
)
MACHINES = st.builds(
    lambda total, share: MachineMemory(total_bytes=total, available_bytes=int(total * share)),
    st.integers(1, 512 * GIB),
    st.floats(0, 1),
)
SETTINGS = st.builds(
    lambda **memory: Settings(memory=MemorySettings(**memory)),
    reserve_bytes=st.none() | SIZES,
    limit_bytes=st.none() | SIZES,
    kv_budget_bytes=st.none() | SIZES,
)
TERMS = {
    "own_footprint_bytes": SIZES,
    "standby_bytes": st.integers(0, GIB),
    "overhead_bytes": st.none() | st.integers(0, GIB),
    "working_set_bytes": st.none() | SIZES,
}


@given(RECORDS, MACHINES, SETTINGS, st.fixed_dictionaries(TERMS))
def test_limit_is_the_smallest_term_and_never_negative(record, machine, settings, terms):
    plan = plan_model(record, machine, settings, **terms)
    every = {
        "ram": machine.total_bytes - plan.reserve_bytes,
        "available": machine.available_bytes + terms["own_footprint_bytes"],
        "working_set": None
        if terms["working_set_bytes"] is None
        else terms["working_set_bytes"] - GIB,
        "cap": settings.memory.limit_bytes,
    }
    if not plan_model(record, machine, settings, in_any_case=True, **terms).fits:
        # What others hold now is not why a model is refused that never fits.
        every["available"] = None
    given_terms = [term for term in every.values() if term is not None]
    assert plan.limit_bytes == max(min(given_terms), 0)
    assert max(every[plan.binding], 0) == plan.limit_bytes


@given(RECORDS, MACHINES, SETTINGS, st.fixed_dictionaries(TERMS))
def test_budget_and_all_else_stay_within_the_limit(record, machine, settings, terms):
    plan = plan_model(record, machine, settings, **terms)
    assert plan.kv_budget_bytes >= 0
    if plan.kv_budget_bytes:
        used = plan.weights_bytes + plan.overhead_bytes + plan.standby_bytes
        assert used + plan.prefill_peak_bytes + plan.kv_budget_bytes <= plan.limit_bytes
    if settings.memory.kv_budget_bytes is not None:
        assert plan.kv_budget_bytes <= settings.memory.kv_budget_bytes


@given(RECORDS, MACHINES, SETTINGS, st.fixed_dictionaries(TERMS))
def test_sessions_that_are_promised_fit(record, machine, settings, terms):
    plan = plan_model(record, machine, settings, **terms)
    for fit in plan.sessions:
        assert fit.sessions * fit.bytes_per_session <= plan.kv_budget_bytes
        assert (fit.sessions + 1) * fit.bytes_per_session > plan.kv_budget_bytes
        assert fit.bytes_per_session >= record.kv_bytes(fit.context_tokens)


@given(RECORDS, MACHINES, SETTINGS, st.fixed_dictionaries(TERMS))
def test_fit_means_one_session_has_room_and_refusal_says_why(record, machine, settings, terms):
    plan = plan_model(record, machine, settings, **terms)
    least = session_bytes(record, min(2048, record.context_tokens))
    assert plan.fits == (plan.kv_budget_bytes >= least)
    assert bool(plan.reason) == bool(plan.remedy) == (not plan.fits)


@given(RECORDS, st.integers(1, 256 * GIB), st.integers(0, 256 * GIB), SETTINGS)
def test_more_memory_never_means_a_smaller_budget(record, total, more, settings):
    small = MachineMemory(total_bytes=total, available_bytes=total)
    large = MachineMemory(total_bytes=total + more, available_bytes=total + more)
    before, after = (plan_model(record, machine, settings) for machine in (small, large))
    assert before.kv_budget_bytes <= after.kv_budget_bytes
    assert before.max_context_tokens <= after.max_context_tokens


STATES = st.builds(
    LayerSpec,
    kind=st.just("state"),
    states=st.lists(
        st.builds(StateSpec, shape=st.tuples(st.integers(1, 10**6)), dtype=st.just("float32")),
        max_size=2,
    ).map(tuple),
)
ALL_KINDS = st.lists(LAYERS.map(lambda layers: layers[0]) | STATES, min_size=1, max_size=8)


@given(RECORDS, ALL_KINDS, st.sampled_from([64, 256, 1024]), MACHINES, SETTINGS)
def test_longest_context_of_a_plan_is_the_longest_that_the_worker_takes(
    record, layers, chunk, machine, settings
):
    record = replace(record, layers=tuple(layers), prefill_chunk=chunk)
    plan = plan_model(record, machine, settings)
    budget, longest = KvBudget(record, plan.kv_budget_bytes), plan.max_context_tokens
    assert longest == budget.fit_tokens(record.context_tokens)
    assert longest == 0 or budget.need_bytes([[longest]], 0) <= plan.kv_budget_bytes
    if longest < record.context_tokens:
        assert budget.need_bytes([[longest + 1]], 0) > plan.kv_budget_bytes


@given(RECORDS, SIZES, st.integers(1, 1_000_000))
def test_engine_admits_the_longest_sequence_that_its_budget_holds(record, budget_bytes, ceiling):
    budget = KvBudget(record, budget_bytes)
    fits = longest_alone(record, budget_bytes, ceiling)
    assert 0 <= fits <= ceiling
    assert fits == 0 or budget.need_bytes([[fits]], 0) <= budget_bytes
    if fits < ceiling:
        assert budget.need_bytes([[fits + 1]], 0) > budget_bytes


@given(RECORDS, SIZES, st.lists(st.integers(1, 200_000), min_size=1, max_size=16))
def test_engine_counts_at_least_what_its_rows_hold(record, budget_bytes, rows):
    counted = KvBudget(record, budget_bytes).lane_bytes(rows)
    assert counted >= sum(record.kv_bytes(tokens) for tokens in rows)
