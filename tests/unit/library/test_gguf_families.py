"""Every family of GGUF files becomes the model it was made from: the same logits."""

import contextlib
import functools

import gguf
import mlx.core as mx
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.utils import _get_classes, load_model
from tests.support.models import gguf_families, tiny_gguf
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

from hotseat.library.gguf.converting import convert_gguf
from hotseat.library.gguf.families import SUPPORTED, read_family
from hotseat.library.gguf.file import open_gguf
from hotseat.library.gguf.forms import Wish
from hotseat.library.gguf.planning import plan_work
from hotseat.protocol.errors import HotseatError

KINDS = gguf_families.GgufKind.__args__
TOKENS = mx.array([[1, 7, 300, 42, 99, 5, 250, 17, 3, 11]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("families")


def quiet(_phase, _percent):
    """Progress that nobody watches."""


def direct_logits(kind, seed):
    config, weights = gguf_families.tiny_source(kind, seed)
    model_class, arguments = _get_classes(config)
    model = model_class(arguments.from_dict(config))
    model.load_weights(list(weights.items()), strict=False)
    return model(TOKENS)


def converted(source, folder, wish=None):
    folder.mkdir()
    convert_gguf(plan_work(open_gguf(source), wish or Wish()), folder, quiet)
    model, config = load_model(folder)
    return model, config


def test_every_supported_architecture_is_among_the_families():
    assert {gguf_families.architecture_of(kind) for kind in KINDS} == set(SUPPORTED)


@pytest.mark.parametrize("kind", KINDS)
def test_float_file_gives_the_logits_of_the_same_weights_built_directly(tmp_path, kind):
    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", kind, seed=3)
    model, _ = converted(source, tmp_path / "mlx")
    expected = direct_logits(kind, seed=3)
    assert mx.allclose(model(TOKENS), expected, rtol=1e-5, atol=1e-5)
    assert float(mx.abs(expected).max()) > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_called_as_transformers_calls_them(tmp_path, kind):
    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", kind)
    opened = open_gguf(source)
    config = read_family(opened).config
    theirs = GGUF_CONFIG_MAPPING.get(config["model_type"].removesuffix("_text"), {})
    # Its note says that this one holds for llama alone; mixtral is not in the table.
    prefix = opened.metadata["general.architecture"]
    for key, name in theirs.items():
        stored = opened.metadata.get(f"{prefix}.{key}")
        if name and stored is not None and name in config:
            assert config[name] == pytest.approx(stored), key
    assert bool(theirs) is (kind != "mixtral")


@pytest.mark.parametrize("kind", ["qwen2moe", "gpt-oss", "phi3"])
def test_stacked_and_fused_weights_of_a_quantised_file_keep_their_codes(tmp_path, kind):
    """Experts in MXFP4, as GPT-OSS has them, and everything else in Q8_0."""

    config, weights = gguf_families.tiny_source(kind)
    stored = {}
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), kind)
    gguf_families.write_shape(writer, config, kind)
    tiny_gguf.write_bpe_vocabulary(writer, config["vocab_size"])
    for name, value in weights.items():
        target, array = gguf_families.stored_tensor(name, np.array(value), config, kind)
        if array.ndim > 1 and "ffn_gate_inp" not in target:
            quantisation = gguf.GGMLQuantizationType.MXFP4 if "exps" in target else None
            quantisation = quantisation or gguf.GGMLQuantizationType.Q8_0
            packed = gguf.quants.quantize(array, quantisation)
            writer.add_tensor(target, packed, raw_dtype=quantisation)
            array = gguf.quants.dequantize(packed, quantisation)
        else:
            writer.add_tensor(target, array)
        stored[name] = mx.array(array).reshape(value.shape)
    tiny_gguf.finish(writer)
    model_class, arguments = _get_classes(config)
    direct = model_class(arguments.from_dict(config))
    direct.load_weights(list(stored.items()))
    model, written = converted(tmp_path / "m.gguf", tmp_path / "mlx")
    assert mx.allclose(model(TOKENS), direct(TOKENS), rtol=1e-4, atol=1e-4)
    modes = {
        table["mode"] for table in written["quantization"].values() if isinstance(table, dict)
    } | {written["quantization"]["mode"]}
    assert modes == ({"affine"} if kind == "phi3" else {"affine", "mxfp4"})


def test_tensor_that_is_missing_is_refused_by_name(tmp_path):
    def drop(writer):
        del writer.tensors[0]["blk.1.ffn_down.weight"]

    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "qwen2", change=drop)
    with pytest.raises(HotseatError, match=r"blk\.1\.ffn_down\.weight") as caught:
        plan_work(open_gguf(source), Wish())
    assert caught.value.code == "model_unavailable"


def test_tensor_of_another_shape_is_refused_before_anything_is_written(tmp_path):
    def widen(writer):
        del writer.tensors[0]["output_norm.weight"]
        writer.add_tensor("output_norm.weight", np.ones(65, np.float32))

    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "qwen2", change=widen)
    with pytest.raises(HotseatError, match=r"\(65,\), \(64,\) is expected"):
        plan_work(open_gguf(source), Wish())


@pytest.mark.parametrize(
    ("kind", "words"),
    [("qwen3moe", "yarn scales, which mlx-lm does not compute"), ("llama", "rope scaling 'su'")],
)
def test_scaling_that_would_be_left_out_is_refused(tmp_path, kind, words):
    def scale(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_orig_ctx_len(4096)
        if kind == "llama":
            key = gguf.Keys.Rope.SCALING_TYPE.format(arch=kind)
            del writer.kv_data[0][key]
            writer.add_string(key, "su")

    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", kind, change=scale)
    with pytest.raises(HotseatError, match=words):
        plan_work(open_gguf(source), Wish())


def test_factors_that_are_not_one_for_each_frequency_are_refused(tmp_path):
    def cut(writer):
        name = "rope_factors_long.weight"
        del writer.tensors[0][name]
        writer.add_tensor(name, np.ones(5, np.float32))

    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "phi3", change=cut)
    with pytest.raises(HotseatError, match="without one factor for each frequency"):
        plan_work(open_gguf(source), Wish())


@pytest.mark.parametrize(("context", "factor"), [(32768, None), (131072, 8.0)])
def test_gemma_as_ollama_writes_it_is_read_without_its_images(tmp_path, context, factor):
    def spell(writer):
        facts = writer.kv_data[0]
        for key in ("attention.layer_norm_rms_epsilon", "rope.freq_base", "context_length"):
            del facts[f"gemma3.{key}"]
        writer.add_float32("gemma3.rope.global.freq_base", 5e5)
        writer.add_float32("gemma3.rope.local.freq_base", 2e4)
        writer.add_uint32("gemma3.context_length", context)
        writer.add_uint32("gemma3.vision.block_count", 2)
        for name in ("v.blk.0.attn_q.weight", "mm.input_projection.weight"):
            writer.add_tensor(name, np.zeros((4, 4), np.float32))
        for key in ("tokens", "scores", "token_type"):
            values = facts[f"tokenizer.ggml.{key}"].value
            values.append({"tokens": "<image>", "scores": -9.0, "token_type": 3}[key])

    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "gemma3", change=spell)
    work = plan_work(open_gguf(source), Wish())
    config = work.layout.config
    assert (config["rms_norm_eps"], config["rope_theta"]) == (1e-6, 5e5)
    assert config["rope_local_base_freq"] == 2e4
    assert config.get("rope_scaling", {}).get("factor") == factor
    assert len(work.vocabulary.tokens) == config["vocab_size"] == 512
    assert not any(step.plan.source.startswith(("v.", "mm.")) for step in work.steps)


@pytest.mark.parametrize("value", [0, 2**40, "many", True])
@pytest.mark.parametrize("key", ["block_count", "attention.head_count", "embedding_length"])
def test_counts_that_cannot_be_are_a_typed_error(tmp_path, key, value):
    def spoil(writer):
        del writer.kv_data[0][f"qwen3.{key}"]
        writer.add_key_value(f"qwen3.{key}", value, KINDS_OF_VALUE[type(value)])

    source = tiny_gguf.write_tiny_gguf(tmp_path / "m.gguf", "qwen3", change=spoil)
    with pytest.raises(HotseatError) as caught:
        plan_work(open_gguf(source), Wish())
    assert caught.value.code == "model_unavailable"


KINDS_OF_VALUE = {
    int: gguf.GGUFValueType.UINT64,
    str: gguf.GGUFValueType.STRING,
    bool: gguf.GGUFValueType.BOOL,
}


VALUES = st.one_of(
    st.integers(-(2**63), 2**63),
    st.sampled_from([0, 1, 2, 3, 7, 2**24, 2**31]),
    st.floats(),
    st.booleans(),
    st.sampled_from(["", "yarn", "linear", "longrope", "llama", "../../x"]),
    st.lists(st.integers(0, 9), max_size=3),
    st.sampled_from([["a"], ["a"] * 512, [0.5] * 512, [float("nan")] * 512, [[1]] * 512]),
)


@functools.cache
def opened(folder, kind):
    return open_gguf(tiny_gguf.write_tiny_gguf(folder / f"{kind}.gguf", kind))


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(KINDS), values=st.lists(VALUES, min_size=1, max_size=3), data=st.data())
def test_metadata_of_any_kind_are_planned_or_a_typed_error(folder, kind, values, data):
    whole = opened(folder, kind)
    architecture = whole.metadata["general.architecture"]
    prefixes = (f"{architecture}.", "tokenizer.")
    keys = sorted(key for key in whole.metadata if key.startswith(prefixes))
    keys += [f"{architecture}.rope.scaling.{key}" for key in ("type", "factor")]
    spoilt = {data.draw(st.sampled_from(keys)): value for value in values}
    gguf_file = msgspec.structs.replace(whole, metadata={**whole.metadata, **spoilt})
    with contextlib.suppress(HotseatError):
        assert plan_work(gguf_file, Wish()).steps
