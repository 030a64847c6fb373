"""One model computes steps in a process of its own: whole, mapped, or with weights passing through.

`python -m benchmarks.proof.beyond_steps TASK` prints one JSON line. Steps come in cycles: in a
model with weights on the disk, the device's rate is measured first, while nothing else of this
process reads; then one step that does not count, since it finds full rooms; then those that do.
"""

import hashlib
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import msgspec
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model
from msgspec import Struct

from benchmarks.measure import MIB
from benchmarks.proof.mapped_weights import MappedWeights
from hotseat.protocol.residence import Residence, WeightParts
from hotseat.supervisor.models.rules.residence import choose_residence, streamed_view
from hotseat.worker.streaming.layers import arrays_in
from hotseat.worker.streaming.parts import measure_parts
from hotseat.worker.streaming.reading import PIECE_BYTES, THREADS
from hotseat.worker.streaming.seated import Streaming

CACHE_BYTES = 32 * MIB
"""That mlx may keep of what it freed; the same in all arms."""
SPARE_BYTES = 64 * MIB
"""Of the limit, left for libraries' pages and contexts."""
RATE_BYTES = 64 * MIB
FIRST_TOKEN = 5
STRETCH, TOPIC, ANYWHERE = 32, 40, 0.2
"""Text stays with a subject: so many tokens are of so few words, but for a share from anywhere."""
_ALIGNMENT = 4096
Kind = Literal["whole", "streamed", "slots", "mapped"]


class Task(Struct, frozen=True, kw_only=True):
    """What is computed. `limit_bytes`: of the process; 0 without one."""

    folder: str
    kind: Kind
    limit_bytes: int
    rows: int
    prompt: int
    warm: int
    cycles: int
    counted: int


class Steps(Struct, frozen=True, kw_only=True):
    """What it took: seconds of counted steps, bytes, bytes a second, digests of each call's logits.

    `read_bytes` of one counted step, by whoever reads weights; `rate` of the device, 0 unless this
    process reads. `plan_bytes`: interpreter, what was
    chosen to be held, mlx's cache and contexts, which have a budget of their own; 0 if whole.
    """

    step_s: tuple[float, ...]
    digests: tuple[str, ...]
    load_s: float
    prompt_s: float
    peak_bytes: int
    plan_bytes: int
    read_bytes: float
    rate: float
    hits: float
    words: str


class _Seated:
    """The model of a task, and what it was planned to take."""

    def __init__(self, task: Task) -> None:
        base = memory("VmRSS")
        folder = Path(task.folder)
        self.files = sorted(folder.glob("*.safetensors"))
        self.model, self.config = load_model(folder, lazy=True)
        self.streaming: Streaming | None = None
        self.mapped: MappedWeights | None = None
        self.plan_bytes, self.words = 0, "whole"
        if task.kind == "mapped":
            self.mapped = MappedWeights(self.model, self.files)
            self.words = f"{self.mapped.size_bytes / MIB:.0f} MiB are pages of the files"
        elif task.kind != "whole":
            parts = measure_parts(self.model, self.files)
            room = task.limit_bytes - base - CACHE_BYTES - SPARE_BYTES
            residence, held, self.words = _chosen(task.kind, parts, room)
            self.plan_bytes = base + CACHE_BYTES + held
            self.streaming = Streaming(self.model, self.files, residence)
        mx.eval(self.model.parameters())

    @property
    def read_bytes(self) -> int:
        """So far, by streaming or by the system for this process."""
        if self.mapped is not None:
            return figure_of("io", "read_bytes")
        return self.streaming.readers.figures[0] if self.streaming else 0

    def close(self) -> None:
        if self.streaming is not None:
            self.streaming.close()
        if self.mapped is not None:
            self.mapped.close()


def rest(seated: Any) -> None:
    """Waits until nothing is being read: as many bytes have been as were, for a while."""
    before = -1
    while before != seated.read_bytes:
        before = seated.read_bytes
        time.sleep(0.05)


def _chosen(kind: str, parts: WeightParts, room: int) -> tuple[Residence, int, str]:
    if kind == "slots":
        slots = Residence(mode="experts", slots=parts.expert_count, rooms=1)
        return slots, parts.total + max(parts.experts), "all experts are in slots"
    seating = choose_residence(parts, room)
    if seating is None:
        raise SystemExit(f"no part of the model fits into {room / MIB:.0f} MiB")
    view = streamed_view(parts, seating.residence, seating.step_bytes, None)
    return seating.residence, seating.resident_bytes, view.words


def compute(task: Task) -> Steps:
    """All of a task in this process."""
    mx.set_cache_limit(CACHE_BYTES)
    began = time.perf_counter()
    seated = _Seated(task)
    loaded = time.perf_counter()
    cache = make_prompt_cache(seated.model)
    tokens = topical(task, int(seated.config["vocab_size"]))
    digests: list[str] = []

    def step(start: int, end: int) -> float:
        at = time.perf_counter()
        logits = seated.model(mx.array(tokens[:, start:end]), cache=cache)[:, -1, :]
        mx.eval(logits)
        took = time.perf_counter() - at
        digests.append(digest_of(logits))
        return took

    prompt_s = step(0, task.prompt)
    position = task.prompt
    for _ in range(task.warm):
        step(position, position + 1)
        position += 1
    times: list[float] = []
    rates: list[float] = []
    read, hits_before = 0, _hits(seated)
    for _ in range(task.cycles):
        if seated.streaming is not None:
            rest(seated)
            rates.append(device_rate(seated.files))
        step(position, position + 1)
        before = seated.read_bytes
        times += [step(at, at + 1) for at in range(position + 1, position + 1 + task.counted)]
        read += seated.read_bytes - before
        position += 1 + task.counted
    hits, asked = (now - then for now, then in zip(_hits(seated), hits_before, strict=True))
    seated.close()
    return Steps(
        step_s=tuple(times),
        digests=tuple(digests),
        load_s=loaded - began,
        prompt_s=prompt_s,
        peak_bytes=memory("VmHWM"),
        plan_bytes=seated.plan_bytes
        and seated.plan_bytes + sum(array.nbytes for array in arrays_in(cache)),
        read_bytes=read / len(times),
        rate=statistics.median(rates) if rates else 0.0,
        hits=hits / asked if asked else 0.0,
        words=seated.words,
    )


def digest_of(logits: mx.array) -> str:
    """Of all bits of a call's logits."""
    return hashlib.blake2b(bytes(memoryview(logits.view(mx.uint8)))).hexdigest()[:32]


def topical(task: Task, vocab: int) -> Any:
    """Tokens `(rows, prompt and steps)`, the same for every task of the same lengths."""
    count = task.prompt + task.warm + task.cycles * (1 + task.counted)
    random = np.random.default_rng(0)
    stretches = -(-count // STRETCH)
    words = random.integers(FIRST_TOKEN, vocab, (task.rows, stretches, TOPIC))
    chosen = random.integers(0, TOPIC, (task.rows, stretches, STRETCH))
    of_topic = np.take_along_axis(words, chosen, axis=2).reshape(task.rows, -1)
    anywhere = random.integers(FIRST_TOKEN, vocab, of_topic.shape)
    return np.where(random.random(of_topic.shape) < ANYWHERE, anywhere, of_topic)[:, :count]


def device_rate(files: list[Path]) -> float:
    """Bytes a second of direct reads of the size and on the threads of the product's, now."""
    places = [
        (number, offset)
        for number, path in enumerate(files)
        for offset in range(0, path.stat().st_size - PIECE_BYTES, PIECE_BYTES)
    ]
    order = np.random.default_rng(time.monotonic_ns()).permutation(len(places))
    pieces = [places[int(place)] for place in order[: RATE_BYTES // PIECE_BYTES]]
    opened = [os.open(path, os.O_RDONLY | os.O_DIRECT) for path in files]
    room = np.zeros(THREADS * PIECE_BYTES + _ALIGNMENT, np.uint8)
    first = -room.ctypes.data % _ALIGNMENT

    def read(thread: int) -> None:
        start = first + thread * PIECE_BYTES
        into = room[start : start + PIECE_BYTES].data
        for number, offset in pieces[thread::THREADS]:
            if os.preadv(opened[number], [into], offset) != PIECE_BYTES:
                raise EOFError(files[number])

    try:
        with ThreadPoolExecutor(THREADS) as pool:
            at = time.perf_counter()
            list(pool.map(read, range(THREADS)))
            return len(pieces) * PIECE_BYTES / (time.perf_counter() - at)
    finally:
        for fd in opened:
            os.close(fd)


def memory(name: str) -> int:
    """A figure of /proc/self/status, bytes."""
    return figure_of("status", name) * 1024


def figure_of(file: str, name: str) -> int:
    """A line of a name and a number, of this process."""
    lines = Path("/proc/self", file).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _hits(seated: _Seated) -> tuple[int, int]:
    return seated.streaming.hits if seated.streaming else (0, 0)


if __name__ == "__main__":
    result = compute(msgspec.json.decode(sys.argv[1], type=Task))
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
