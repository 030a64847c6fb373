"""What the tensors and the built model decide where a configuration leaves it unsaid."""

import json
import shutil

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.models.reshaped import edit_json, nest, pad_vocabulary
from tests.support.models.tiny_models import make_tiny

from hotseat.library.folder import open_folder
from hotseat.library.importing import import_model
from hotseat.library.inspecting import inspect_folder
from hotseat.protocol.errors import HotseatError
from hotseat.worker.model.building import build_model

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
PADDED = 520
TOKENS = mx.array([[5, 9, 300]])
BUILT_CONTEXT = 32768
"""mlx-lm's default for Gemma 3."""


def quiet(_phase: str, _percent: float) -> None:
    """Progress that nobody watches."""


def registered(folder, tmp_path):
    return import_model(folder, tmp_path / "home", "m", quiet)


def test_vocabulary_inside_the_text_config_is_that_of_the_model(tmp_path):
    folder = nest(make_tiny(tmp_path / "m", "gemma3"), "gemma3")
    assert registered(folder, tmp_path).vocab_size == 512
    assert inspect_folder(folder).record.vocab_size == 512


def test_padded_vocabulary_inside_the_text_config_counts_with_its_padding(tmp_path):
    folder = nest(pad_vocabulary(make_tiny(tmp_path / "m", "llama"), PADDED), "mistral3")
    assert registered(folder, tmp_path).vocab_size == PADDED


def test_sparse_gemma_configuration_takes_the_context_of_the_built_model(tmp_path):
    folder = make_tiny(tmp_path / "m", "gemma3")
    nest(folder, "gemma3", "max_position_embeddings")
    assert registered(folder, tmp_path).context_tokens == BUILT_CONTEXT


def test_head_of_the_weights_is_used_where_nothing_says_that_it_is_tied(tmp_path):
    folder = make_tiny(tmp_path / "m", "llama")
    said = logits(folder)
    edit_json(folder / "config.json", "tie_word_embeddings")
    assert mx.array_equal(logits(folder), said)
    assert registered(folder, tmp_path).parameters == size_of(folder)


def test_head_of_a_nested_model_is_used_where_nothing_says_that_it_is_tied(tmp_path):
    folder = make_tiny(tmp_path / "m", "llama")
    weights = dict(mx.load(str(folder / WHOLE)))
    mx.eval(weights)
    for layer in range(3):
        for name, size in (("q", 64), ("k", 32), ("v", 32)):
            weights[f"model.layers.{layer}.self_attn.{name}_proj.bias"] = mx.zeros((size,))
    mx.save_safetensors(str(folder / WHOLE), weights, {"format": "mlx"})
    edit_json(folder / "config.json", model_type="qwen2")
    said = logits(folder)
    nest(folder, "qwen2_vl", "tie_word_embeddings")
    assert mx.array_equal(logits(folder), said)
    assert registered(folder, tmp_path).parameters == size_of(folder)


def logits(folder):
    made = build_model(folder)[0](TOKENS)
    mx.eval(made)
    return made


def size_of(folder):
    return sum(value.size for value in mx.load(str(folder / WHOLE)).values())


def test_model_that_says_it_is_tied_stays_tied(tmp_path):
    folder = make_tiny(tmp_path / "m", "llama")
    edit_json(folder / "config.json", tie_word_embeddings=True)
    assert registered(folder, tmp_path).parameters == size_of(folder) - 512 * 64


def split(folder, parts):
    """The weights in `parts` files beside the whole one, and the index of those; their names."""
    tensors = dict(mx.load(str(folder / WHOLE)))
    names = [f"model-{at + 1:05d}-of-{parts:05d}.safetensors" for at in range(parts)]
    table = {tensor: names[at % parts] for at, tensor in enumerate(sorted(tensors))}
    for name in names:
        held = {tensor: tensors[tensor] for tensor, shard in table.items() if shard == name}
        mx.save_safetensors(str(folder / name), held, {"format": "mlx"})
    (folder / INDEX).write_text(json.dumps({"weight_map": table}))
    return names


def test_index_of_shards_that_are_gone_beside_a_whole_file_is_no_hindrance(tmp_path):
    folder = make_tiny(tmp_path / "m", "llama")
    before = registered(folder, tmp_path)
    for name in split(folder, 3):
        (folder / name).unlink()
    assert registered(folder, tmp_path).parameters == before.parameters


def test_index_with_tensors_of_other_names_beside_a_whole_file_is_no_hindrance(tmp_path):
    folder = make_tiny(tmp_path / "m", "llama")
    table = {"transformer.wte": "model-00001-of-00002.safetensors"}
    (folder / INDEX).write_text(json.dumps({"weight_map": table}))
    assert registered(folder, tmp_path).unfit_reason == ""


@settings(max_examples=12, deadline=None)
@given(kept=st.sets(st.integers(0, 2)), has_whole=st.booleans())
def test_folder_opens_exactly_when_every_tensor_of_the_index_is_somewhere(
    tmp_path_factory, kept, has_whole
):
    folder = make_tiny(tmp_path_factory.mktemp("split") / "m", "llama")
    names = split(folder, 3)
    for at in set(range(3)) - kept:
        (folder / names[at]).unlink()
    if not has_whole:
        (folder / WHOLE).unlink()
    if has_whole or len(kept) == 3:
        present = {*(names[at] for at in kept), *([WHOLE] if has_whole else [])}
        assert {file.name for file in open_folder(folder).weights} == present
    else:
        with pytest.raises(HotseatError) as caught:
            open_folder(folder)
        gone = [names[at] for at in range(3) if at not in kept]
        assert not kept or caught.value.facts["missing"] == gone
    shutil.rmtree(folder)
