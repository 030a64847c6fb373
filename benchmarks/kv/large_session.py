"""A session of more than 1 GiB of KV without a model: random numbers in the shapes of an 8B llama.

Must not know time. Through the worker's own parts: its caches, keeper, writer, reader.
"""

import queue
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx

from hotseat.protocol.ids import BlockId, RequestKey
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_orders import Known, Load, TailRef
from hotseat.protocol.link_reports import Checkpointed, TailWritten
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.tokens import block_chain
from hotseat.worker.context.capture import Room
from hotseat.worker.context.keeper import Keeper
from hotseat.worker.context.live import LiveSession
from hotseat.worker.context.restoring import plan_restore, rebuild_sequence
from hotseat.worker.context.steps import StepLog
from hotseat.worker.context.trace import Trace
from hotseat.worker.model.caches import FullKVCache
from hotseat.worker.store.reader import Restorer, RestoreResult

TOKENS = 33 * BLOCK_TOKENS + 100
REQUEST = RequestKey("b:1")


def large_record() -> ModelRecord:
    """32 layers of 8 KV heads of 128 in bfloat16: 128 KiB a token."""
    from tests.support.models.records import full_layers, model_record

    return model_record(layers=full_layers(32), kv_dtype="bfloat16")


class LargeSession:
    """The session in memory, and the parts that bring it to disk and back."""

    def __init__(self, kv_dir: Path, record: ModelRecord) -> None:
        self.record = record
        self.tokens = [5 + number * 7919 % 500 for number in range(TOKENS)]
        self.chain: list[BlockId] = block_chain(record.tag, self.tokens)
        self.tail: TailRef | None = None
        self._kv_dir = kv_dir
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._is_read = threading.Event()
        self._restorer = Restorer(self._is_read.set)

    def compute(self) -> list[Any]:
        """Caches as they stand after a prompt of that length."""
        caches = []
        size = -(-TOKENS // BLOCK_TOKENS) * BLOCK_TOKENS
        for number, layer in enumerate(self.record.layers):
            shape = (1, layer.kv_heads, size, layer.k_dim)
            keys = mx.random.split(mx.random.key(number), 2)
            pair = [mx.random.normal(shape, mx.bfloat16, key=key) for key in keys]
            mx.eval(pair)
            caches.append(FullKVCache.restored(TOKENS, *pair))
        return caches

    def checkpoint(self, caches: list[Any]) -> Checkpointed:
        """All of it to disk, none of it was there."""
        load = Load(
            record=self.record,
            kv_dir=str(self._kv_dir),
            kv_budget_bytes=0,
            cache_limit_bytes=0,
            memory_limit_bytes=0,
        )
        keeper = Keeper(SimpleNamespace(record=self.record, load=load), 1, self._messages.put)
        trace = Trace(self.record.tag, list(self.tokens), StepLog(TOKENS))
        keeper.live.keep(LiveSession("large", caches, trace, persist=True))
        keeper.checkpoint(1)
        while not isinstance(message := self._messages.get(timeout=120), Checkpointed):
            if isinstance(message, TailWritten):
                self.tail = TailRef(
                    file=message.file,
                    parent=message.parent,
                    tokens=message.tokens,
                    hint=message.hint,
                )
        keeper.close()
        assert not message.failed, message
        return message

    def restore(self) -> list[Any]:
        """Caches again, from the files; all tokens of them."""
        assert self.tail is not None
        prompt = [*self.tokens, 7]
        known = Known(request=REQUEST, count=len(self.chain), tails=(self.tail,))
        plan = plan_restore(self.record, prompt, self.chain, known)
        assert plan.position == TOKENS
        self._is_read.clear()
        self._restorer.bind(self._kv_dir, self.record)
        self._restorer.begin(REQUEST, plan.blocks, plan.tail)
        room = Room(self.record, plan.position).begin()
        restored = rebuild_sequence(self.record, prompt, plan, self._read(), None, room)
        assert restored is not None
        assert restored.trace.position == TOKENS
        return restored.caches

    def close(self) -> None:
        """Ends the threads."""
        self._restorer.close()

    def _read(self) -> RestoreResult:
        assert self._is_read.wait(120)
        (result,) = self._restorer.poll()
        return result
