"""Every type the gguf package decodes: kept bit for bit, or as near as its new form can be."""

import gguf
import mlx.core as mx
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.utils import _get_classes, load_model
from tests.support.models import gguf_families, tiny_gguf
from tests.support.models.gguf_blocks import DRAWN, WRITTEN, blocks_of

from hotseat.library.gguf import weights
from hotseat.library.gguf.codes import KEPT
from hotseat.library.gguf.converting import convert_gguf
from hotseat.library.gguf.file import open_gguf
from hotseat.library.gguf.forms import FLOATS, Wish, choose_form, stored_bytes
from hotseat.library.gguf.layout import TensorPlan
from hotseat.library.gguf.planning import describe_work, plan_work, tell_plan
from hotseat.protocol.errors import HotseatError

TOKENS = mx.array([[1, 7, 300, 42, 99, 5, 250, 17, 3, 11]])
TYPES = [*WRITTEN, *DRAWN]
WIDTH = 256
"""A row of the types whose blocks are longest."""


_GAIN = 8
"""By how much a layer of sharp attention may enlarge an error; rows in a wrong order give 1.4."""


def quiet(_phase, _percent):
    """Progress that nobody watches."""


def write_typed(path, kind, *, seed=0):
    """A llama whose matrices are all of one type, and its float weights as the package decodes."""
    config, made = gguf_families.tiny_source("llama", seed, width=WIDTH)
    writer = gguf.GGUFWriter(str(path), "llama")
    gguf_families.write_shape(writer, config, "llama")
    tiny_gguf.write_bpe_vocabulary(writer, config["vocab_size"])
    source = {}
    for number, (name, value) in enumerate(made.items()):
        target, array = gguf_families.stored_tensor(name, np.array(value), config, "llama")
        if array.ndim == 2:
            packed = blocks_of(kind, array.shape, float(array.std()), number)
            writer.add_tensor(target, packed, raw_dtype=kind)
            array = gguf.quants.dequantize(packed, kind)
            if "attn_q" in target or "attn_k" in target:
                key = "num_attention_heads" if "attn_q" in target else "num_key_value_heads"
                array = array[weights.rope_order(array.shape[0], config[key])]
        else:
            writer.add_tensor(target, array)
        source[name] = mx.array(array.astype(np.float32))
    tiny_gguf.finish(writer)
    return path, config, source


def source_logits(config, source):
    model_class, arguments = _get_classes(config)
    model = model_class(arguments.from_dict(config))
    model.load_weights(list(source.items()))
    return np.array(model(TOKENS))


def converted(path, folder, wish):
    folder.mkdir(exist_ok=True)
    work = plan_work(open_gguf(path), wish)
    plan = describe_work(work, folder)
    made = convert_gguf(work, folder, quiet)
    model, config = load_model(folder)
    return np.array(model(TOKENS)), plan, made, config


def relative(difference, whole):
    return float(np.sqrt(np.square(difference).sum() / np.square(whole).sum()))


def test_every_type_that_is_decoded_is_tried():
    decoded = {kind for kind in GGML_QUANT_SIZES if weights.is_decodable(kind)}
    assert decoded == {Kind.F32, *TYPES}


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_logits_are_those_of_the_decoded_source_within_the_error_of_the_form(tmp_path, kind):
    path, config, source = write_typed(tmp_path / "m.gguf", kind)
    expected = source_logits(config, source)
    found, plan, made, _ = converted(path, tmp_path / "mlx", Wish())
    (change,) = (change for change in plan.types if change.stored == kind.name)
    distance = relative(found - expected, expected)
    if kind in KEPT or kind in FLOATS:
        assert (made.requantised, change.error < 1e-6) == ((), True)
        assert distance < 1e-4
    else:
        assert made.requantised == (kind.name,)
        assert 0 < change.error < 0.15
        assert distance < _GAIN * change.error < 1.3


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("kind", [Kind.Q4_K, Kind.F16], ids=lambda kind: kind.name)
def test_asked_width_and_group_are_those_of_the_model(tmp_path, kind, bits, group):
    path, config, source = write_typed(tmp_path / "m.gguf", kind)
    wish = Wish(bits=bits, group_size=group)
    found, plan, made, written = converted(path, tmp_path / "mlx", wish)
    assert written["quantization"] == {"bits": bits, "group_size": group, "mode": "affine"}
    assert made.requantised == (() if kind in FLOATS else (kind.name,))
    (change,) = (change for change in plan.types if change.requantised)
    # Uniform codes of random normal weights: a step is about 1/2**bits of six deviations.
    assert change.error < 2.0 * 2.0**-bits
    expected = source_logits(config, source)
    assert relative(found - expected, expected) < _GAIN * change.error


def test_keeping_leaves_alone_what_mlx_has(tmp_path):
    path, _, _ = write_typed(tmp_path / "m.gguf", Kind.Q4_1)
    _, plan, made, written = converted(path, tmp_path / "mlx", Wish(bits=8, keep=True))
    assert made.requantised == ()
    assert written["quantization"] == {"bits": 4, "group_size": 32, "mode": "affine"}
    assert "4-bit g32 as it is" in tell_plan(plan)


@pytest.mark.parametrize("kind", sorted(KEPT), ids=lambda kind: kind.name)
def test_kept_codes_mean_what_the_reference_decoder_says(kind):
    items = GGML_QUANT_SIZES[kind][0]
    raw = blocks_of(kind, (8, 4 * items), 0.05, 7)
    form = choose_form(plan_of((8, 4 * items)), kind, Wish(), "float32")
    arrays = weights.convert(raw, kind, form, (8, 4 * items))
    assert form.kept
    expected = gguf.quants.dequantize(raw, kind)
    assert np.allclose(np.array(weights.restore(arrays, form)), expected, rtol=1e-5, atol=1e-6)


def plan_of(shape, **changes):
    return TensorPlan(source="s", target="m.weight", shape=shape, quantisable=True, **changes)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from([Kind.F32, *TYPES]),
    rows=st.sampled_from([(3,), (2, 3)]),
    blocks=st.integers(1, 3),
    bits=st.sampled_from([None, 4, 6, 8]),
    group=st.sampled_from([None, 32, 64, 128]),
    keep=st.booleans(),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    router=st.booleans(),
    quantisable=st.booleans(),
)
def test_planned_sizes_are_those_of_the_arrays(
    kind, rows, blocks, bits, group, keep, dtype, router, quantisable
):
    shape = (*rows, 32 * blocks if kind in FLOATS else GGML_QUANT_SIZES[kind][0] * blocks)
    plan = TensorPlan(
        source="s", target="m.weight", shape=shape, quantisable=quantisable, router=router
    )
    form = choose_form(plan, kind, Wish(bits=bits, group_size=group, keep=keep), dtype)
    raw = (
        np.zeros(shape, np.float32).view(np.uint8)
        if kind is Kind.F32
        else blocks_of(kind, shape, 0.05, 1)
    ).reshape(int(np.prod(rows)), -1)
    arrays = weights.convert(raw.view(np.uint8), kind, form, shape)
    assert sum(array.nbytes for array in arrays.values()) == stored_bytes(shape, form)
    assert weights.restore(arrays, form).shape == shape
    if bits and not keep and form.bits:
        assert form.bits == bits
        assert form.group <= (group or 64)
    assert quantisable or not form.bits


def test_rows_of_several_pieces_are_those_of_one(monkeypatch):
    raw = blocks_of(Kind.Q6_K, (64, 512), 0.05, 3)
    form = choose_form(plan_of((64, 512)), Kind.Q6_K, Wish(), "float32")
    order = weights.rope_order(64, 4)
    whole = weights.convert(raw, Kind.Q6_K, form, (64, 512), order)
    monkeypatch.setattr(weights, "_PIECE_BYTES", 5 * 512 * 4)
    pieces = weights.convert(raw, Kind.Q6_K, form, (64, 512), order)
    assert all(mx.array_equal(whole[suffix], pieces[suffix]) for suffix in whole)


def test_rows_of_rotary_heads_are_put_back_in_order():
    rows = np.arange(32)
    stored = rows.reshape(2, 2, 8).swapaxes(1, 2).reshape(-1)
    assert (stored[weights.rope_order(32, 2)] == rows).all()


def test_type_that_nothing_decodes_is_refused_by_name(tmp_path):
    kind = Kind.Q1_0
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "llama")
    config, made = gguf_families.tiny_source("llama", width=WIDTH)
    gguf_families.write_shape(writer, config, "llama")
    tiny_gguf.write_bpe_vocabulary(writer, config["vocab_size"])
    for name, value in made.items():
        target, array = gguf_families.stored_tensor(name, np.array(value), config, "llama")
        if target == "output.weight":
            raw = np.zeros((array.shape[0], WIDTH // 128 * 18), np.uint8)
            writer.add_tensor(target, raw, raw_dtype=kind)
        else:
            writer.add_tensor(target, array)
    tiny_gguf.finish(writer)
    with pytest.raises(HotseatError, match="type Q1_0, which this version of the gguf package"):
        plan_work(open_gguf(tmp_path / "m.gguf"), Wish())
