"""What is made ready before a model is seated: its tokenizer, and its weight files' pages.

Works on a thread of its own, with or without a seated model. Evaluates nothing, knows no seat.
"""

import threading
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from hotseat.protocol.exits import EX_INTERNAL
from hotseat.protocol.ids import Tag
from hotseat.protocol.limits import MIB
from hotseat.protocol.link_orders import CountPrompt, Prepare
from hotseat.protocol.link_reports import Counted, FromWorker, Prepared
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.residence import Residence
from hotseat.worker.dying import die
from hotseat.worker.model.page_cache import Stretch, warm_stretches
from hotseat.worker.streaming.places import find_places, stays
from hotseat.worker.text.grammar import Grammars
from hotseat.worker.text.rendering import Renderer

KEPT_LIMIT_BYTES: Final = 384 * MIB
"""Of tokenizers, by estimate; the one prepared last is kept whatever it takes."""

_JOIN_S: Final = 0.5


class TokenizerKit(Struct, frozen=True):
    """An mlx_lm tokenizer and what is built on it."""

    tokenizer: Any
    renderer: Renderer
    grammars: Grammars


LoadKit = Callable[[ModelRecord], TokenizerKit]
CountWith = Callable[[TokenizerKit, CountPrompt], Counted]


class Preparer:
    """Prepares one model after another; all methods are called on the engine's thread."""

    def __init__(
        self,
        send: Callable[[FromWorker], None],
        load_kit: LoadKit,
        count_with: CountWith,
        limit_bytes: int = KEPT_LIMIT_BYTES,
    ) -> None:
        self._send = send
        self._load_kit = load_kit
        self._count_with = count_with
        self._limit_bytes = limit_bytes
        self._changed = threading.Condition()
        self._jobs: deque[Prepare | CountPrompt] = deque()
        self._kits: OrderedDict[Tag, tuple[TokenizerKit, int]] = OrderedDict()
        self._loading: Tag | None = None
        self._warming_stopped = threading.Event()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def put(self, job: Prepare | CountPrompt) -> None:
        """Begins; Prepared follows, or Counted, with a tokenizer that is loaded for it if need be.

        Page warming for an earlier one ends.
        """
        with self._changed:
            self._warming_stopped.set()
            self._jobs.append(job)
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="preparer", daemon=True)
            self._thread.start()

    def take(self, record: ModelRecord) -> TokenizerKit:
        """The kit of `record`, loaded now unless it was prepared. Page warming ends.

        Raises whatever loading a tokenizer raises.
        """
        with self._changed:
            self._warming_stopped.set()
            self._jobs = deque(_without_warming(job) for job in self._jobs)
            # Two threads must not use one tokenizer: what is to be counted with it comes first.
            self._changed.wait_for(lambda: self._is_closed or not self._is_used(record.tag))
            held = self._kits.get(record.tag)
            is_asked = any(job.record.tag == record.tag for job in self._jobs)
        if held is not None:
            return held[0]
        kit = self._load_kit(record)
        if is_asked:
            self._store(record, kit)
        return kit

    def _is_used(self, tag: Tag) -> bool:
        counts = any(isinstance(job, CountPrompt) and job.record.tag == tag for job in self._jobs)
        return counts or self._loading == tag

    def close(self) -> None:
        """Ends the thread; a tokenizer that it is loading is not waited for."""
        with self._changed:
            self._is_closed = True
            self._warming_stopped.set()
            self._jobs.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_JOIN_S)
        self._kits.clear()

    def _run(self) -> None:
        try:
            while (job := self._next()) is not None:
                self._do(job)
        except Exception:  # noqa: BLE001 - task root: the supervisor would wait for ever
            traceback.print_exc()
            die(EX_INTERNAL, "preparer thread failed")

    def _next(self) -> Prepare | CountPrompt | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._is_closed)
            if self._is_closed:
                return None
            job = self._jobs.popleft()
            if not self._jobs:
                self._warming_stopped.clear()
            self._loading = job.record.tag
            return job

    def _do(self, job: Prepare | CountPrompt) -> None:
        try:
            reason = self._keep(job.record)
            if isinstance(job, CountPrompt):
                # Before it is given up: a seated model's tokenizer is its engine's alone.
                self._send(self._counted(job, reason))
        finally:
            with self._changed:
                self._loading = None
                self._changed.notify_all()
        if isinstance(job, CountPrompt):
            return
        warmed = 0
        if job.warm_pages:
            warmed = warm_stretches(
                kept_stretches(job.record, job.residence),
                job.free_floor_bytes,
                self._warming_stopped.is_set,
            )
        self._send(Prepared(model=job.record.name, warmed_bytes=warmed))

    def _counted(self, order: CountPrompt, reason: str) -> Counted:
        with self._changed:
            held = self._kits.get(order.record.tag)
        if held is not None:
            return self._count_with(held[0], order)
        name = order.record.name
        return Counted(
            request=order.start.request,
            code="model_unavailable",
            message=f"the tokenizer of {name} cannot be loaded ({reason}); import the model again",
            facts={"model": name},
        )

    def _keep(self, record: ModelRecord) -> str:
        """Why its tokenizer could not be loaded; empty when it is in memory."""
        with self._changed:
            if record.tag in self._kits:
                self._kits.move_to_end(record.tag)
                return ""
        try:
            kit = self._load_kit(record)
        except Exception as error:  # noqa: BLE001 - the load will fail the same way, and say why
            return " ".join(str(error).split()) or type(error).__name__
        self._store(record, kit)
        return ""

    def _store(self, record: ModelRecord, kit: TokenizerKit) -> None:
        with self._changed:
            self._kits[record.tag] = (kit, record.tokenizer_bytes)
            while len(self._kits) > 1 and self._kept_bytes() > self._limit_bytes:
                self._kits.popitem(last=False)

    def _kept_bytes(self) -> int:
        return sum(size for _, size in self._kits.values())


def weight_files(record: ModelRecord) -> list[Path]:
    """The files that hold weights, in the order they are loaded."""
    names = sorted(entry.name for entry in record.files if entry.name.endswith(".safetensors"))
    return [Path(record.path) / name for name in names]


def kept_stretches(record: ModelRecord, residence: Residence | None) -> list[Stretch]:
    """Where the weights lie that are in memory while the model is seated, in order.

    Nothing where its files do not say: its load will fail, and tell why.
    """
    files = weight_files(record)
    if residence is None:
        return [Stretch(path) for path in files]
    count = 0 if record.parts is None else record.parts.expert_count
    try:
        places = find_places(files)
    except (OSError, ValueError):
        return []
    kept = [place for name, place in places.items() if stays(name, place, residence, count)]
    stretches: list[Stretch] = []
    for place in sorted(kept, key=lambda place: (place.path, place.offset)):
        start, end = place.offset, place.offset + place.size
        last = stretches[-1] if stretches else None
        if last is not None and (last.path, last.end) == (place.path, start):
            start = stretches.pop().start
        stretches.append(Stretch(place.path, start, end))
    return stretches


def _without_warming(job: Prepare | CountPrompt) -> Prepare | CountPrompt:
    return job if isinstance(job, CountPrompt) else Prepare(record=job.record)
