"""Plans and block pools hold their arithmetic for any model and machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.models.records import model_record

from hotseat.protocol.limits import BLOCK_TOKENS, GIB
from hotseat.protocol.model import LayerSpec
from hotseat.supervisor.machine.figures import MachineMemory
from hotseat.supervisor.models.rules.blocks import block_geometry, block_pool, blocks_for_tokens
from hotseat.supervisor.models.rules.plan import max_context_tokens, plan_model, session_bytes
from hotseat.supervisor.settings.values import MemorySettings, Settings

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


@given(RECORDS, SIZES)
def test_longest_context_fits_and_a_block_more_does_not(record, budget):
    longest = max_context_tokens(record, budget)
    assert 0 <= longest <= record.context_tokens
    if longest:
        assert session_bytes(record, longest) <= budget
    if longest < record.context_tokens:
        assert session_bytes(record, longest + BLOCK_TOKENS) > budget


@given(RECORDS, SIZES)
def test_pool_is_never_larger_than_its_budget(record, budget):
    pool = block_pool(record, budget)
    unit = pool.geometry.block_bytes or pool.geometry.window_bytes
    assert pool.total * unit <= budget < (pool.total + 1) * unit


@given(RECORDS, RECORDS, SIZES)
def test_pool_after_a_swap_knows_nothing_of_the_model_before(first, second, budget):
    before = block_pool(first, budget)
    used = before.take(before.total)
    assert used is not None
    after = block_pool(second, budget)
    assert (after.used, after.geometry) == (0, block_geometry(second))
    assert after.total * after.geometry.block_bytes <= budget


@given(RECORDS, SIZES, st.lists(st.tuples(st.booleans(), st.integers(-2, 5000)), max_size=30))
def test_used_and_free_are_the_total_whatever_happens(record, budget, steps):
    pool = block_pool(record, budget)
    total, used = pool.total, 0
    for takes, blocks in steps:
        if takes:
            taken = pool.take(blocks)
            assert (taken is None) == (blocks < 0 or used + blocks > total)
            pool, used = (taken, used + blocks) if taken else (pool, used)
        elif 0 <= blocks <= used:
            pool, used = pool.give_back(blocks), used - blocks
        else:
            with pytest.raises(ValueError, match="given back"):
                pool.give_back(blocks)
        assert (pool.used, pool.total) == (used, total)
        assert pool.used + pool.free == pool.total


@given(RECORDS, st.integers(0, 200_000))
def test_blocks_of_a_sequence_cover_its_bytes(record, tokens):
    geometry = block_geometry(record)
    blocks = blocks_for_tokens(tokens, geometry)
    unit = geometry.block_bytes or geometry.window_bytes
    assert blocks * unit >= record.kv_bytes(tokens)
    assert blocks_for_tokens(tokens + 1, geometry) >= blocks
