"""One long context decodes in a process of its own, in memory or read from its block files.

`python -m benchmarks.proof.beyond_context TASK` prints one JSON line, as `beyond_steps` does, whose
cycles are made: the device's rate, a step that does not count, those that do.
"""

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
import numpy as np
from mlx_lm.utils import load_model
from msgspec import Struct

from benchmarks.proof.beyond_steps import (
    CACHE_BYTES,
    SPARE_BYTES,
    Kind,
    Steps,
    device_rate,
    digest_of,
    memory,
    rest,
)
from benchmarks.proof.context_models import TOKENS, VOCAB, blocks_of, context_record
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.live_contexts import padded
from hotseat.protocol.streamed_contexts import ContextPlace, place_context
from hotseat.worker.context.streamed import StreamedContext, begin_streamed
from hotseat.worker.model.caches import FullKVCache, leaves
from hotseat.worker.store.kept_blocks import keep_block
from hotseat.worker.store.kv_file import block_file, read_kv
from hotseat.worker.streaming.kv_rooms import BlockReads


class ContextTask(Struct, frozen=True, kw_only=True):
    """What is computed after the stored context. `limit_bytes`: of the process; 0 without one."""

    folder: str
    kind: Kind
    limit_bytes: int
    rows: int = 1
    warm: int
    cycles: int
    counted: int
    chunk: int

    @property
    def added(self) -> int:
        """Tokens that are computed."""
        return self.warm + self.cycles * (1 + self.counted) + self.chunk


class _Seated:
    """The model and the caches of its context."""

    def __init__(self, task: ContextTask) -> None:
        base = memory("VmRSS")
        folder = Path(task.folder)
        self.kv_dir = folder / "kv"
        self.record = context_record(folder)
        self.model, _ = load_model(folder)
        self.reads = BlockReads()
        self.plan_bytes, self.words = 0, "all of the context is in memory"
        self.context: StreamedContext | None = None
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        if task.kind == "whole":
            self.caches = self._whole(task)
            return
        room = task.limit_bytes - base - weights - CACHE_BYTES - SPARE_BYTES
        place = place_context(self.record, TOKENS + task.added, room)
        if place is None:
            raise SystemExit(f"no part of the context fits into {room} bytes")
        self.plan_bytes = base + weights + CACHE_BYTES + place.held_bytes
        self.caches = self._streamed(task, place)

    def _streamed(self, task: ContextTask, place: ContextPlace) -> list[Any]:
        context = StreamedContext(self.record, place.streamed, TOKENS + task.added, self.reads)
        context.append(
            [keep_block(self.kv_dir, self.record, one) for one in blocks_of(self.record)]
        )
        caches = begin_streamed(self.model, self.record, context)
        for entry in set(range(len(caches))) - set(place.streamed):
            caches[entry] = self._filled(entry, task)
        self.words = f"{len(place.streamed)} of {len(caches)} layers of the context are read"
        self.context = context
        return caches

    def _whole(self, task: ContextTask) -> list[Any]:
        return [self._filled(entry, task) for entry in range(len(self.record.layers))]

    def _filled(self, entry: int, task: ContextTask) -> FullKVCache:
        """A layer as it stands in memory: with room for what comes."""
        layer, size = self.record.layers[entry], padded(TOKENS + task.added)
        arrays = [mx.zeros((1, layer.kv_heads, size, layer.k_dim)) for _ in range(2)]
        mx.eval(arrays)
        views = [np.array(array, copy=False) for array in arrays]
        others = set(range(len(self.record.layers))) - {entry}
        for at, (block, parent, tokens) in enumerate(blocks_of(self.record)):
            found = read_kv(
                self.kv_dir,
                block_file(block),
                tag=self.record.tag,
                parent=parent,
                tokens=tokens,
                skip_entries=others,
            )
            (part,) = found.parts
            for view, numbers in zip(views, (part.keys, part.values), strict=True):
                place = view[0, :, at * BLOCK_TOKENS : (at + 1) * BLOCK_TOKENS]
                place[:] = np.frombuffer(numbers, np.float32).reshape(place.shape)
        return FullKVCache.restored(TOKENS, *arrays)

    @property
    def read_bytes(self) -> int:
        """So far."""
        return self.reads.figures[0]

    def close(self) -> None:
        if self.context is not None:
            self.context.close()
        self.reads.close()


def compute(task: ContextTask) -> Steps:
    """All of a task in this process."""
    mx.set_cache_limit(CACHE_BYTES)
    began = time.perf_counter()
    seated = _Seated(task)
    loaded = time.perf_counter()
    tokens = np.random.default_rng(3).integers(5, VOCAB, task.added)
    files = sorted(seated.kv_dir.glob("blocks/*/*.kv"))
    digests: list[str] = []
    position = 0

    def step(count: int = 1) -> float:
        nonlocal position
        at = time.perf_counter()
        given = mx.array(tokens[position : position + count])[None]
        logits = seated.model(given, cache=seated.caches)[:, -1, :]
        mx.eval(logits)
        took = time.perf_counter() - at
        digests.append(digest_of(logits))
        position += count
        return took

    for _ in range(task.warm):
        step()
    times: list[float] = []
    rates: list[float] = []
    read = 0
    for _ in range(task.cycles):
        if seated.context is not None:
            rest(seated)
            rates.append(device_rate(files))
        step()
        before = seated.read_bytes
        times += [step() for _ in range(task.counted)]
        read += seated.read_bytes - before
    chunk_s = step(task.chunk)
    seated.close()
    assert all(cache.offset == TOKENS + task.added for cache in leaves(seated.caches))
    return Steps(
        step_s=tuple(times),
        digests=tuple(digests),
        load_s=loaded - began,
        prompt_s=chunk_s,
        peak_bytes=memory("VmHWM"),
        plan_bytes=seated.plan_bytes,
        read_bytes=read / len(times),
        rate=statistics.median(rates) if rates else 0.0,
        hits=0.0,
        words=seated.words,
    )


if __name__ == "__main__":
    result = compute(msgspec.json.decode(sys.argv[1], type=ContextTask))
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
