"""Large files past the page cache: the same bytes, whatever the file system allows."""

import errno
import fcntl
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hotseat.worker.store import direct_io
from hotseat.worker.store.direct_io import (
    ALIGNMENT,
    PIECE_BYTES,
    FileReads,
    aligned_memory,
    alignment_on,
    write_directly,
)

SIZE = 2 * PIECE_BYTES + 3 * ALIGNMENT + 77
"""Two whole pieces, some pages and a rest."""


@pytest.fixture(scope="module")
def content() -> bytes:
    return os.urandom(SIZE)


@contextmanager
def opened(path: Path, *, is_past_cache: bool = False) -> Iterator[FileReads]:
    fd = os.open(path, os.O_RDONLY)
    reads = FileReads(fd, is_past_cache=is_past_cache)
    try:
        yield reads
    finally:
        reads.close()
        os.close(fd)


def drop_from_cache(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


@pytest.mark.parametrize("is_cold", [True, False])
@pytest.mark.parametrize(
    ("position", "size"),
    [(0, SIZE), (64, SIZE - 64), (ALIGNMENT + 1, PIECE_BYTES), (SIZE - 5, 5), (192, 10)],
)
def test_any_span_is_read_as_it_was_written(
    tmp_path: Path, content: bytes, position: int, size: int, *, is_cold: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    if is_cold:
        drop_from_cache(path)
    with opened(path) as reads:
        assert bytes(reads.read(position, size)) == content[position : position + size]


def test_file_that_is_half_in_the_cache_is_read_whole(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    drop_from_cache(path)
    with path.open("rb") as stream:
        stream.read(PIECE_BYTES + 100)
    with opened(path) as reads:
        assert bytes(reads.read(64, SIZE - 64)) == content[64:]


def test_reads_past_the_cache_never_look_into_it(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    true_preadv, looks = os.preadv, []

    def preadv(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        looks.append(flags)
        return true_preadv(fd, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", preadv)
    memory = aligned_memory(PIECE_BYTES + 2 * ALIGNMENT)
    with opened(path, is_past_cache=True) as reads:
        for start, size in ((77, PIECE_BYTES), (ALIGNMENT - 1, 100), (SIZE - 3 * ALIGNMENT, 9000)):
            assert reads.read(start, size, memory) == content[start : start + size]
    assert looks
    assert not any(looks)


def memory_at(inside: int, size: int) -> memoryview:
    """Memory that begins so many bytes behind a multiple of the alignment."""
    return aligned_memory(inside + size)[inside : inside + size]


def fill(reads: FileReads, position: int, into: memoryview) -> bytes:
    reads.read_into(position, into, aligned_memory(len(into) + 2 * ALIGNMENT))
    return bytes(into)


SPANS = [
    (0, PIECE_BYTES),
    (12, PIECE_BYTES),
    (ALIGNMENT - 4, 3 * ALIGNMENT + 5),
    (ALIGNMENT + 8, ALIGNMENT),
    (SIZE - 2 * ALIGNMENT - 1, 2 * ALIGNMENT + 1),
    (5, 10),
]


@pytest.mark.parametrize("beside", [0, 4])
@pytest.mark.parametrize(("position", "size"), SPANS)
def test_any_span_is_read_into_memory_at_any_address(
    tmp_path: Path, content: bytes, position: int, size: int, beside: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with opened(path, is_past_cache=True) as reads:
        into = memory_at((position + beside) % ALIGNMENT, size)
        assert fill(reads, position, into) == content[position : position + size]


def test_whole_blocks_are_read_straight_where_memory_lies_as_the_file_does(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    real, calls = os.preadv, []

    def preadv(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        calls.append([(np.asarray(part).ctypes.data, len(part)) for part in buffers])
        return real(fd, buffers, offset, flags)

    monkeypatch.setattr(direct_io.os, "preadv", preadv)
    with opened(path, is_past_cache=True) as reads:
        into = memory_at(12, PIECE_BYTES)
        fill(reads, ALIGNMENT + 12, into)
    (pieces,) = calls
    first = np.asarray(into).ctypes.data + ALIGNMENT - 12
    assert pieces[1] == (first, PIECE_BYTES - ALIGNMENT)
    assert all(not address % ALIGNMENT and not length % ALIGNMENT for address, length in pieces)


@pytest.mark.parametrize("answer", ["refused", "short"])
def test_straight_reads_that_are_refused_or_short_are_made_up_for(
    tmp_path: Path, content: bytes, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    real = os.preadv

    def preadv(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        if not fcntl.fcntl(fd, fcntl.F_GETFL) & getattr(os, "O_DIRECT", 0):
            return real(fd, buffers, offset, flags)
        if answer == "refused":
            raise OSError(errno.EINVAL, "no direct reads here")
        return real(fd, [buffers[0][:ALIGNMENT]], offset, flags)

    monkeypatch.setattr(direct_io.os, "preadv", preadv)
    with opened(path, is_past_cache=True) as reads:
        for position, size in SPANS:
            into = memory_at(position % ALIGNMENT, size)
            assert fill(reads, position, into) == content[position : position + size]


def test_file_that_ends_within_a_straight_read_is_said_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with opened(path, is_past_cache=True) as reads, pytest.raises(EOFError):
        fill(reads, SIZE - 2 * ALIGNMENT, memory_at((SIZE - 2 * ALIGNMENT) % ALIGNMENT, 9000))


def test_a_mac_reads_straight_to_any_address(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a switch in place of a descriptor of its own, and asks for no alignment."""
    path = tmp_path / "file"
    path.write_bytes(content)
    real, read = os.preadv, []

    def preadv(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        read.append([len(part) for part in buffers])
        return real(fd, buffers, offset, flags)

    monkeypatch.setattr(FileReads, "_open_direct", lambda _self: None)
    monkeypatch.setattr(direct_io.os, "preadv", preadv)
    with opened(path, is_past_cache=True) as reads:
        for position, size in SPANS:
            read.clear()
            into = memory_at((position + 1) % ALIGNMENT, size)
            assert fill(reads, position, into) == content[position : position + size]
            assert read == [[size]]


def test_file_that_ends_too_early_is_said_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with opened(path) as reads, pytest.raises(EOFError):
        reads.read(0, SIZE + 1)


def test_refused_direct_reads_go_through_the_cache(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    real = os.preadv

    def refuse(fd: int, buffers: list[memoryview], position: int, flags: int = 0) -> int:
        if flags:
            raise BlockingIOError(errno.EAGAIN, "not cached")
        if fcntl.fcntl(fd, fcntl.F_GETFL) & getattr(os, "O_DIRECT", 0):
            raise OSError(errno.EINVAL, "no direct reads here")
        return real(fd, buffers, position)

    monkeypatch.setattr(direct_io.os, "preadv", refuse)
    with opened(path) as reads:
        assert bytes(reads.read(64, SIZE - 64)) == content[64:]


def test_pieces_of_any_length_are_written_one_behind_the_other(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "file"
    cuts = [0, 64, 64, ALIGNMENT + 1, PIECE_BYTES + 9, SIZE]
    whole = memoryview(content)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    write_directly(fd, [whole[a:b] for a, b in itertools.pairwise(cuts)])
    os.close(fd)
    assert path.read_bytes() == content


@pytest.mark.parametrize("answer", ["refused", "short"])
def test_refused_or_short_direct_writes_go_on_through_the_cache(
    tmp_path: Path, content: bytes, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    real = os.write

    def write(fd: int, data: memoryview) -> int:
        if not fcntl.fcntl(fd, fcntl.F_GETFL) & getattr(os, "O_DIRECT", 0):
            return real(fd, data)
        if answer == "refused":
            raise OSError(errno.EINVAL, "no direct writes here")
        return real(fd, data[:ALIGNMENT])

    monkeypatch.setattr(direct_io.os, "write", write)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    write_directly(fd, [memoryview(content)])
    os.close(fd)
    assert path.read_bytes() == content


def test_a_macs_pages_are_of_16_kib() -> None:
    assert (alignment_on("darwin"), alignment_on("linux")) == (16_384, 4096)


def test_writes_past_a_macs_cache_are_whole_pages_from_whole_pages(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct: list[tuple[int, int]] = []
    is_direct = False
    real = os.write

    def set_direct(_fd: int, *, on: bool) -> bool:
        nonlocal is_direct
        is_direct = on
        return on

    def write(fd: int, data: memoryview) -> int:
        if is_direct:
            direct.append((np.asarray(data).ctypes.data, len(data)))
        return real(fd, data)

    monkeypatch.setattr(direct_io, "ALIGNMENT", alignment_on("darwin"))
    monkeypatch.setattr(direct_io, "_set_direct", set_direct)
    monkeypatch.setattr(direct_io.os, "write", write)
    path = tmp_path / "file"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    write_directly(fd, [memoryview(content)])
    os.close(fd)
    assert path.read_bytes() == content
    assert sum(length for _, length in direct) == SIZE - SIZE % 16_384
    assert all(not address % 16_384 and not length % 16_384 for address, length in direct)
