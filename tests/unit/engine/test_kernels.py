"""Kernels of the next model: its layers run in the shapes of real steps and leave nothing."""

from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model, quantize_model, save_config, save_model
from msgspec import structs
from tests.support.engine.engine_harness import (
    FakeSupervisor,
    make_engine,
    prompt_tokens,
    tiny_record,
)
from tests.support.models.tiny_models import register_tiny
from tests.support.stub_worker.faults import METAL_ERROR

from hotseat.protocol.limits import GIB
from hotseat.protocol.link_orders import Load, Prepare, Stop, Warm
from hotseat.protocol.link_reports import PREPARING, KernelsWarmed, Loaded
from hotseat.protocol.model import LayerSpec
from hotseat.worker.dying import GpuLostError
from hotseat.worker.model import kernel_warming
from hotseat.worker.model.building import build_model
from hotseat.worker.model.caches import leaves
from hotseat.worker.model.first_layers import build_first_layers, cut_config, layers_wanted
from hotseat.worker.model.kernel_warming import (
    LONG_KEYS,
    TAIL_TOKENS,
    KernelWarming,
    WarmShape,
    warm_shapes,
)

KINDS = ("llama", "gemma3", "mixtral", "deepseek_v2", "lfm2", "falcon_h1")
CHUNK = 256
NOTHING_BYTES = 1024
"""Constants of compiled functions; a layer of the tiny models is a hundred times as much."""
OUT_OF_MEMORY = "[METAL] Command buffer execution failed: Insufficient Memory (00000008)"
FULL = LayerSpec(kind="full", kv_heads=2, k_dim=16, v_dim=16)
WINDOW = LayerSpec(kind="window", kv_heads=2, k_dim=16, v_dim=16, window=512)
STATE = LayerSpec(kind="state")


@pytest.fixture(scope="module")
def record(home):
    return tiny_record(home, "llama")


def order(record, limit=GIB, **options) -> Prepare:
    return Prepare(record=record, kernels_limit_bytes=limit, **options)


@pytest.fixture
def warming():
    told = []
    made = KernelWarming(told.append)
    yield made, told
    made.drop()


def warm(warming, record, **options):
    """Runs to the end; what was told."""
    kernels, told = warming
    kernels.put(order(record, **options))
    while kernels.step():
        pass
    return told[-1]


@pytest.fixture
def steps(monkeypatch):
    """Shapes of all that went through a model of first layers, as the model saw them."""
    seen = []
    build = kernel_warming.build_first_layers

    def spied(record, limit_bytes):
        model = build(record, limit_bytes)
        kind = type(model)

        def call(self, fed, cache):
            offsets = [one.offset for one in leaves(cache) if hasattr(one, "offset")]
            past = max((int(mx.max(mx.array(one)).item()) for one in offsets), default=None)
            seen.append((*fed.shape, past))
            return kind.__call__(self, fed, cache=cache)

        model.__class__ = type(kind.__name__, (kind,), {"__call__": call})
        return model

    monkeypatch.setattr(kernel_warming, "build_first_layers", spied)
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_layers_run_in_these_shapes_without_weights_and_leave_nothing(
    tmp_path, warming, steps, kind
):
    record = register_tiny(tmp_path, "model", kind, context=8_192)
    for file in Path(record.path).glob("*.safetensors"):
        file.unlink()
    before = mx.get_active_memory()
    assert warm(warming, record).left_out == ""
    behind = CHUNK + TAIL_TOKENS
    assert steps == [
        (1, CHUNK, 0),
        (1, TAIL_TOKENS, CHUNK),
        (1, 1, behind),
        (2, 1, behind),
        (4, 1, behind),
        *((1, 1, keys) for keys in LONG_KEYS if keys < 8_192),
    ]
    assert mx.get_active_memory() - before <= NOTHING_BYTES
    assert mx.get_cache_memory() == 0
    assert mx.get_peak_memory() - before <= NOTHING_BYTES


def test_shapes_follow_the_chunk_and_end_with_the_context(record):
    long = structs.replace(record, prefill_chunk=1_024, context_tokens=4_352)
    assert warm_shapes(long) == (
        WarmShape(1, 1_024, 0),
        WarmShape(1, TAIL_TOKENS, 1_024),
        *(WarmShape(rows, 1, 1_024 + TAIL_TOKENS) for rows in (1, 2, 4)),
        WarmShape(1, 1, 1_280),
    )
    alone = structs.replace(record, batches=False, layers=(STATE,))
    assert {shape.rows for shape in warm_shapes(alone)} == {1}
    assert max(shape.past for shape in warm_shapes(alone)) < min(LONG_KEYS)


@pytest.fixture(scope="module")
def mixed(home):
    """Four bits, but eight in one matrix; bfloat16."""
    record = tiny_record(home, "llama", name="mixed", dtype="bfloat16")
    folder = Path(record.path)
    model, config = load_model(folder)

    def bits(path, module):
        size = 8 if path.endswith("down_proj") else 4
        return hasattr(module, "to_quantized") and {"group_size": 32, "bits": size}

    model, config = quantize_model(model, config, 32, 4, quant_predicate=bits)
    save_model(folder, model)
    save_config(config, folder / "config.json")
    return record


def shapes_of(model, names=None):
    found = {name: (a.shape, a.dtype) for name, a in tree_flatten(model.parameters())}
    return found if names is None else {name: found[name] for name in names}


def test_first_layers_are_quantised_as_the_real_ones(mixed):
    first = shapes_of(build_first_layers(mixed, GIB))
    assert {str(dtype) for _, dtype in first.values()} == {"mlx.core.uint32", "mlx.core.bfloat16"}
    real, _ = build_model(Path(mixed.path))
    assert first == shapes_of(real, first), "of a small vocabulary nothing is cut off"
    assert any("layers.0.mlp.down_proj.scales" in name for name in first)
    assert not any("layers.1." in name for name in first)


@pytest.mark.parametrize(
    ("layers", "said", "wanted"),
    [
        ((FULL,) * 4, {}, 1),
        ((WINDOW, WINDOW, WINDOW, FULL) * 3, {}, 4),
        ((STATE, FULL, STATE, FULL), {}, 2),
        ((FULL,) * 9, {"first_k_dense_replace": 3}, 4),
        ((FULL,) * 9, {"text_config": {"decoder_sparse_step": 2}}, 2),
        ((FULL,) * 2, {"first_k_dense_replace": 3}, 2),
        (tuple(structs.replace(one, group=n) for n in range(3) for one in (STATE, FULL)), {}, 1),
    ],
)
def test_one_layer_of_each_kind_is_wanted(layers, said, wanted):
    assert layers_wanted(layers, said) == wanted


def test_lists_by_layer_are_cut_and_no_others():
    config = {
        "num_hidden_layers": 3,
        "layer_types": ["a", "b", "c"],
        "rope_section": [1, 2, 3],
        "vocab_size": 128_003,
        "text_config": {"num_hidden_layers": 2, "block_types": ["r", "s"], "vocab_size": 100},
    }
    assert cut_config(config, 1) == {
        "num_hidden_layers": 1,
        "layer_types": ["a"],
        "rope_section": [1, 2, 3],
        "vocab_size": 8_192 + 3,
        "text_config": {"num_hidden_layers": 1, "block_types": ["r"], "vocab_size": 100},
    }


def begun(supervisor, record):
    """An engine that has built its layers and run two shapes."""
    supervisor.engine = make_engine(supervisor._inbox.put)
    supervisor.engine.handle(order(record))
    for _ in range(3):
        assert supervisor.engine.step()
    assert supervisor.engine.beat().phase == PREPARING
    return supervisor.engine


@pytest.fixture
def undriven(record, tmp_path):
    made = FakeSupervisor(record, tmp_path / "undriven")
    yield made
    made.unseat()


def test_seat_that_comes_meanwhile_waits_for_no_other_evaluation(
    record, supervisors, undriven, steps
):
    """And draws the same tokens as if nothing had run."""
    prompt = prompt_tokens(300)
    expected = supervisors(record).turn(prompt).tokens
    engine = begun(undriven, record)
    before = mx.get_active_memory()
    engine.handle(Load(record=record, kv_dir=str(undriven.kv_dir), **undriven.load))
    assert mx.get_active_memory() - before <= record.weights_bytes
    undriven.until(Loaded)
    engine.handle(Warm())
    assert undriven.turn(prompt).tokens == expected
    assert len(steps) == 2
    assert not any(isinstance(one, KernelsWarmed) for one in undriven.messages)


def test_stop_waits_for_no_other_evaluation(record, undriven, steps):
    engine = begun(undriven, record)
    engine.handle(Stop())
    assert not engine.step()
    assert len(steps) == 2


def raising(text):
    def evaluate(*_arguments):
        raise RuntimeError(text)

    return evaluate


@pytest.mark.parametrize("text", ["shapes do not fit", OUT_OF_MEMORY])
def test_error_is_told_and_the_standby_lives(record, warming, monkeypatch, text):
    monkeypatch.setattr(kernel_warming, "evaluate", raising(text))
    before = mx.get_active_memory()
    assert warm(warming, record).left_out == f"RuntimeError: {text}"
    assert mx.get_active_memory() - before <= NOTHING_BYTES
    assert not warming[0].is_busy


def test_error_of_the_gpu_ends_the_standby(record, warming, monkeypatch):
    monkeypatch.setattr(kernel_warming, "evaluate", raising(METAL_ERROR))
    with pytest.raises(GpuLostError):
        warm(warming, record)


def test_layers_that_are_too_large_or_not_the_models_are_left_out(record, warming):
    assert "may be taken" in warm(warming, record, limit=1_000).left_out
    other = structs.replace(record, tag="other", layers=(STATE,) * 3)
    assert "keep full" in warm(warming, other).left_out


def test_model_is_warmed_once_and_only_where_it_is_asked_for(record, warming):
    kernels, _ = warming
    kernels.put(Prepare(record=record))
    assert not kernels.is_busy
    warm(warming, record)
    kernels.put(order(record))
    assert not kernels.is_busy


def test_model_that_is_next_for_certain_takes_the_place_of_others(record, warming, steps):
    kernels, told = warming
    others = [structs.replace(record, tag=f"t{n}", name=f"n{n}") for n in range(2)]
    for one in others:
        kernels.put(order(one))
    kernels.step()
    assert warm(warming, record, warm_pages=True).model == record.name
    assert [one.model for one in told] == [record.name]
    assert len(steps) == len(warm_shapes(record))
