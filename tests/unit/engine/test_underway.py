"""Chunks and blocks that are still being computed: nothing waits for them, and none is mixed up."""

import gc

import mlx.core as mx
import pytest
from msgspec.structs import replace
from tests.support.engine.beside_others import expect_as_alone
from tests.support.engine.engine_harness import prompt_tokens, tiny_record

from hotseat.protocol.limits import MIB
from hotseat.protocol.link_orders import CancelWork
from hotseat.protocol.link_reports import BlockWritten, Broken, Emitted, Finished, Prefilled
from hotseat.protocol.model import LayerSpec
from hotseat.worker.batch import lane
from hotseat.worker.context import capture, keeper
from hotseat.worker.context.capture import PartsUnderway, RowView, capture_parts
from hotseat.worker.model.caches import FullKVCache

CHUNK = 512


@pytest.fixture
def record(home):
    return replace(tiny_record(home, "lfm2"), prefill_chunk=CHUNK)


def blocks_of(supervisor, chain_of: list[int]) -> int:
    """How many blocks of a prompt are reported written."""
    wanted = [chain_of[at : at + 256] for at in range(0, len(chain_of), 256)]
    written = [m for m in supervisor.messages if isinstance(m, BlockWritten)]
    return sum(list(memoryview(m.tokens).cast("I")) in wanted for m in written)


def test_chunk_is_begun_before_the_blocks_of_the_one_before_are_read(supervisor, monkeypatch):
    happened = []
    compute, read = lane._Feeding.compute, PartsUnderway.read

    def computing(self):
        happened.append("compute")
        return compute(self)

    def reading(self):
        happened.append("read")
        return read(self)

    request = supervisor.start(prompt_tokens(3 * CHUNK + 20), max_tokens=3)
    supervisor.until(Prefilled, request)
    monkeypatch.setattr(lane._Feeding, "compute", computing)
    monkeypatch.setattr(PartsUnderway, "read", reading)
    for _ in range(2):
        supervisor.engine.step()
    assert happened == ["compute", "read", "read"] * 2


def test_block_that_a_decode_step_fills_is_read_in_the_next_one(supervisor):
    request = supervisor.start(prompt_tokens(250), max_tokens=30)
    supervisor.until(Emitted, request)
    kept = supervisor.engine._seat.keeper
    while not kept.captures_underway:
        supervisor.engine.step()
    begun = kept.captures_underway
    supervisor.engine.step()
    assert (begun, kept.captures_underway) == (1, 0)
    supervisor.finish(request)
    assert len(supervisor.blocks) == 1


def test_blocks_are_the_same_whether_they_were_read_at_once_or_later(
    record, supervisors, monkeypatch
):
    prompt = prompt_tokens(CHUNK + 250)

    def files() -> dict:
        supervisor = supervisors(record)
        supervisor.turn(prompt, max_tokens=10)
        folder = supervisor.kv_dir
        return {path.name: path.read_bytes() for path in folder.rglob("blocks/*/*.kv")}

    later = files()
    monkeypatch.setattr(keeper.Keeper, "begin_blocks", keeper.Keeper.capture_blocks)
    assert later == files()
    assert len(later) == 3


def test_cancelled_prompt_ends_behind_the_blocks_of_its_last_chunk(supervisor):
    request = supervisor.start(prompt_tokens(3 * CHUNK))
    supervisor.until(Prefilled, request)
    assert supervisor.engine._seat.keeper.captures_underway == CHUNK // 256
    supervisor.engine.handle(CancelWork(request=request))
    supervisor.finish(request)
    kinds = [type(m) for m in supervisor.messages if isinstance(m, BlockWritten | Finished)]
    assert kinds == [BlockWritten] * (CHUNK // 256) + [Finished]


def fail_once(monkeypatch):
    """The next chunk that is waited for turns out to have failed."""
    waited = []
    wait = lane._wait

    def failing(mark):
        waited.append(mark)
        if len(waited) == 1:
            raise RuntimeError("no such kernel")
        wait(mark)

    monkeypatch.setattr(lane, "_wait", failing)


@pytest.mark.parametrize(
    ("kind", "rest"), [("lfm2", 1), ("lfm2", 40), ("lfm2", CHUNK + 40), ("llama", 1)]
)
def test_chunk_that_fails_late_breaks_its_own_row_and_leaves_no_block(
    home, supervisors, monkeypatch, kind, rest
):
    """Found before its snapshot or its row's first step, or at the next chunk; others go on."""
    supervisor = supervisors(replace(tiny_record(home, kind), prefill_chunk=CHUNK))
    bad, good = prompt_tokens(CHUNK + rest, 1), prompt_tokens(CHUNK + 70, 2)
    alone = [supervisor.turn(prompt_tokens(20), max_tokens=12).tokens]
    alone.append(supervisor.turn([*good, 7], max_tokens=6).tokens)
    steady = supervisor.start(prompt_tokens(20), max_tokens=12)
    supervisor.until(Emitted, steady)
    fail_once(monkeypatch)
    lost = supervisor.start(bad, max_tokens=6)
    other = supervisor.start([*good, 7], max_tokens=6)
    broken = supervisor.until(Broken)
    assert broken.request == lost
    assert "no such kernel" in broken.message
    for request, tokens in zip((steady, other), alone, strict=True):
        expect_as_alone(supervisor.finish(request).tokens, tokens)
    assert blocks_of(supervisor, bad) == 0
    assert supervisor.engine._seat.keeper.captures_underway == 0


def test_copy_of_a_block_does_not_hold_the_cache_it_was_cut_from():
    """One head: a block is contiguous there, and a mere slice of the array would do for a copy."""
    layer = LayerSpec(kind="full", kv_heads=1, k_dim=128, v_dim=128)
    pair = [mx.random.normal((1, 1, 16_384, 128)) for _ in range(2)]
    mx.eval(pair)
    cache = FullKVCache.restored(16_384, *pair)
    parts = capture.set_apart(
        capture_parts(RowView([cache], 0, 16_384), [layer], 256, 512, "float32")
    )
    (part,) = parts.read()
    expected = bytes(memoryview(pair[0][0, 0, 256:512]).cast("B"))
    before = mx.get_active_memory()
    del cache, pair
    gc.collect()
    assert before - mx.get_active_memory() >= 16 * MIB
    (again,) = parts.read()
    assert bytes(part.keys) == bytes(again.keys) == expected
