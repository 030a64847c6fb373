"""The tiny models that other tests stand on."""

import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model
from tests.support.models import tiny_models


def greedy(folder, tokens=100):
    model, _ = load_model(folder)
    prompt = mx.array([1, 300, 42, 99, 250])
    return [int(token) for token, _ in generate_step(prompt, model, max_tokens=tokens)]


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3", "gpt_oss"])
def test_greedy_text_wanders_and_differs_by_seed(tmp_path, kind):
    first, second = (
        greedy(tiny_models.make_tiny(tmp_path / str(seed), kind, seed=seed)) for seed in (0, 1)
    )
    assert first != second
    assert min(len(set(first)), len(set(second))) > 30
    assert not set(first + second) & set(range(5))  # no special token, so no early end


def test_same_arguments_write_the_same_bytes(tmp_path):
    first, second = (tiny_models.make_tiny(tmp_path / name, "llama") for name in "ab")
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()


def test_model_that_ends_reaches_its_end_of_turn(tmp_path):
    folder = tiny_models.make_tiny(tmp_path, "llama", seed=1, ends=True)
    assert 2 in greedy(folder, 200)
