"""Folders that need a grant: known by name, tried with a time limit."""

import threading
import time
from pathlib import Path

import pytest

from hotseat.supervisor.machine.folder_access import (
    notices_for,
    probe_folder,
    protected_places,
    protected_root,
)

YOU = Path("/Users/you")


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/Users/you/Documents/models", "/Users/you/Documents"),
        ("/Users/you/Desktop", "/Users/you/Desktop"),
        ("/Users/you/Downloads/a.gguf", "/Users/you/Downloads"),
        ("/Users/you/Library/Mobile Documents/x", "/Users/you/Library/Mobile Documents"),
        ("/Users/you/Library/CloudStorage/Drive/x", "/Users/you/Library/CloudStorage"),
        ("/Volumes/SSD/hotseat", "/Volumes"),
    ],
)
def test_folder_behind_a_grant_is_known(path, root):
    assert protected_root(Path(path), YOU) == Path(root)


@pytest.mark.parametrize("path", ["/Users/you/.hotseat", "/Users/you/DocumentsOld", "/opt/models"])
def test_other_folders_need_none(path):
    assert protected_root(Path(path), YOU) is None


def test_folder_that_does_not_answer_is_given_up_in_time():
    release = threading.Event()
    started = time.monotonic()
    probe = probe_folder(Path("/x"), 0.05, lambda _: release.wait(30))
    release.set()
    assert probe.outcome == "silent" and time.monotonic() - started < 5


def test_refusal_and_absence_are_told_apart(tmp_path):
    def refuse(_):
        raise PermissionError(1, "Operation not permitted")

    assert probe_folder(tmp_path, read=refuse).outcome == "refused"
    assert probe_folder(tmp_path / "none").outcome == "missing"
    assert probe_folder(tmp_path).outcome == "readable"


def test_only_protected_folders_are_touched(tmp_path):
    tried = []

    def probe(path):
        tried.append(path)
        return probe_folder(path)

    documents = tmp_path / "Documents" / "models"
    notices = notices_for([tmp_path / ".hotseat", documents], tmp_path, probe)
    assert tried == [documents] and "missing" in notices[0]


def test_link_into_a_protected_folder_is_found_where_it_leads(tmp_path):
    clone = tmp_path / "Documents" / "clone"
    clone.mkdir(parents=True)
    link = tmp_path / "clone"
    link.symlink_to(clone)
    found = protected_places({"program": link, "home folder": tmp_path / ".hotseat"}, tmp_path)
    assert list(found) == ["program"]
    assert found["program"].path == str(clone.resolve())
    assert found["program"].root == str(tmp_path / "Documents")
