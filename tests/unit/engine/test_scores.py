"""Scores of attention that are stored: a long context takes no more for them than is planned."""

import json

import mlx.core as mx
import pytest
from msgspec.structs import replace
from tests.support.engine.engine_harness import FakeSupervisor, prompt_tokens, tiny_record
from tests.support.engine.suspend_harness import Run
from tests.support.models.tiny_models import tiny_config, tiny_weights, write_tokenizer

from hotseat.library.importing import import_model
from hotseat.protocol import chunks
from hotseat.protocol.limits import BLOCK_TOKENS, GIB, MIB
from hotseat.protocol.link_reports import Prefilled
from hotseat.protocol.tokens import block_id, pack_tokens, root_id
from hotseat.supervisor.models.rules.prefill import as_fed_on, prefill_peak_bytes
from hotseat.worker.context.capture import RowView, capture_parts
from hotseat.worker.model.budget import KvBudget
from hotseat.worker.model.caches import FullKVCache
from hotseat.worker.store.kv_file import write_block
from hotseat.worker.store.kv_format import KvPayload

HEADS, HEAD_DIM, LAYERS = 8, 8, 2
STORED = 63 * BLOCK_TOKENS
PROMPT = STORED + BLOCK_TOKENS + 1
"""The last block is fed over 16,384 tokens: as one chunk it has twice the scores of the plan."""
SPARE = 32 * MIB


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Many heads on few numbers, so that scores outweigh all else."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "src"
    folder.mkdir()
    config = tiny_config("llama", context=65_536) | {
        "num_attention_heads": HEADS,
        "num_key_value_heads": 1,
        "head_dim": HEAD_DIM,
        "num_hidden_layers": LAYERS,
    }
    (folder / "config.json").write_text(json.dumps(config))
    weights = tiny_weights(config)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    write_tokenizer(folder, template="chatml", vocab=512, context=65_536)
    made = import_model(folder, home, "wide", lambda _phase, _percent: None)
    assert made.attention_heads == HEADS
    return as_fed_on(made, "linux")


def store(supervisor, record, tokens):
    """Blocks of random K and V, as if these tokens had been fed long ago."""
    shape = (1, 1, len(tokens), HEAD_DIM)
    caches = [
        FullKVCache.restored(
            len(tokens),
            mx.random.normal(shape, key=mx.random.key(2 * layer)),
            mx.random.normal(shape, key=mx.random.key(2 * layer + 1)),
        )
        for layer in range(LAYERS)
    ]
    parent = root_id(record.tag)
    for begin in range(0, len(tokens), BLOCK_TOKENS):
        ids = tokens[begin : begin + BLOCK_TOKENS]
        block = block_id(record.tag, parent, ids)
        view = RowView(caches, 0, len(tokens))
        end = begin + BLOCK_TOKENS
        parts = capture_parts(view, record.layers, begin, end, record.kv_dtype).read()
        payload = KvPayload(tag=record.tag, parent=parent, tokens=pack_tokens(ids), parts=parts)
        supervisor.blocks[block] = write_block(supervisor.kv_dir, block, payload)
        parent = block


@pytest.fixture(scope="module")
def turn(record, tmp_path_factory):
    """Peak bytes beside the weights, tokens and log-probabilities of a prompt with a long past."""

    def run(stores_scores):
        chosen = replace(record, stores_scores=stores_scores)
        supervisor = FakeSupervisor(chosen, tmp_path_factory.mktemp("kv"))
        tokens = prompt_tokens(PROMPT)
        store(supervisor, record, tokens[:STORED])
        supervisor.seat()
        mx.clear_cache()
        mx.reset_peak_memory()
        weights = mx.get_active_memory()
        outcome = supervisor.turn(tokens, max_tokens=4, logprobs=3)
        peak = mx.get_peak_memory() - weights
        supervisor.unseat()
        assert outcome.started.restored_tokens == STORED
        return peak, outcome.tokens, [one.logprobs for one in outcome.emitted]

    return run


def test_long_context_stays_within_the_plan_and_draws_what_longer_chunks_would(record, turn):
    kv_bytes = KvBudget(record, GIB).need_bytes([[PROMPT + 4]], 0)
    planned = kv_bytes + prefill_peak_bytes(record)
    peak, *drawn = turn(stores_scores=True)
    whole_peak, *whole = turn(stores_scores=False)
    print(f"planned {planned >> 20} MiB, peak {peak >> 20}, in whole blocks {whole_peak >> 20}")
    assert drawn == whole
    assert peak <= planned + max(planned // 50, SPARE)
    assert whole_peak > planned + max(planned // 50, SPARE)


def prefilled(run):
    return sum(isinstance(message, Prefilled) for message in run.now.messages)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "lfm2"])
def test_prompt_in_ever_shorter_chunks_goes_on_in_its_first_shapes(
    home, supervisors, monkeypatch, kind
):
    """Interrupted twice, each time three chunks on; down to the bits of log-probabilities."""
    monkeypatch.setattr(chunks, "SCORED_TOKENS", BLOCK_TOKENS)
    record = replace(tiny_record(home, kind, kind), prefill_chunk=512, stores_scores=True)
    prompt, drawn = prompt_tokens(1150), []
    for fate in (None, "live", "checkpointed", "killed"):
        run = Run(supervisors(record), prompt, "s", max_tokens=4, logprobs=2)
        for _ in range(2 if fate else 0):
            while prefilled(run) < 3 and not run.tokens:
                run.supervisor.advance()
            run.interrupt(fate)
        run.finish()
        drawn.append((run.tokens, run.logprobs))
    assert drawn[1:] == drawn[:1] * 3
