"""A model's weights as pages of its files: what `mmap` makes of it, mlx having no such loading.

Every weight is an array of mlx as ever, in a buffer that mlx allocated, over which the pages of the
file are laid. From then on the system reads a page when it is first touched and drops it when
memory is short; nothing here reads weights, holds any or says which come next. This is how
llama.cpp has its weights, without its kernels: mlx's compute on them, as in all other arms. Linux
only. Must not know arms or limits.

Two things are not as in a program that maps its files by itself. While an array is laid out its
buffer is memory for a moment, one at a time, and weights below `LEAST_BYTES` stay in memory.
"""

import ctypes
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from benchmarks.measure import KIB
from hotseat.worker.streaming.places import Place, find_places

LEAST_BYTES: Final = 64 * KIB
"""Of a weight that is mapped; vectors are below it, all of a layer's together a fraction of one."""
_MAP_FIXED: Final = 0x10
"""Of Linux's mman-common.h; Python has no name for it."""


class MappedWeights:
    """The weights of one model on pages of its files.

    `close` before anything frees them: an allocator writes into what it was given back, and these
    pages cannot be written.
    """

    def __init__(self, model: Any, files: Sequence[Path]) -> None:
        """`model` as it was built lazily. The system is left without advice: any made it slower.

        Raises OSError, and ValueError for weights that are not in the files as they are computed
        with.
        """
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [
            *(ctypes.c_void_p, ctypes.c_size_t),
            *(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long),
        ]
        self._rooms: list[mx.array] = []
        self._spans: list[tuple[int, int]] = []
        places = find_places(files)
        wanted = [
            (name, place_of(name, array, places))
            for name, array in tree_flatten(model.parameters())
            if array.nbytes >= LEAST_BYTES
        ]
        try:
            mapped = [(name, self._mapped(place)) for name, place in wanted]
        except BaseException:
            self.close()
            raise
        model.update(tree_unflatten(mapped))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size_bytes(self) -> int:
        """Of all pages that are a file's."""
        return sum(size for _, size in self._spans)

    def close(self) -> None:
        """Gives the buffers memory again, as whoever frees them expects; the weights are zero."""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        for start, size in self._spans:
            self._lay(start, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        self._spans.clear()
        self._rooms.clear()

    def _mapped(self, place: Place) -> mx.array:
        """The tensor on the file's pages, as far within its first page as it is in the file."""
        within, size = span_of(place)
        room = mx.zeros((size + mmap.PAGESIZE,), mx.uint8)
        mx.eval(room)
        address = _address(room)
        start = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        first = start + within - address
        array = room[first : first + place.size].view(place.dtype).reshape(place.shape)
        mx.eval(array)
        if _address(array) != start + within:
            raise ValueError(f"mlx copied {place.shape} instead of sharing its buffer")
        with place.path.open("rb") as file:
            # Never written: if it were, the process would end instead of computing on.
            flags, offset = mmap.MAP_PRIVATE, place.offset - within
            self._lay(start, size, mmap.PROT_READ, flags, file.fileno(), offset)
        self._rooms.append(room)
        self._spans.append((start, size))
        return array

    def _lay(self, start: int, size: int, access: int, flags: int, fd: int, offset: int) -> None:
        """Pages over `size` bytes from `start`; what was there is freed. Raises OSError."""
        if self._libc.mmap(start, size, access, flags | _MAP_FIXED, fd, offset) != start:
            raise OSError(ctypes.get_errno(), f"mmap of {size} bytes over a buffer failed")


def place_of(name: str, array: mx.array, places: dict[str, Place]) -> Place:
    """Where the bytes of this parameter are. Raises ValueError when a file has them otherwise."""
    place = places.get(name)
    if place is None or place.shape != tuple(array.shape) or place.dtype != array.dtype:
        raise ValueError(f"no file has {name} as {tuple(array.shape)} of {array.dtype}")
    if place.offset % array.itemsize:
        raise ValueError(
            f"{name} begins at byte {place.offset} of {place.path.name}, which is no multiple of"
            f" {array.itemsize}: write the model as the package safetensors does"
        )
    return place


def span_of(place: Place) -> tuple[int, int]:
    """How far within its first page of the file it begins, and the bytes of all pages it is on."""
    within = place.offset % mmap.PAGESIZE
    return within, -(-(within + place.size) // mmap.PAGESIZE) * mmap.PAGESIZE


def _address(array: mx.array) -> int:
    """Of the first byte of an evaluated array."""
    return int(np.array(array.view(mx.uint8), copy=False).ctypes.data)
