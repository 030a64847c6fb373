"""Weights that pass through rooms or slots: the same logits, bit for bit, as of a whole model."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from tests.support.models.tiny_models import make_tiny

from hotseat.protocol.residence import Residence, spread_evenly
from hotseat.worker.dying import WeightsLostError
from hotseat.worker.model.building import build_model
from hotseat.worker.streaming.layers import SPOIL_VARIABLE
from hotseat.worker.streaming.parts import measure_parts
from hotseat.worker.streaming.places import NotStreamableError, find_places, places_of, stays
from hotseat.worker.streaming.seated import Streaming

PROMPT, DECODED, CHUNK = 150, 12, 64
DENSE = ("llama", "qwen3", "gemma3", "lfm2", "falcon_h1", "mamba2")
# The CPU backend has gathered products of float32 only.
WITH_EXPERTS = ("mixtral", "gpt_oss", "deepseek_v2")


@pytest.fixture(autouse=True)
def spoilt(monkeypatch):
    monkeypatch.setenv(SPOIL_VARIABLE, "1")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(kind, dtype="float32"):
        if (kind, dtype) not in made:
            made[kind, dtype] = tmp_path_factory.mktemp(f"{kind}-{dtype}") / "m"
            make_tiny(made[kind, dtype], kind, dtype=dtype)
        return made[kind, dtype]

    return folder


def digests(model):
    """Of the logits of each chunk of a prompt and of each step after it."""
    tokens = np.random.default_rng(0).integers(3, 200, PROMPT + DECODED)
    cache, found = make_prompt_cache(model), []
    ends = [*range(CHUNK, PROMPT, CHUNK), *range(PROMPT, PROMPT + DECODED + 1)]
    for start, end in zip([0, *ends], ends, strict=False):
        logits = model(mx.array(tokens[start:end])[None], cache=cache)[:, -1, :]
        mx.eval(logits)
        found.append(hashlib.blake2b(bytes(memoryview(logits.view(mx.uint8)))).hexdigest())
    return found


def streamed(folder, residence):
    model, _ = build_model(folder)
    streaming = Streaming(model, sorted(folder.glob("*.safetensors")), residence)
    mx.eval(model.parameters())
    return model, streaming


def whole(folder):
    model, _ = build_model(folder)
    mx.eval(model.parameters())
    return model


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *((kind, "float32") for kind in (*DENSE, *WITH_EXPERTS)),
        *((kind, "bfloat16") for kind in DENSE),
    ],
)
def test_logits_of_streamed_layers_are_those_of_the_whole_model(folders, kind, dtype):
    folder = folders(kind, dtype)
    expected = digests(whole(folder))
    count = len(whole(folder).layers)
    for layers in {spread_evenly(count, count), spread_evenly(count, 1)}:
        model, streaming = streamed(folder, Residence(mode="layers", streamed=layers))
        try:
            assert digests(model) == expected
        finally:
            streaming.close()


@pytest.mark.parametrize("slots", [2, 3, 4])
@pytest.mark.parametrize("kind", WITH_EXPERTS)
def test_logits_of_experts_in_slots_are_those_of_the_whole_model(folders, kind, slots):
    folder = folders(kind)
    model, streaming = streamed(folder, Residence(mode="experts", slots=slots))
    try:
        assert digests(model) == digests(whole(folder))
        hits, asked = streaming.hits
        assert 0 < hits <= asked
    finally:
        streaming.close()


@pytest.mark.parametrize("kind", ["llama", "mixtral"])
def test_logits_of_quantised_models_are_the_same_streamed(tmp_path, kind):
    folder = quantised(tmp_path / "m", kind)
    expected = digests(whole(folder))
    residences = [Residence(mode="layers", streamed=(0, 1))]
    residences += [Residence(mode="experts", slots=2)] * (kind == "mixtral")
    for residence in residences:
        model, streaming = streamed(folder, residence)
        try:
            assert digests(model) == expected
        finally:
            streaming.close()


def quantised(folder, kind):
    source = make_tiny(folder.with_name("source"), kind)
    model, config = build_model(source)
    nn.quantize(model, group_size=32, bits=4)
    folder.mkdir()
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    config["quantization"] = {"group_size": 32, "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_file_that_is_cut_or_written_into_ends_a_step_and_gives_no_logits(folders, tmp_path):
    for change in (lambda file: os.truncate(file, 5000), os.utime):
        folder = Path(shutil.copytree(folders("llama"), tmp_path / change.__name__))
        model, streaming = streamed(folder, Residence(mode="layers", streamed=(0, 1, 2), rooms=1))
        try:
            digests(model)
            change(folder / "model.safetensors")
            with pytest.raises(WeightsLostError, match=str(folder)):
                digests(model)
        finally:
            streaming.close()


def test_file_that_is_replaced_is_read_as_it_was(folders, tmp_path):
    folder = Path(shutil.copytree(folders("llama"), tmp_path / "m"))
    expected = digests(whole(folder))
    model, streaming = streamed(folder, Residence(mode="layers", streamed=(0, 1, 2), rooms=1))
    try:
        (tmp_path / "new").write_bytes(b"other weights")
        (tmp_path / "new").replace(folder / "model.safetensors")
        assert digests(model) == expected
    finally:
        streaming.close()


def test_weights_under_another_name_or_shape_are_refused_with_the_reason(folders, tmp_path):
    folder = Path(shutil.copytree(folders("llama"), tmp_path / "m"))
    weights = mx.load(str(folder / "model.safetensors"))
    first = "model.layers.0.mlp.up_proj.weight"
    for change, word in (("half", "float16"), ("gone", "no file has")):
        changed = dict(weights)
        value = changed.pop(first)
        changed |= {first: value.astype(mx.float16)} if change == "half" else {f"{first}s": value}
        mx.save_safetensors(str(tmp_path / "w.safetensors"), changed)
        model, _ = build_model(folder)
        with pytest.raises(NotStreamableError, match=word):
            Streaming(
                model, [tmp_path / "w.safetensors"], Residence(mode="layers", streamed=(0, 1))
            )


def test_values_that_loading_changes_are_refused(folders, tmp_path):
    folder = Path(shutil.copytree(folders("llama"), tmp_path / "m"))
    model, _ = build_model(folder)
    layer = model.layers[0]
    layer.update({"input_layernorm": {"weight": layer.input_layernorm.weight + 1}})
    with pytest.raises(NotStreamableError, match="not loaded as its file has it"):
        Streaming(model, [folder / "model.safetensors"], Residence(mode="layers", streamed=(0, 1)))


def test_layer_that_is_used_in_parts_fails_instead_of_using_another_ones_room(folders):
    model, streaming = streamed(folders("llama"), Residence(mode="layers", streamed=(0, 1, 2)))
    try:
        with pytest.raises((AttributeError, KeyError)):
            model.layers[1].mlp(mx.zeros((1, 1, 64)))
        digests(model)
        with pytest.raises((AttributeError, KeyError)):
            model.layers[1].input_layernorm(mx.zeros((1, 1, 64)))
    finally:
        streaming.close()


class Aside(nn.Module):
    """A model that calls parts of its layers, or one of them twice."""

    def __init__(self, order, *, in_parts=False):
        super().__init__()
        self.layers = [nn.Linear(4, 4) for _ in range(2)]
        self.order, self.in_parts = order, in_parts

    def __call__(self, tokens, cache):
        x = mx.zeros((1, 4)) + tokens.sum()
        for number in self.order:
            layer = self.layers[number]
            assert cache is not None
            x = x @ layer.weight if self.in_parts else layer(x)
        return x


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Aside((0, 1), in_parts=True), "does not call each"),
        (Aside((0, 1, 0)), "does not call each"),
        (Aside((0, 5)), "does not run"),
    ],
)
def test_model_that_does_not_call_its_layers_as_a_whole_is_not_streamed(model, said):
    assert said in measure_parts(model, []).layers_refused
    assert type(model.layers[0]) is nn.Linear


def test_parts_of_a_model_add_up_to_its_weights(folders):
    for kind in (*DENSE, *WITH_EXPERTS):
        folder = folders(kind)
        parts = measure_parts(build_model(folder)[0], list(folder.glob("*.safetensors")))
        held = sum(array.nbytes for _, array in tree_flatten(whole(folder).parameters()))
        assert parts.total == held
        assert parts.layers_refused == ""
        assert bool(parts.expert_count) == (kind in WITH_EXPERTS)
        assert bool(parts.chosen) == (kind in WITH_EXPERTS)


@pytest.mark.parametrize("kind", [*DENSE, *WITH_EXPERTS])
def test_names_and_shapes_tell_what_stays_in_memory(folders, kind):
    """As hooking finds it; whoever reads ahead has no model."""
    files = list(folders(kind).glob("*.safetensors"))
    model, _ = build_model(folders(kind))
    places = find_places(files)
    names = {id(module): name for name, module in model.named_modules()}
    layers = Residence(mode="layers", streamed=(1,))
    passing = {
        f"{names[id(model.layers[1])]}.{key}"
        for key in places_of(model.layers[1], names[id(model.layers[1])], places)
    }
    assert {name for name, place in places.items() if not stays(name, place, layers, 0)} == passing
    if kind not in WITH_EXPERTS:
        return
    parts = measure_parts(model, files)
    slots = Residence(mode="experts", slots=2)
    of_experts = sum(
        place.size
        for name, place in places.items()
        if not stays(name, place, slots, parts.expert_count)
    )
    # Biases of gpt_oss are shaped like a router's weights, and read ahead in vain.
    assert 0.9 * sum(parts.experts) <= of_experts <= sum(parts.experts)


def test_slots_that_could_not_be_settled_hold_nothing_new(folders, monkeypatch):
    """An evaluation that fails before a read leaves the table as it was: the next call reads."""
    folder = folders("mixtral")
    expected = digests(whole(folder))
    model, streaming = streamed(folder, Residence(mode="experts", slots=2))
    try:
        digests(model)
        bank = streaming._banks[0]
        settle, failed = bank._settle, []

        def fail_once():
            if not failed:
                failed.append(True)
                raise RuntimeError("[malloc] Unable to allocate")
            settle()

        monkeypatch.setattr(bank, "_settle", fail_once)
        with pytest.raises(RuntimeError, match="malloc"):
            digests(model)
        assert digests(model) == expected
    finally:
        streaming.close()


def test_streamed_layers_hold_no_weights_between_two_steps(folders):
    folder = folders("llama")
    model, streaming = streamed(folder, Residence(mode="layers", streamed=(0, 1), rooms=1))
    try:
        assert tree_flatten(model.layers[0].parameters()) == []
        assert tree_flatten(model.layers[2].parameters()) != []
        digests(model)
        assert tree_flatten(model.layers[1].parameters()) == []
    finally:
        streaming.close()
