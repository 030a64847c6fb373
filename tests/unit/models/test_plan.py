"""The memory plan against published numbers, and what it says when a model does not fit."""

import msgspec
import pytest
from tests.support.models.records import full_layers, model_record, window_layers

from hotseat.protocol.limits import GIB, MIB
from hotseat.protocol.model import LayerSpec, StateSpec
from hotseat.protocol.residence import WeightParts
from hotseat.protocol.streamed_contexts import LEAST_TOKENS_PER_S, place_context
from hotseat.supervisor.machine.figures import Holder, MachineMemory
from hotseat.supervisor.models.rules.plan import plan_elsewhere, plan_model
from hotseat.supervisor.models.rules.prefill import as_fed_on, prefill_chunk, prefill_peak_bytes
from hotseat.supervisor.models.rules.sizes import session_bytes
from hotseat.supervisor.models.rules.tight import DEFAULT_OVERHEAD_BYTES
from hotseat.supervisor.settings.values import MemorySettings, ModelSettings, Settings

MAC = MachineMemory(total_bytes=24 * GIB, available_bytes=20 * GIB, wired_bytes=2 * GIB)
GEMMA = {
    "layers": full_layers(8, 8, 256) + window_layers(40, 1024),
    "parameters": 12_200_000_000,
    "vocab_size": 262_208,
    "weights_bytes": int(6.6 * GIB),
}


def settings(**memory):
    return Settings(memory=MemorySettings(**memory))


@pytest.mark.parametrize(
    ("layers", "per_token", "windows"),
    [
        (full_layers(32), 131_072, 0),  # Llama 3.1 8B
        (full_layers(36), 147_456, 0),  # Qwen3 8B
        (full_layers(40), 163_840, 0),  # Qwen3 14B
        (full_layers(48), 196_608, 0),  # Qwen2.5 14B
        (GEMMA["layers"], 65_536, 320 * MIB),  # Gemma 3 12B
    ],
)
def test_kv_of_known_models_is_what_is_published(layers, per_token, windows):
    plan = plan_model(model_record(layers=layers), MAC, Settings())
    assert (plan.kv_bytes_per_token, plan.window_bytes) == (per_token, windows)
    by_length = {fit.context_tokens: fit.bytes_per_session for fit in plan.sessions}
    assert by_length == {n: n * per_token + windows for n in (4096, 8192, 16_384, 32_768)}


STATE = LayerSpec(
    kind="state",
    states=(
        StateSpec(shape=(3, 1000), dtype="bfloat16"),
        StateSpec(shape=(10, 100), dtype="float32"),
    ),
)


def test_recurrent_state_costs_every_session_the_same_with_its_snapshot():
    layers = (STATE, *full_layers(4))
    plan = plan_model(model_record(layers=layers), MAC, Settings())
    assert plan.state_bytes == 6000 + 4000
    by_length = {fit.context_tokens: fit.bytes_per_session for fit in plan.sessions}
    assert by_length[8192] == 8192 * plan.kv_bytes_per_token + 2 * 10_000
    assert by_length[4096] == 4096 * plan.kv_bytes_per_token + 2 * 10_000


def test_prefill_peak_takes_caches_in_one_list_for_one_layer():
    inside = [
        msgspec.structs.replace(layer, group=number)
        for number, full in enumerate(full_layers(4))
        for layer in (STATE, full)
    ]
    lists, plain = (model_record(layers=tuple(one)) for one in (inside, full_layers(4)))
    assert prefill_peak_bytes(lists) == prefill_peak_bytes(plain)


def test_llama_on_a_24_gib_mac_adds_up():
    plan = plan_model(
        model_record(),
        MAC,
        Settings(),
        working_set_bytes=16 * GIB,
        standby_bytes=100 * MIB,
        holders=[Holder(name="Chrome", size_bytes=3 * GIB)],
    )
    assert (plan.fits, plan.binding, plan.limit_bytes) == (True, "working_set", 15 * GIB)
    used = plan.weights_bytes + plan.overhead_bytes + plan.standby_bytes + plan.prefill_peak_bytes
    assert plan.kv_budget_bytes == plan.limit_bytes - used
    assert plan.overhead_bytes == DEFAULT_OVERHEAD_BYTES
    assert plan.holders == (("Chrome", 3 * GIB),)
    assert plan.sessions[0].sessions == plan.kv_budget_bytes // (512 * MIB)
    assert (plan.reason, plan.remedy) == ("", "")


@pytest.mark.parametrize(
    ("machine", "chosen", "working_set", "own", "binding", "limit"),
    [
        (MAC, {"reserve_bytes": 10 * GIB}, None, 0, "ram", 14 * GIB),
        (MAC, {}, 16 * GIB, 0, "working_set", 15 * GIB),
        (MAC, {"limit_bytes": 8 * GIB}, 16 * GIB, 0, "cap", 8 * GIB),
        (
            MachineMemory(total_bytes=24 * GIB, available_bytes=9 * GIB),
            {},
            16 * GIB,
            2 * GIB,
            "available",
            11 * GIB,
        ),
    ],
)
def test_smallest_term_binds(machine, chosen, working_set, own, binding, limit):
    plan = plan_model(
        model_record(),
        machine,
        settings(**chosen),
        working_set_bytes=working_set,
        own_footprint_bytes=own,
    )
    assert (plan.binding, plan.limit_bytes) == (binding, limit)


@pytest.mark.parametrize(
    ("weights", "chosen", "working_set", "available", "remedy"),
    [
        (22 * GIB, {}, None, 24 * GIB, "smaller model"),
        (22 * GIB, {}, 16 * GIB, 24 * GIB, "iogpu.wired_limit_mb=20"),
        (8 * GIB, {}, 16 * GIB, 5 * GIB, "other programs"),
        (8 * GIB, {"limit_bytes": 4 * GIB}, 16 * GIB, 20 * GIB, "limit_bytes"),
        (4 * GIB, {"kv_budget_bytes": 10 * MIB}, 16 * GIB, 20 * GIB, "kv_budget_bytes"),
    ],
)
def test_model_that_does_not_fit_says_numbers_and_remedy(
    weights, chosen, working_set, available, remedy
):
    plan = plan_model(
        model_record(weights_bytes=weights),
        MachineMemory(total_bytes=24 * GIB, available_bytes=available),
        settings(**chosen),
        working_set_bytes=working_set,
    )
    assert not plan.fits
    assert remedy in plan.remedy
    assert "256.0 MiB of KV" in plan.reason
    if "kv_budget_bytes" not in chosen:
        assert f"{weights / GIB:.2f} GiB of weights" in plan.reason
        assert plan.binding in plan.reason


def test_short_context_needs_no_more_than_itself():
    record = model_record(context_tokens=512)
    needed = session_bytes(record, 512)
    for budget, fits in ((needed, True), (needed - 1, False)):
        plan = plan_model(record, MAC, settings(kv_budget_bytes=budget))
        assert (plan.fits, plan.kv_budget_bytes, plan.sessions) == (fits, budget, ())


def test_cap_of_the_model_is_kept_too():
    models = {"m": ModelSettings(kv_budget_bytes=GIB)}
    chosen = Settings(memory=MemorySettings(kv_budget_bytes=2 * GIB), models=models)
    assert plan_model(model_record(), MAC, chosen).kv_budget_bytes == GIB


def test_model_the_engine_cannot_serve_does_not_fit():
    plan = plan_model(model_record(unfit_reason="recurrent layers"), MAC, Settings())
    assert (plan.fits, plan.reason, plan.remedy) == (False, "recurrent layers", "")


def test_measured_overhead_replaces_the_default():
    plan = plan_model(
        model_record(), MAC, Settings(), overhead_bytes=7 * MIB, overhead_measured=True
    )
    assert (plan.overhead_bytes, plan.overhead_measured) == (7 * MIB, True)


def longest(record, budget_bytes):
    return plan_model(record, MAC, settings(kv_budget_bytes=budget_bytes)).max_context_tokens


def test_longest_context_is_what_the_budget_holds_with_the_copies_a_worker_makes():
    """Of all of it once, of one of 32 layers once more."""
    worst = 2 * 131_072 + 4096
    assert longest(model_record(), worst * 1000) == 768
    assert longest(model_record(), worst * 1024) == 1024
    assert longest(model_record(context_tokens=1000), 10**15) == 1000
    assert longest(model_record(), 0) == 0


def test_windows_count_once_they_are_needed_and_with_the_chunk_that_they_hold():
    record = model_record(**GEMMA)
    layers = 8 + 40
    assert longest(record, (2 * layers + 1) * 256 * 8192 - 1) == 0
    assert longest(record, (2 * layers + 1) * 256 * 8192) == 256
    caches = 8 * 2048 + 40 * (1024 + 256)
    assert longest(record, (2 * caches + 2048) * 8192) == 2048


@pytest.mark.parametrize(
    ("changes", "low", "high"),
    [
        ({}, 100 * MIB, 200 * MIB),  # Llama 3.1 8B, hidden 4096
        (GEMMA, 200 * MIB, 400 * MIB),  # Gemma 3 12B, unfused head size
        (
            {"layers": full_layers(30, 3, 64), "parameters": 134_500_000, "vocab_size": 49_152},
            10 * MIB,
            30 * MIB,
        ),  # SmolLM2 135M, hidden 576
    ],
)
def test_prefill_peak_is_of_the_right_size(changes, low, high):
    record = as_fed_on(model_record(**changes), "darwin", 256)
    assert low < prefill_peak_bytes(record) < high


def test_larger_chunk_has_a_larger_peak():
    small, large = (model_record(prefill_chunk=chunk) for chunk in (256, 512))
    assert prefill_peak_bytes(large) == 2 * prefill_peak_bytes(small)


FUSED, UNFUSED, LATENT = (
    full_layers(32),
    full_layers(32, dim=96),
    (LayerSpec(kind="full", kv_heads=1, k_dim=512, v_dim=64),),
)


@pytest.mark.parametrize(
    ("layers", "system", "is_stored"),
    [
        (FUSED, "darwin", False),
        (FUSED, "linux", True),
        (UNFUSED, "darwin", True),
        (LATENT, "darwin", True),
        (FUSED + UNFUSED, "darwin", True),
        ((STATE,), "linux", False),
    ],
)
def test_scores_are_stored_where_no_kernel_is_fused(layers, system, is_stored):
    assert as_fed_on(model_record(layers=layers), system).stores_scores is is_stored


@pytest.mark.parametrize(
    ("changes", "chunk", "scores"),
    [
        ({"context_tokens": 4096}, 256, 32 * 256 * 4096),
        ({"context_tokens": 8192}, 256, 32 * 256 * 8192),
        ({"context_tokens": 65_536}, 256, 32 * 256 * 8192),
        ({"context_tokens": 131_072}, 512, 32 * 512 * 8192),
        ({"context_tokens": 1_048_576}, 256, 32 * 16 * 1_048_576),
        ({"attention_heads": 64}, 256, 64 * 256 * 8192),
    ],
)
def test_scores_of_a_chunk_are_counted_once_whatever_the_context_is_long(changes, chunk, scores):
    """Of an 8B model with 32 heads."""
    record = model_record(**({"attention_heads": 32} | changes))
    fused = as_fed_on(record, "darwin", chunk)
    stored = as_fed_on(record, "linux", chunk)
    difference = prefill_peak_bytes(stored) - prefill_peak_bytes(fused)
    assert difference == scores * 4


def test_heads_that_no_record_says_follow_from_its_size_and_are_no_fewer_than_those_of_keys():
    stored, fused = (as_fed_on(model_record(), system, 256) for system in ("linux", "darwin"))
    heads = (prefill_peak_bytes(stored) - prefill_peak_bytes(fused)) / (256 * 8192 * 4)
    assert 28 <= heads <= 36
    keys = model_record(layers=full_layers(32, 64))
    stored, fused = (as_fed_on(keys, system, 256) for system in ("linux", "darwin"))
    heads = (prefill_peak_bytes(stored) - prefill_peak_bytes(fused)) / (256 * 8192 * 4)
    assert heads == 64


SMALL = {"parameters": 1_720_000_000}
SPARSE = {"parameters": 30_500_000_000, "experts": 128}


@pytest.mark.parametrize(
    ("changes", "system", "tokens"),
    [
        ({}, "darwin", 512),
        (SMALL, "darwin", 1024),
        ({"parameters": 2_000_000_000}, "darwin", 512),
        (SPARSE, "darwin", 1024),
        ({}, "linux", 256),
        (SMALL, "linux", 256),
        (SPARSE, "linux", 256),
    ],
)
def test_chunk_of_a_kind_of_model_on_a_system(changes, system, tokens):
    assert prefill_chunk(model_record(**changes), system) == tokens


def test_plan_for_another_mac_has_the_peak_of_metal_chunks():
    record = model_record()
    there = plan_elsewhere(record, 64 * GIB)
    assert there.prefill_peak_bytes == prefill_peak_bytes(model_record(prefill_chunk=512))


def test_plan_says_how_long_a_context_may_be_that_is_read_from_the_disk():
    record = model_record(parts=WeightParts(layers=(1,) * 32, outside=0))

    def planned(read_rate, **memory):
        chosen = settings(kv_budget_bytes=GIB, **memory)
        return plan_model(record, MAC, chosen, read_rate=read_rate)

    unknown, fast, slow = planned(None), planned(3e9), planned(3e8)
    assert unknown.max_context_tokens < unknown.streamed_context_tokens == unknown.longest_tokens
    assert slow.streamed_context_tokens < fast.streamed_context_tokens
    assert fast.streamed_context_tokens <= unknown.streamed_context_tokens
    place = place_context(record, slow.streamed_context_tokens, slow.kv_budget_bytes)
    assert place is not None
    assert place.step_bytes * LEAST_TOKENS_PER_S <= 3e8
    off = planned(3e9, streaming="off")
    assert (off.contexts, off.streamed_context_tokens) == (None, 0)
