"""Memory that weights are read to: arrays that begin where their file lets a device read straight.

A device reads whole blocks to addresses that lie in a block as the file's bytes do. So an array's
place in its buffer follows its offset in the file. Knows no layers and reads nothing.
"""

import ctypes
import sys
from collections.abc import Iterable
from typing import Any, Final

import mlx.core as mx
import numpy as np

from hotseat.protocol.limits import MIB
from hotseat.worker.store.direct_io import ALIGNMENT
from hotseat.worker.streaming.places import Place

_UNIT: Final = 4
"""An array begins at a multiple of so many bytes: the widest type that weights have."""
_LARGE_PAGE: Final = 2 * MIB
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25
"""Of Linux: include/uapi/asm-generic/mman-common.h."""
_WORDS: Final = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32}
"""Types that a buffer can be exported as, by bytes: bfloat16 is none."""


class Target:
    """Memory for the same parameter of several layers, one at a time."""

    def __init__(self, places: Iterable[Place], entries: int | None = None) -> None:
        """Of places of one shape and type; `entries`: along the first axis, if not as many."""
        found = list(places)
        first = found[0]
        shape = first.shape if entries is None else (entries, *first.shape[1:])
        dtype: Any = first.dtype
        self._size = first.size if entries is None else entries * first.row(0)[1]
        # Words, because a dimension of mlx has 31 bits and a layer may have more bytes.
        words = -(-self._size // _UNIT)
        buffer = mx.zeros((words + 2 * ALIGNMENT // _UNIT,), mx.uint32)
        self._memory = bytes_of(buffer)
        _lay_in_large_pages(self._memory)
        self._base = -_address(self._memory) % ALIGNMENT
        self._arrays: dict[int, mx.array] = {}
        for start in {self._start(place) for place in found}:
            part = buffer[start // _UNIT : start // _UNIT + words].view(dtype)
            self._arrays[start] = part[: self._size // dtype.size].reshape(shape)
        mx.eval(self._arrays)
        self._check()

    def array(self, place: Place) -> mx.array:
        """What is computed with, once the parameter of this place was read."""
        return self._arrays[self._start(place)]

    def memory(self, place: Place) -> memoryview:
        """The bytes of that array, to be written."""
        start = self._start(place)
        return self._memory[start : start + self._size]

    def _start(self, place: Place) -> int:
        """Where the array begins in the buffer; one that lies at an odd byte cannot follow."""
        inside = place.offset % ALIGNMENT
        return self._base + (inside if inside % _UNIT == 0 else 0)

    def _check(self) -> None:
        for start, array in self._arrays.items():
            if _address(bytes_of(array)) != _address(self._memory) + start:
                raise RuntimeError("a part of an array has memory of its own, not its buffer's")


def bytes_of(array: mx.array) -> memoryview:
    """The memory of an array, to be written. It is evaluated and owns its buffer from here on."""
    flat: Any = array.reshape(-1).view(_WORDS[array.dtype.size])
    mx.eval(flat)
    return memoryview(flat).cast("B")


def _lay_in_large_pages(memory: memoryview) -> None:
    """Linux, where it lets us: a device reads to a few long pieces, not to hundreds of 4 KiB.

    Without it reading past the cache was measured slower to a room than to a small bounce buffer.
    """
    start = -(-_address(memory) // ALIGNMENT) * ALIGNMENT
    size = (_address(memory) + len(memory) - start) // ALIGNMENT * ALIGNMENT
    if sys.platform != "linux" or size < _LARGE_PAGE:
        return
    advise = ctypes.CDLL(None).madvise
    for advice in (_MADV_HUGEPAGE, _MADV_COLLAPSE):
        advise(ctypes.c_void_p(start), ctypes.c_size_t(size), ctypes.c_int(advice))


def _address(memory: memoryview) -> int:
    return int(np.frombuffer(memory, np.uint8).ctypes.data)
