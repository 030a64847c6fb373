"""Memory that weights are read to: it follows the file's offsets, and arrays see what was read."""

import os

import mlx.core as mx
import numpy as np
import pytest

from hotseat.protocol.limits import MIB
from hotseat.worker.store.direct_io import ALIGNMENT
from hotseat.worker.streaming.places import Place
from hotseat.worker.streaming.reading import Readers, finish
from hotseat.worker.streaming.targets import Target, bytes_of

ROWS, ROW = 6, MIB + 24
SIZE = ROWS * ROW
OFFSETS = (0, 4, 132, 134, ALIGNMENT - 4, ALIGNMENT + 5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w"
    path.write_bytes(os.urandom(SIZE + 2 * ALIGNMENT))
    return path


def place(path, offset, dtype=mx.float32):
    return Place(path, offset, SIZE, (ROWS, ROW // dtype.size), dtype)


def seen(array):
    return bytes(bytes_of(array))


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.uint8])
def test_what_is_read_to_a_target_is_what_its_array_has(weights, dtype):
    readers, content = Readers([weights]), weights.read_bytes()
    target = Target(place(weights, offset, dtype) for offset in OFFSETS)
    try:
        for offset in OFFSETS:
            where = place(weights, offset, dtype)
            finish(readers.begin(weights, offset, target.memory(where)))
            array = target.array(where)
            assert (array.shape, array.dtype) == ((ROWS, ROW // dtype.size), dtype)
            assert seen(array) == content[offset : offset + SIZE]
        assert readers.figures[0] == SIZE * len(OFFSETS)
    finally:
        readers.close()


def test_memory_lies_in_a_block_as_the_file_does_unless_the_file_is_odd(weights):
    target = Target(place(weights, offset) for offset in OFFSETS)
    for offset in OFFSETS:
        address = np.asarray(target.memory(place(weights, offset))).ctypes.data
        assert (address - offset) % ALIGNMENT == (0 if offset % 4 == 0 else -offset % ALIGNMENT)


def test_slots_take_rows_and_leave_their_neighbours_alone(weights):
    readers, content, where = Readers([weights]), weights.read_bytes(), place(weights, 132)
    target = Target([where], 3)
    memory = target.memory(where)
    memory[:] = b"\7" * len(memory)
    try:
        offset, size = where.row(4)
        finish(readers.begin(weights, offset, memory[size : 2 * size]))
        assert target.array(where).shape == (3, ROW // 4)
        assert seen(target.array(where)) == (
            b"\7" * size + content[offset : offset + size] + b"\7" * size
        )
    finally:
        readers.close()
