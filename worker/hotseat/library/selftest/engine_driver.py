"""An engine in this process, told what a supervisor would tell it, and when its tokens came.

Stored contexts are never known here: each prompt is computed. Judges nothing.
"""

import queue
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.ids import Epoch, RequestKey
from hotseat.protocol.limits import MIB
from hotseat.protocol.link_orders import Known, Load, Start, TokensInput, Warm
from hotseat.protocol.link_reports import (
    Broken,
    Emitted,
    Failed,
    Finished,
    FromWorker,
    Lookup,
    Refused,
    Warmed,
)
from hotseat.protocol.messages import Sampling
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.tokens import pack_tokens
from hotseat.worker.engine import Engine
from hotseat.worker.store.reader import Restorer

_WAIT_S: Final = 0.005
_CACHE_BYTES: Final = 512 * MIB


class Arrival(Struct, frozen=True):
    """Tokens that came at once, by the clock and by what this process had computed."""

    at: float
    cpu_s: float
    tokens: int


def arrival(tokens: int) -> Arrival:
    """Now."""
    return Arrival(time.perf_counter(), time.process_time(), tokens)


class Course(Struct, frozen=True):
    """A request: when it was asked for, when its tokens came."""

    started_at: float
    arrivals: tuple[Arrival, ...]


class EngineDriver:
    """One engine with one model, from load to the end of this process."""

    def __init__(self, record: ModelRecord, kv_dir: Path, tokens: int) -> None:
        """`tokens`: of all contexts at a time."""
        kv_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._inbox: queue.SimpleQueue[FromWorker] = queue.SimpleQueue()
        self._asked = 0
        self._engine = Engine(
            send=self._inbox.put, epoch=Epoch(1), restorer=Restorer(on_result=_nobody_waits)
        )
        load = Load(
            record=record,
            kv_dir=str(kv_dir),
            kv_budget_bytes=2 * record.kv_bytes(tokens) + _CACHE_BYTES,
            cache_limit_bytes=_CACHE_BYTES,
            memory_limit_bytes=0,
        )
        self._engine.handle(load)
        self._engine.handle(Warm())
        self._hear_until(lambda message: isinstance(message, Warmed))

    def run(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[Course]:
        """Greedy, all at once; returns when the last one ended."""
        started = time.perf_counter()
        names = [self._start(prompt, max_tokens) for prompt in prompts]
        arrivals: dict[RequestKey, list[Arrival]] = {name: [] for name in names}
        left = set(names)

        def hear(message: FromWorker) -> bool:
            if isinstance(message, Emitted):
                arrivals[message.request].append(arrival(len(message.tokens)))
            elif isinstance(message, Finished):
                left.discard(message.request)
            return not left

        self._hear_until(hear)
        return [Course(started, tuple(arrivals[name])) for name in names]

    def _start(self, prompt: Sequence[int], max_tokens: int) -> RequestKey:
        self._asked += 1
        name = RequestKey(f"selftest:{self._asked}")
        start = Start(
            request=name,
            session=None,
            input=TokensInput(tokens=pack_tokens(list(prompt))),
            clock=0.0,
            sampling=Sampling(),
            seed=1,
            max_tokens=max_tokens,
        )
        self._engine.handle(start)
        return name

    def _hear_until(self, is_end: Callable[[FromWorker], bool]) -> None:
        while True:
            worked = self._engine.step()
            message = self._next(wait_s=0.0 if worked else _WAIT_S)
            while message is not None:
                if self._take(message) and is_end(message):
                    return
                message = self._next(wait_s=0.0)

    def _take(self, message: FromWorker) -> bool:
        match message:
            case Lookup():
                self._engine.handle(Known(request=message.request, count=0))
            case Failed() | Refused() | Broken():
                raise HotseatError(message.code, message.message)
        return True

    def _next(self, wait_s: float) -> FromWorker | None:
        try:
            return self._inbox.get(timeout=wait_s) if wait_s else self._inbox.get_nowait()
        except queue.Empty:
            return None


def _nobody_waits() -> None:
    """The loop looks by itself."""
