"""Weights that pass through rooms or slots: the same logits, bit for bit, as of a whole model."""

import hashlib

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from tests.support.models.tiny_models import make_tiny

from hotseat.protocol.residence import Residence, spread_evenly
from hotseat.worker.model.building import build_model
from hotseat.worker.streaming.layers import SPOIL_VARIABLE
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


def test_memory_of_streamed_layers_is_that_of_their_rooms(folders):
    folder = folders("llama")
    model, streaming = streamed(folder, Residence(mode="layers", streamed=(0, 1), rooms=1))
    try:
        held = {id(array) for _, array in tree_flatten(model.layers[0].parameters())}
        assert held == {id(array) for _, array in tree_flatten(model.layers[1].parameters())}
    finally:
        streaming.close()
