"""Sources as people have them: folders of the hub's cache, parts of split files."""

import shutil
from pathlib import Path

import pytest
from tests.support.models import tiny_gguf
from tests.support.models.tiny_models import make_tiny

from hotseat.library.importing import import_model
from hotseat.library.inspecting import inspect_folder
from hotseat.protocol.errors import HotseatError

REPOSITORY = "models--mlx-community--Tiny-3B-4bit"
OLD, NEW = "1" * 40, "2" * 40


def quiet(_phase: str, _percent: float) -> None:
    """Progress that nobody watches."""


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def repository(tmp_path):
    """A cache folder with a snapshot whose files are links to blobs, as the hub lays it out."""
    folder = tmp_path / "hub" / REPOSITORY
    download(folder, OLD)
    return folder


def download(folder: Path, revision: str, *, seed: int = 0) -> Path:
    made = make_tiny(folder.parent / "fresh", "llama", seed=seed)
    snapshot = folder / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir(exist_ok=True)
    for file in made.iterdir():
        blob = folder / "blobs" / f"{revision[0]}-{file.name}"
        file.rename(blob)
        (snapshot / file.name).symlink_to(blob)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(f"{revision}\n")
    shutil.rmtree(made)
    return snapshot


def test_cache_folder_gets_the_name_of_its_repository_and_is_used_from_its_snapshot(
    home, repository
):
    record = import_model(repository, home, None, quiet)
    assert (record.name, record.path) == ("Tiny-3B-4bit", str(repository / "snapshots" / OLD))
    assert record.source.path == str(repository)
    seen = inspect_folder(repository).record
    assert (seen.name, seen.path) == (record.name, record.path)


def test_snapshot_gets_the_name_of_its_repository(home, repository):
    snapshot = repository / "snapshots" / OLD
    record = import_model(snapshot, home, None, quiet)
    assert (record.name, record.path) == ("Tiny-3B-4bit", str(snapshot))
    assert inspect_folder(snapshot).record.name == "Tiny-3B-4bit"


def test_later_download_replaces_the_model_under_its_name(home, repository):
    first = import_model(repository / "snapshots" / OLD, home, None, quiet)
    snapshot = download(repository, NEW, seed=1)
    second = import_model(repository, home, None, quiet)
    assert (second.name, second.path) == (first.name, str(snapshot))
    assert first.tag != second.tag


def test_repository_without_a_main_branch_is_used_by_its_only_snapshot(home, repository):
    shutil.rmtree(repository / "refs")
    assert import_model(repository, home, None, quiet).path.endswith(OLD)


def test_repository_whose_snapshot_is_unclear_is_refused_with_the_choice(home, repository):
    download(repository, NEW)
    (repository / "refs" / "main").write_text("../../..")
    with pytest.raises(HotseatError, match=OLD) as caught:
        import_model(repository, home, None, quiet)
    assert caught.value.facts["snapshots"] == [OLD, NEW]
    assert "give one of the folders" in caught.value.message


def test_repository_without_a_snapshot_is_refused(home, repository):
    shutil.rmtree(repository / "snapshots")
    (repository / "snapshots").mkdir()
    with pytest.raises(HotseatError, match="no snapshot"):
        import_model(repository, home, None, quiet)


def test_folder_outside_a_cache_keeps_its_own_name(home, tmp_path):
    folder = make_tiny(tmp_path / "models--strange", "llama")
    assert import_model(folder, home, None, quiet).name == "models--strange"


def split_model(folder, **options):
    """Files of one model, as `llama-gguf-split` names them."""
    tiny_gguf.write_tiny_gguf(folder / "big-Q4.gguf", "llama", split_max_tensors=12, **options)
    return sorted(folder.glob("big-Q4-*.gguf"))


@pytest.mark.parametrize("named", [0, 1, 2])
def test_split_file_is_one_model_whichever_part_is_named(home, tmp_path, named):
    (tmp_path / "whole").mkdir()
    whole = tiny_gguf.write_tiny_gguf(tmp_path / "whole" / "big-Q4.gguf", "llama")
    parts = split_model(tmp_path)
    assert len(parts) == 3
    record = import_model(parts[named], home, None, quiet)
    assert (record.name, record.source.path) == ("big-Q4", str(parts[0]))
    assert record.tag == import_model(whole, tmp_path / "other", None, quiet).tag


@pytest.mark.parametrize("is_full", [False, True])
def test_split_file_that_lacks_a_part_is_refused_with_its_name(
    home, tmp_path, monkeypatch, is_full
):
    parts = split_model(tmp_path)
    parts[2].unlink()
    if is_full:
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(1, 1, 0))
    phases = []
    with pytest.raises(HotseatError) as caught:
        import_model(parts[0], home, None, lambda phase, _percent: phases.append(phase))
    error = caught.value
    assert error.code == "model_unavailable"
    assert error.facts["parts"] == [part.name for part in parts]
    assert error.facts["missing"] == [parts[2].name]
    assert f"not here: {parts[2].name}" in error.message
    assert phases == []


def test_part_under_another_name_is_refused_with_the_way_out(home, tmp_path):
    lonely = split_model(tmp_path)[0].rename(tmp_path / "model.gguf")
    with pytest.raises(HotseatError, match="under the names they were published with"):
        import_model(lonely, home, None, quiet)


def test_file_that_was_joined_again_is_converted(home, tmp_path):
    source = tiny_gguf.write_tiny_gguf(
        tmp_path / "whole.gguf", "llama", change=lambda writer: writer.add_uint16("split.count", 1)
    )
    assert import_model(source, home, None, quiet).name == "whole"
