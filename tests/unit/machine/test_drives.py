"""A full flush: one for each volume, nothing where a sync is one, and a failure is told."""

import errno
import os

import pytest

from hotseat.supervisor.machine import drives
from hotseat.supervisor.machine.drives import Drives, system_control

F_FULLFSYNC = 51


class Mac:
    """`fcntl` of a Mac; `error` is what a file system that does not know the command says."""

    def __init__(self, error=None):
        self.asked = []
        self.error = error

    def control(self, fd, command):
        assert command == F_FULLFSYNC
        self.asked.append(os.fstat(fd).st_ino)
        if self.error is not None:
            raise OSError(self.error, "no")


def test_folders_of_one_volume_are_flushed_once(tmp_path):
    mac, other = Mac(), tmp_path / "kv"
    other.mkdir()
    Drives(tmp_path, other, tmp_path / "not there", control=mac.control).flush()
    assert mac.asked == [tmp_path.stat().st_ino]


def test_each_volume_is_flushed(tmp_path, monkeypatch):
    mac, other = Mac(), tmp_path / "kv"
    other.mkdir()
    inode, fstat = other.stat().st_ino, os.fstat

    class Elsewhere:
        def __init__(self, found):
            self.st_ino = found.st_ino
            self.st_dev = found.st_dev + (found.st_ino == inode)

    with monkeypatch.context() as patch:
        patch.setattr(drives.os, "fstat", lambda fd: Elsewhere(fstat(fd)))
        Drives(tmp_path, other, control=mac.control).flush()
    assert mac.asked == [tmp_path.stat().st_ino, inode]


def test_file_system_that_knows_no_flush_is_synced(tmp_path, monkeypatch):
    synced, mac = [], Mac(errno.ENOTSUP)
    monkeypatch.setattr(drives.os, "fsync", synced.append)
    Drives(tmp_path, control=mac.control).flush()
    assert len(synced) == 1


def test_drive_that_fails_is_told(tmp_path, monkeypatch):
    def fail(_fd):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(drives.os, "fsync", fail)
    with pytest.raises(OSError, match="input/output"):
        Drives(tmp_path, control=Mac(errno.EIO).control).flush()


@pytest.mark.parametrize(("platform", "flushes"), [("darwin", True), ("linux", False)])
def test_only_macos_needs_a_flush_of_its_own(monkeypatch, platform, flushes):
    monkeypatch.setattr(drives.sys, "platform", platform)
    assert (system_control() is not None) is flushes
