"""The real demo models: fetched, imported, and they say what they should."""

import os
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model, load_tokenizer

from hotseat.library.importing import import_model
from hotseat.library.samples import fetch_samples
from hotseat.protocol.messages import Message
from hotseat.worker.text.rendering import Renderer

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]
CACHE = Path(os.environ.get("HOTSEAT_SAMPLES", Path(__file__).parents[2] / ".cache" / "samples"))


def quiet(_phase: str, _percent: float) -> None:
    """Progress that nobody watches."""


def completion(folder: str, prompt: list[int], tokens: int) -> list[int]:
    model, _ = load_model(Path(folder))
    steps = generate_step(mx.array(prompt), model, max_tokens=tokens)
    return [int(token) for token, _ in steps]


@pytest.fixture(scope="module")
def fetched():
    return {sample.name: sample for sample in fetch_samples(CACHE, gemma=True, on_progress=quiet)}


def test_smollm2_knows_the_capital_of_france(tmp_path, fetched):
    sample = fetched["smollm2-135m"]
    record = import_model(sample.gguf_path, tmp_path, sample.name, quiet, sample.licence)
    assert (record.template.mode, record.unfit_reason) == ("exact", "")
    assert (record.quantisation, record.parameters) == ("mixed 4/8-bit g32", 134_515_008)
    assert len(record.layers) == 30
    tokenizer = load_tokenizer(Path(record.path), eos_token_ids=list(record.eos_token_ids))
    renderer = Renderer(tokenizer, record.template)
    asked = renderer.render([Message(role="user", content="The capital of France")], 0.0)
    assert "Paris" in tokenizer.decode(completion(record.path, asked, 8))
    text = "def f(x):\n    return x ** 2024  # übergroß 🙂\r\n\n\n\tdone"
    assert tokenizer.decode(renderer.encode_text(text, first=True)) == text


def test_gemma_continues_a_sentence(tmp_path, fetched):
    sample = fetched["gemma3-270m"]
    record = import_model(sample.gguf_path, tmp_path, sample.name, quiet, sample.licence)
    assert (record.template.mode, record.context_tokens) == ("raw", 32_768)
    kinds = [layer.kind for layer in record.layers]
    assert kinds == (["window"] * 5 + ["full"]) * 3
    tokenizer = load_tokenizer(Path(record.path))
    prompt = Renderer(tokenizer, record.template).encode_text(
        "The capital of France is", first=True
    )
    assert prompt == [2, 818, 5279, 529, 7001, 563]
    said = tokenizer.decode(completion(record.path, prompt, 6))
    assert any(word in said for word in ("capital", "city", "Paris", "country"))
    text = "Über  “q”\n\n\n    x = 12345;\t日本語 <b>🙂"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
