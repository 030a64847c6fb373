"""An engine in this process with a supervisor made of dictionaries, and tiny real models."""

import os
import queue
import time
from collections.abc import Callable
from pathlib import Path

from hotseat.protocol.ids import BlockId, Epoch, RequestKey
from hotseat.protocol.limits import GIB
from hotseat.protocol.link_orders import Checkpoint, Known, Load, Start, TailRef, TokensInput, Warm
from hotseat.protocol.link_reports import (
    BlockWritten,
    Broken,
    Checkpointed,
    Emitted,
    Failed,
    Finished,
    FromWorker,
    Loaded,
    Lookup,
    Quarantined,
    Refused,
    Started,
    TailWritten,
    Warmed,
)
from hotseat.protocol.messages import Sampling
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.residence import Residence
from hotseat.protocol.tokens import pack_tokens, root_id, unpack_tokens
from hotseat.worker.engine import Engine
from hotseat.worker.model.building import build_model
from hotseat.worker.store.reader import Restorer
from tests.support.models.tiny_models import register_tiny

DEADLINE_S = 150.0
RESIDENCE_VARIABLE = "HOTSEAT_TEST_RESIDENCE"
WHOLE = {"residence": None}
"""For what only a model has that is whole in memory: lanes, weights in each of its layers, a token
that is run before it is seated."""
UNFED = 1
"""The last token of an answer that ended full is not in KV: the next prompt computes it."""


def _residence_of(record: ModelRecord) -> Residence | None:
    """Every layer or three experts a layer, where a run of these tests is to show streaming."""
    wanted = os.environ.get(RESIDENCE_VARIABLE)
    if wanted is None:
        return None
    model, _ = build_model(Path(record.path))
    has_experts = any("Switch" in type(module).__name__ for _, module in model.named_modules())
    if wanted == "experts":
        return Residence(mode="experts", slots=3) if has_experts else None
    return Residence(mode="layers", streamed=tuple(range(len(model.layers))))


def make_engine(send: Callable[[FromWorker], None], epoch: int = 1) -> Engine:
    """Nobody has to be woken when files were read: whoever steps it looks again and again."""
    return Engine(send=send, epoch=Epoch(epoch), restorer=Restorer(on_result=lambda: None))


class FakeSupervisor:
    """Answers Lookup from what was reported written; survives the engines it is given to."""

    def __init__(self, record: ModelRecord, kv_dir: Path, **load) -> None:
        self.record = record
        self.kv_dir = kv_dir
        self.load = {
            "kv_budget_bytes": GIB,
            "cache_limit_bytes": GIB // 4,
            "memory_limit_bytes": 4 * GIB,
        } | load
        self.load |= {"residence": _residence_of(record)} if "residence" not in self.load else {}
        self.blocks: dict[BlockId, str] = {}
        self.tails: list[TailRef] = []
        self.hints: dict[str, bytes] = {}
        self.contexts: dict[str, list[int]] = {}
        self.messages: list[FromWorker] = []
        self.engine: Engine | None = None
        self.epoch = 0
        self.asked = 0
        self._inbox: queue.SimpleQueue[FromWorker] = queue.SimpleQueue()

    def seat(self) -> Engine:
        """A fresh engine with a fresh load."""
        self.unseat()
        self.epoch += 1
        self.engine = make_engine(self._inbox.put, self.epoch)
        self.engine.handle(Load(record=self.record, kv_dir=str(self.kv_dir), **self.load))
        self.until(Loaded)
        self.engine.handle(Warm())
        self.until(Warmed)
        return self.engine

    def unseat(self) -> None:
        if self.engine is not None:
            self.engine.close()
            self.pump()
            self.engine = None

    def lose(self) -> None:
        """The worker dies: what is written is written, nothing else is reported."""
        self.unseat()

    def start(self, prompt, session=None, **options) -> RequestKey:
        """Starts a request with token ids after the session's context."""
        self.asked += 1
        request = RequestKey(f"t:{self.asked}")
        options.setdefault("sampling", Sampling())
        options.setdefault("seed", 1)
        options.setdefault("max_tokens", 8)
        context = self.contexts.get(session, []) if session else []
        if isinstance(prompt, list):
            options["input"] = TokensInput(tokens=pack_tokens(prompt))
        else:
            options["input"] = prompt
        self.engine.handle(
            Start(
                request=request,
                session=session,
                context=pack_tokens(context),
                hint=self.hints.get(session, b"") if session else b"",
                clock=0.0,
                **options,
            )
        )
        return request

    def turn(self, prompt, session=None, **options) -> "Outcome":
        """Starts a request and steps until it ended."""
        request = self.start(prompt, session, **options)
        return self.finish(request, session)

    def finish(self, request: RequestKey, session=None) -> "Outcome":
        finished = self.until(Finished, request)
        if session is not None:
            self.contexts[session] = unpack_tokens(finished.context)
            self.hints[session] = finished.hint
        return self.outcome(request)

    def outcome(self, request: RequestKey) -> "Outcome":
        return Outcome([m for m in self.messages if getattr(m, "request", None) == request])

    def checkpoint(self) -> Checkpointed:
        self.engine.handle(Checkpoint(swap=1))
        return self.until(Checkpointed)

    def until(self, kind, request=None):
        """Steps until a message of this kind came; returns it."""
        deadline = time.monotonic() + DEADLINE_S
        seen = len(self.messages) if request is None else 0
        while True:
            self.advance()
            for message in self.messages[seen:]:
                seen += 1
                if isinstance(message, kind) and (request is None or message.request == request):
                    return message
                if isinstance(message, Broken | Refused) and message.request == request:
                    raise AssertionError(message)
                if isinstance(message, Failed):  # nothing comes after it
                    raise AssertionError(message.message)  # noqa: TRY004 - a test fails by it
            if time.monotonic() > deadline:
                raise AssertionError(f"no {kind} within {DEADLINE_S} s: {self.messages[-5:]}")

    def advance(self) -> None:
        """One step, and a short wait for other threads if it did nothing."""
        worked = self.engine.step()
        if not (self.pump() or worked):
            self._take_one()

    def pump(self) -> bool:
        worked = False
        while not self._inbox.empty():
            self._take(self._inbox.get())
            worked = True
        return worked

    def _take_one(self) -> None:
        try:
            self._take(self._inbox.get(timeout=0.005))
        except queue.Empty:
            return

    def _take(self, message: FromWorker) -> None:
        self.messages.append(message)
        match message:
            case BlockWritten():
                self.blocks[message.block] = message.file
            case TailWritten():
                self.tails.append(
                    TailRef(
                        file=message.file,
                        parent=message.parent,
                        tokens=message.tokens,
                        hint=message.hint,
                    )
                )
            case Quarantined():
                self.blocks = {b: f for b, f in self.blocks.items() if f != message.file}
                self.tails = [tail for tail in self.tails if tail.file != message.file]
            case Lookup():
                self._answer(message)

    def _answer(self, lookup: Lookup) -> None:
        count = 0
        while count < len(lookup.blocks) and lookup.blocks[count] in self.blocks:
            count += 1
        parents = {root_id(self.record.tag), *lookup.blocks[:count]}
        tails = tuple(tail for tail in self.tails if tail.parent in parents)
        self.engine.handle(Known(request=lookup.request, count=count, tails=tails))


class Outcome:
    """Messages of one request."""

    def __init__(self, messages) -> None:
        self.messages = messages
        emitted = [m for m in messages if isinstance(m, Emitted)]
        self.tokens = [token for m in emitted for token in m.tokens]
        self.text = "".join(m.text for m in emitted)
        self.emitted = emitted
        self.started = next((m for m in messages if isinstance(m, Started)), None)
        self.finished = next((m for m in messages if isinstance(m, Finished)), None)


def tiny_record(home: Path, kind: str, name: str = "tiny", **options) -> ModelRecord:
    return register_tiny(home, name, kind, **options)


def prompt_tokens(count: int, seed: int = 0) -> list[int]:
    """Reproducible ids outside the special ones."""
    state = seed * 7919 + 17
    tokens = []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        tokens.append(5 + (state >> 8) % 500)
    return tokens
