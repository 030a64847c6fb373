"""Rooms for K and V of layers of one context whose blocks are in files.

A room takes all blocks of a layer, one behind the other, as a cache in memory would hold them; what
is in no file yet is put behind them by whoever took the room. Knows no caches.
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import mlx.core as mx
import numpy as np
from msgspec import Struct

from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.model import FLOAT_BYTES, FloatType, LayerSpec
from hotseat.worker.store.direct_io import aligned_memory
from hotseat.worker.store.kept_blocks import KeptBlock
from hotseat.worker.streaming.layers import SPOIL_VARIABLE
from hotseat.worker.streaming.reading import THREADS, Meter
from hotseat.worker.streaming.rooms import Rooms
from hotseat.worker.streaming.targets import bytes_of

_DTYPES: Final[dict[FloatType, Any]] = {
    "float32": mx.float32,
    "float16": mx.float16,
    "bfloat16": mx.bfloat16,
}
_WORDS: Final = {4: np.uint32, 2: np.uint16}
_SPOILT: Final = 0xFF
Words = np.ndarray[Any, Any]
Kind = tuple[int, int, int]
"""(kv_heads, k_dim, v_dim) of layers that can share rooms."""


class BlockReads:
    """Threads that read parts of blocks to their places in rooms."""

    def __init__(self, meter: Meter | None = None) -> None:
        """`meter`: of what is read meanwhile, so that time in which both read counts once."""
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="contexts")
        self._bounce = threading.local()
        self._meter = meter or Meter()

    def begin(self, block: KeptBlock, entry: int, into: tuple[Words, Words]) -> Future[None]:
        """Reads K and V of a layer to `into`, each `(kv_heads, 256, dim)`."""
        return self._pool.submit(self._read, block, entry, into)

    @property
    def figures(self) -> tuple[int, float]:
        """Bytes that were read, and seconds in which anything was being read; from any thread."""
        return self._meter.figures

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _read(self, block: KeptBlock, entry: int, into: tuple[Words, Words]) -> None:
        self._meter.enter()
        done = 0
        try:
            part = block.read(entry, self._memory(block.memory_bytes(entry)))
            for words, numbers in zip(into, (part.keys, part.values), strict=True):
                np.copyto(words, np.frombuffer(numbers, words.dtype).reshape(words.shape))
                done += words.nbytes
        finally:
            self._meter.leave(done)

    def _memory(self, size: int) -> memoryview:
        """This thread's, as large as its largest part."""
        memory: memoryview | None = getattr(self._bounce, "memory", None)
        if memory is None or len(memory) < size:
            memory = self._bounce.memory = aligned_memory(size)
        return memory


class Room:
    """K and V of one layer, `(1, kv_heads, tokens, dim)`: as arrays, and as words to be written."""

    def __init__(self, kind: Kind, tokens: int, dtype: FloatType) -> None:
        heads, *dims = kind
        self._arrays = [mx.zeros((1, heads, tokens, dim), _DTYPES[dtype]) for dim in dims]
        mx.eval(self._arrays)
        words = _WORDS[FLOAT_BYTES[dtype]]
        self._words: list[Words] = [
            np.frombuffer(bytes_of(array), words).reshape(heads, tokens, dim)
            for array, dim in zip(self._arrays, dims, strict=True)
        ]

    def place(self, start: int, end: int) -> tuple[Words, Words]:
        """Where K and V of these tokens go."""
        keys, values = self._words
        return keys[:, start:end], values[:, start:end]

    def first(self, tokens: int) -> tuple[mx.array, mx.array]:
        """K and V of the first `tokens`."""
        keys, values = self._arrays
        return keys[..., :tokens, :], values[..., :tokens, :]

    def spoil(self) -> None:
        """Fills it with what is no number."""
        for words in self._words:
            words.view(np.uint8)[:] = _SPOILT


class _Filling(Struct, frozen=True):
    """What a room is being filled with: so many blocks."""

    blocks: int
    jobs: tuple[Future[None], ...]


class KvRooms:
    """The rooms of one context's layers, `count` to each kind, of `tokens` tokens."""

    def __init__(
        self,
        layers: Mapping[int, LayerSpec],
        dtype: FloatType,
        count: int,
        tokens: int,
        blocks: Sequence[KeptBlock],
        reads: BlockReads,
        *,
        is_spoilt: bool = False,
    ) -> None:
        """`layers` by cache entry, in the order of need. `blocks` grows while this exists."""
        self.tokens = tokens
        self._blocks = blocks
        self._reads = reads
        self._is_spoilt = is_spoilt or bool(os.environ.get(SPOIL_VARIABLE))
        self._kinds = {
            entry: (layer.kv_heads, layer.k_dim, layer.v_dim) for entry, layer in layers.items()
        }
        self._passing = {}
        for kind in dict.fromkeys(self._kinds.values()):
            entries = [entry for entry, its in self._kinds.items() if its == kind]
            places = [Room(kind, tokens, dtype) for _ in range(min(count, len(entries)))]
            self._passing[kind] = _Passing(entries, places, self._begin)

    def take(self, entry: int) -> Room:
        """The layer's room with every block there is, its until `give`. Raises BlockLostError."""
        passing = self._passing[self._kinds[entry]]
        number = passing.rooms.take(entry)
        room = passing.places[number]
        # What was read ahead may lack blocks that came since.
        late = self._begin(entry, room, passing.filled[number])
        _finish(late)
        passing.filled[number] = late.blocks
        return room

    def give(self, entry: int) -> None:
        """All that used the layer's room was computed."""
        passing = self._passing[self._kinds[entry]]
        if self._is_spoilt:
            passing.room_of(entry).spoil()
        passing.rooms.give(entry)

    def close(self) -> None:
        """Waits for what is being read; nothing is read any more."""
        for passing in self._passing.values():
            passing.rooms.close()

    def _begin(self, entry: int, room: Room, first: int) -> _Filling:
        count = len(self._blocks)
        jobs = [
            self._reads.begin(
                self._blocks[index],
                entry,
                room.place(index * BLOCK_TOKENS, (index + 1) * BLOCK_TOKENS),
            )
            for index in range(first, count)
        ]
        return _Filling(count, tuple(jobs))


class _Passing:
    """Rooms that layers of one kind share; `filled`: blocks in each."""

    def __init__(
        self,
        entries: Sequence[int],
        places: Sequence[Room],
        begin: Callable[[int, Room, int], _Filling],
    ) -> None:
        self.places = places
        self.filled = [0] * len(places)
        self._begin_reading = begin
        self.rooms: Rooms[_Filling] = Rooms(len(places), entries, self._begin, _finish)

    def room_of(self, entry: int) -> Room:
        """That of a layer that holds one."""
        owners = [self.rooms.state(number)[1] for number in range(len(self.places))]
        return self.places[owners.index(entry)]

    def _begin(self, entry: int, number: int) -> _Filling:
        filling = self._begin_reading(entry, self.places[number], 0)
        self.filled[number] = filling.blocks
        return filling


def _finish(filling: _Filling) -> None:
    """Waits for all of it, whatever becomes of one. Raises BlockLostError, of the first block.

    What is stored behind that one is not offered either, and is verified when it is written anew.
    """
    failed: BaseException | None = None
    for job in filling.jobs:
        error = job.exception()
        failed = failed or error
    if failed is not None:
        raise failed
