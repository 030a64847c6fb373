"""How far the system reads ahead of a page fault on one disk: looked at, set for a while, put back.

It decides what mapped files cost: a fault reads that much around the page. It belongs to the disk,
no advice makes it smaller without turning it off, and systems differ (Linux's own default is 128
KiB, virtual machines have up to 8 MiB). Root and Linux.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from benchmarks.proof.groups import RefusedError

DEVICES = Path("/sys/dev/block")
"""Disks and their partitions, by number; of a partition the disk is the folder above."""


class Readahead(Struct, frozen=True, kw_only=True):
    """Where it is set for a disk, and the KiB that were found there; 0 where it is not told."""

    path: Path
    found_kb: int

    @contextlib.contextmanager
    def at(self, wanted_kb: int) -> Iterator[None]:
        """So much inside of `with`, as it was for 0. Raises `RefusedError`."""
        if not wanted_kb:
            yield
            return
        if not self.found_kb:
            raise RefusedError(f"{self.path} does not tell what is read ahead")
        try:
            self.path.write_text(str(wanted_kb))
        except OSError as error:
            raise RefusedError(f"{self.path} cannot be set: {error.strerror}") from error
        try:
            yield
        finally:
            self.put_back()

    def put_back(self) -> None:
        """As it was found. Raises OSError."""
        if self.found_kb and _read(self.path) != self.found_kb:
            self.path.write_text(str(self.found_kb))


def readahead_of(place: Path, devices: Path = DEVICES) -> Readahead:
    """Of the disk that a folder is on."""
    number = place.stat().st_dev
    device = (devices / f"{os.major(number)}:{os.minor(number)}").resolve()
    disk = device.parent if (device / "partition").exists() else device
    path = disk / "queue" / "read_ahead_kb"
    return Readahead(path=path, found_kb=_read(path))


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except OSError:
        return 0
