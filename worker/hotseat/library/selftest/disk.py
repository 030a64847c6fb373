"""What syncs, links and files of KV cost on this disk. Judges nothing."""

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from hotseat.protocol.ids import BlockId, Tag
from hotseat.protocol.limits import KIB, MIB
from hotseat.protocol.selftest import Absent, Figure, Measured, StoreFile, SyncFiles, figure
from hotseat.protocol.tokens import pack_tokens, root_id
from hotseat.worker.store.kv_file import read_kv, write_kv
from hotseat.worker.store.kv_format import KvPayload, LayerPart

_WRITE_BYTES: Final = 4 * KIB
_MS: Final = 1000.0
_TOKENS: Final = 256
_HEADS: Final = 8
_CONTROLS: Final = {"barrier_fsync": 85, "full_fsync": 51}
"""`fcntl` of macOS: F_BARRIERFSYNC orders writes, F_FULLFSYNC empties the drive's cache."""


def sync_files(order: SyncFiles) -> Measured:
    """Milliseconds by way of syncing, for a file and for its folder, and of a link."""
    folder = Path(order.folder)
    figures: list[Figure] = []
    absent: list[Absent] = []
    for name, sync in _ways().items():
        if sync is None:
            absent.append(Absent(name=name, reason="a call of macOS"))
            continue
        file_ms, folder_ms = _time_way(folder, name, order.count, sync)
        figures.append(figure(f"{name}_file_ms", *file_ms))
        figures.append(figure(f"{name}_folder_ms", *folder_ms))
    figures.append(figure("link_ms", *_time_links(folder, order.count)))
    return Measured(figures=tuple(figures), absent=tuple(absent))


def _ways() -> dict[str, Callable[[int], object] | None]:
    found: dict[str, Callable[[int], object] | None] = {"fsync": os.fsync}
    for name, number in _CONTROLS.items():
        found[name] = _control(number) if sys.platform == "darwin" else None
    return found


def _flush(folder: Path) -> None:
    """What makes files durable that were only synced one by one; elsewhere they are already."""
    full = _ways()["full_fsync"]
    if full is not None:
        with _opened(folder, os.O_RDONLY) as fd:
            full(fd)


def _control(number: int) -> Callable[[int], object]:
    return lambda fd: fcntl.fcntl(fd, number)


def _time_way(
    folder: Path, name: str, count: int, sync: Callable[[int], object]
) -> tuple[list[float], list[float]]:
    data = os.urandom(_WRITE_BYTES)
    file_ms, folder_ms = [], []
    with _opened(folder, os.O_RDONLY) as folder_fd:
        for number in range(count):
            path = folder / f"{name}-{number}"
            with _opened(path, os.O_WRONLY | os.O_CREAT) as fd:
                os.write(fd, data)
                file_ms.append(_timed_ms(partial(sync, fd)))
            folder_ms.append(_timed_ms(partial(sync, folder_fd)))
            path.unlink()
    return file_ms, folder_ms


def _time_links(folder: Path, count: int) -> list[float]:
    source = folder / "linked"
    source.write_bytes(b"x")
    found = []
    for number in range(count):
        target = folder / f"linked-{number}"
        found.append(_timed_ms(partial(os.link, source, target)))
        target.unlink()
    source.unlink()
    return found


def store_file(order: StoreFile) -> Measured:
    """MiB a second through the store's own writer and reader, which verifies every byte."""
    folder = Path(order.folder)
    folder.mkdir(parents=True, exist_ok=True)
    tag = Tag("5e1f7e57" * 8)
    payload = _payload(tag, order.size_bytes)
    size_mib = payload.size_bytes / MIB
    writes, reads, is_equal = [], [], True
    for number in range(order.count):
        name = f"tails/{number}.kv"
        started = time.perf_counter()
        write_kv(folder, name, payload)
        _flush(folder)
        writes.append(size_mib / (time.perf_counter() - started))
        started = time.perf_counter()
        found = read_kv(folder, name, tag=tag, parent=payload.parent, tokens=payload.tokens)
        reads.append(size_mib / (time.perf_counter() - started))
        is_equal = is_equal and bytes(found.parts[0].keys) == bytes(payload.parts[0].keys)
        (folder / name).unlink()
    return Measured(
        figures=(
            figure("size_bytes", payload.size_bytes),
            figure("write_mib_per_s", *writes),
            figure("read_mib_per_s", *reads),
            figure("equal_share", float(is_equal)),
        )
    )


def _payload(tag: Tag, size_bytes: int) -> KvPayload:
    dim = max(1, size_bytes // (2 * _HEADS * _TOKENS * 4))
    shape = (_HEADS, _TOKENS, dim)
    numbers = np.random.default_rng(0).standard_normal((2, *shape), dtype=np.float32)
    part = LayerPart(
        entry=0,
        tokens=_TOKENS,
        keys=numbers[0].tobytes(),
        values=numbers[1].tobytes(),
        k_shape=shape,
        v_shape=shape,
        dtype="float32",
    )
    return KvPayload(
        tag=tag,
        parent=BlockId(root_id(tag)),
        tokens=pack_tokens(list(range(_TOKENS))),
        parts=(part,),
    )


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _timed_ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * _MS
