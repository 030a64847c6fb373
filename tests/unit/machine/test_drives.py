"""A full flush: one for each volume, nothing where a sync is one, and a failure is told."""

import errno
import os

import pytest
import structlog

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
    mac, files = Mac(), tmp_path / "kv"
    files.mkdir()
    Drives(tmp_path, files, mac.control).flush(with_files=True)
    assert mac.asked == [tmp_path.stat().st_ino]


@pytest.mark.parametrize("with_files", [True, False])
def test_other_volume_is_flushed_when_files_were_written_there(tmp_path, monkeypatch, with_files):
    mac, files = Mac(), tmp_path / "kv"
    files.mkdir()
    inode, fstat = files.stat().st_ino, os.fstat

    class Elsewhere:
        def __init__(self, found):
            self.st_ino = found.st_ino
            self.st_dev = found.st_dev + (found.st_ino == inode)

    with monkeypatch.context() as patch:
        patch.setattr(drives.os, "fstat", lambda fd: Elsewhere(fstat(fd)))
        Drives(tmp_path, files, mac.control).flush(with_files=with_files)
    assert mac.asked == [tmp_path.stat().st_ino, *([inode] if with_files else [])]


def test_volume_of_files_that_is_away_fails_no_commit(tmp_path):
    mac = Mac()
    with structlog.testing.capture_logs() as said:
        Drives(tmp_path, tmp_path / "away", mac.control).flush(with_files=True)
    assert len(mac.asked) == 1
    assert [entry["event"] for entry in said] == ["kv.flush_failed"]


def test_file_system_that_knows_no_flush_is_synced(tmp_path, monkeypatch):
    synced, mac = [], Mac(errno.ENOTSUP)
    monkeypatch.setattr(drives.os, "fsync", synced.append)
    Drives(tmp_path, control=mac.control).flush(with_files=False)
    assert len(synced) == 1


def test_drive_that_fails_is_told(tmp_path, monkeypatch):
    def fail(_fd):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(drives.os, "fsync", fail)
    with pytest.raises(OSError, match="input/output"):
        Drives(tmp_path, control=Mac(errno.EIO).control).flush(with_files=False)


@pytest.mark.parametrize(("platform", "flushes"), [("darwin", True), ("linux", False)])
def test_only_macos_needs_a_flush_of_its_own(monkeypatch, platform, flushes):
    monkeypatch.setattr(drives.sys, "platform", platform)
    assert (system_control() is not None) is flushes
