"""Sweeping and unlinking KV files."""

import os

import pytest

from hotseat.supervisor.catalogue.rows import KvFile
from hotseat.supervisor.kv.files import kv_sweep, sweep_drafts, unlink_files


def write(path, mtime=100.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345")
    os.utime(path, (mtime, mtime))
    return path


def test_sweep_takes_old_files_that_no_row_names(tmp_path):
    known = write(tmp_path / "tag1" / "blocks" / "ab" / "known.kv")
    same_name_elsewhere = write(tmp_path / "tag2" / "blocks" / "ab" / "known.kv")
    orphan = write(tmp_path / "tag1" / "blocks" / "cd" / "orphan.kv")
    temporary = write(tmp_path / "tag1" / "tails" / ".x.tmp", 300.0)
    young = write(tmp_path / "tag1" / "tails" / "young.kv", 200.0)
    marker = write(tmp_path / "tag1" / "CACHEDIR.TAG")
    top = write(tmp_path / "CACHEDIR.TAG")
    swept = kv_sweep(tmp_path, {"tag1": {"blocks/ab/known.kv"}}, older_than=200.0)
    assert (swept.removed, swept.removed_bytes, swept.kept_young, swept.failed) == (3, 15, 1, 0)
    assert all(path.exists() for path in (known, young, marker, top))
    assert not any(path.exists() for path in (same_name_elsewhere, orphan, temporary))
    assert not (tmp_path / "tag2").exists()


def test_what_a_dead_worker_began_goes_and_what_the_next_one_writes_stays(tmp_path):
    left = write(tmp_path / "tag" / "tails" / ".1-2.kv.ab.tmp", 100.0)
    next_ones = write(tmp_path / "tag" / "blocks" / "ab" / ".x.kv.cd.tmp", 200.0)
    finished = write(tmp_path / "tag" / "tails" / "1-1.kv", 100.0)
    assert sweep_drafts(tmp_path, before=150.0) == 5
    assert not left.exists()
    assert next_ones.exists()
    assert finished.exists()


def test_sweep_does_not_leave_the_kv_folder(tmp_path):
    outside = write(tmp_path / "outside" / "file.kv")
    (tmp_path / "kv" / "tag").mkdir(parents=True)
    (tmp_path / "kv" / "tag" / "link").symlink_to(outside.parent)
    (tmp_path / "kv" / "tag2").symlink_to(outside.parent)
    kv_sweep(tmp_path / "kv", {}, older_than=float("inf"))
    assert outside.exists()


def test_sweep_of_nothing_is_no_error(tmp_path):
    assert kv_sweep(tmp_path / "none", {}, older_than=1.0).removed == 0


def test_unlinking_ignores_what_is_gone(tmp_path):
    write(tmp_path / "tag" / "a.kv")
    files = [KvFile(tag="tag", file=name, size_bytes=5) for name in ("a.kv", "gone.kv", "")]
    assert unlink_files(tmp_path, files) == 5
    assert not (tmp_path / "tag" / "a.kv").exists()


def test_file_that_cannot_be_unlinked_is_told_after_the_others(tmp_path):
    (tmp_path / "tag" / "folder.kv").mkdir(parents=True)
    last = write(tmp_path / "tag" / "b.kv")
    files = [KvFile(tag="tag", file=name, size_bytes=5) for name in ("folder.kv", "b.kv")]
    with pytest.raises(OSError, match=r"folder\.kv"):
        unlink_files(tmp_path, files)
    assert not last.exists()
