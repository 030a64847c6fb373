"""Weights as pages of their files: the same values, and which bytes of memory are the file's."""

import os
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import pytest
from benchmarks.proof import keeper
from benchmarks.proof.groups import RefusedError
from benchmarks.proof.mapped_weights import LEAST_BYTES, MappedWeights, place_of, span_of
from benchmarks.proof.readahead import Readahead, readahead_of
from mlx import nn
from safetensors.mlx import save_file

from hotseat.worker.streaming.places import Place, find_places

WIDE, SMALL = (256, 300), (LEAST_BYTES // 4 - 1,)
linux = pytest.mark.needs_linux("pages of files are laid over buffers")


class Model(nn.Module):
    """Two weights, one of them too small to be mapped."""

    def __init__(self):
        super().__init__()
        self.wide, self.small = mx.zeros(WIDE), mx.zeros(SMALL)


def written(folder):
    """A file of both, whose arrays begin where no page does, and the model read lazily from it."""
    path = folder / "model.safetensors"
    weights = {"wide": mx.random.normal(WIDE), "small": mx.random.normal(SMALL)}
    save_file(weights, path, {"format": "mlx"})
    model = Model()
    model.update(mx.load(str(path)))
    return path, weights, model


def mapped_bytes(path):
    """Of this process's address space that are pages of the file."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    spans = [line[0].split("-") for line in lines if line[-1] == str(path)]
    return sum(int(end, 16) - int(start, 16) for start, end in spans)


@linux
def test_mapped_weights_have_the_files_values_and_its_pages(tmp_path):
    path, weights, model = written(tmp_path)
    with MappedWeights(model, [path]) as mapped:
        mx.eval(model.parameters())
        assert mx.array_equal(model.wide, weights["wide"])
        assert mx.array_equal(model.small, weights["small"])
        x = mx.random.normal((2, WIDE[1]))
        assert mx.array_equal(x @ model.wide.T, x @ weights["wide"].T)
        assert mapped_bytes(path) == mapped.size_bytes >= model.wide.nbytes


@linux
def test_small_weights_stay_in_memory(tmp_path):
    path, weights, model = written(tmp_path)
    with MappedWeights(model, [path]) as mapped:
        assert mapped.size_bytes == span_of(find_places([path])["wide"])[1]
        assert mx.array_equal(model.small, weights["small"])


@linux
def test_buffers_are_memory_again_once_closed(tmp_path):
    path, _, model = written(tmp_path)
    mapped = MappedWeights(model, [path])
    mapped.close()
    assert mapped_bytes(path) == mapped.size_bytes == 0
    assert not mx.any(model.wide)


@linux
def test_weights_that_the_file_has_otherwise_are_an_error(tmp_path):
    path, _, model = written(tmp_path)
    model.wide = model.wide.T
    with pytest.raises(ValueError, match=r"no file has wide as \(300, 256\)"):
        MappedWeights(model, [path])


def test_weights_at_odd_offsets_are_an_error():
    place = Place(Path("model"), 4097, 16, (4,), mx.float32)
    with pytest.raises(ValueError, match="w begins at byte 4097 of model, which is no multiple"):
        place_of("w", mx.zeros(4), {"w": place})


@pytest.mark.parametrize(
    ("offset", "size", "within", "pages"),
    [(0, 4096, 0, 1), (4095, 2, 4095, 2), (8192, 4097, 0, 2), (5000, 100, 904, 1)],
)
def test_span_is_of_all_pages_that_hold_a_byte(monkeypatch, offset, size, within, pages):
    monkeypatch.setattr("mmap.PAGESIZE", 4096)
    place = Place(Path("model"), offset, size, (size,), mx.uint8)
    assert span_of(place) == (within, pages * 4096)


def test_readahead_is_as_it_was_found_whatever_happens(tmp_path):
    path = tmp_path / "read_ahead_kb"
    path.write_text("8192\n")
    readahead = Readahead(path=path, found_kb=8192)
    seen = []

    def fail():
        seen.append(path.read_text())
        raise EOFError

    with pytest.raises(EOFError), readahead.at(512):
        fail()
    assert (seen, path.read_text()) == (["512"], "8192")


def test_readahead_stays_where_none_is_wanted(tmp_path):
    readahead = Readahead(path=tmp_path / "absent", found_kb=0)
    with readahead.at(0):
        pass
    readahead.put_back()
    assert not list(tmp_path.iterdir())


def test_readahead_of_a_disk_that_does_not_tell_is_refused(tmp_path):
    readahead = readahead_of(tmp_path, devices=tmp_path / "devices")
    assert readahead.found_kb == 0
    with pytest.raises(RefusedError, match="does not tell"), readahead.at(128):
        pass


@pytest.mark.parametrize("is_partition", [False, True])
def test_readahead_of_a_partition_is_its_disks(tmp_path, is_partition):
    number = tmp_path.stat().st_dev
    disk = tmp_path / "sda"
    (disk / "queue").mkdir(parents=True)
    (disk / "queue" / "read_ahead_kb").write_text("128\n")
    device = disk / "sda1" if is_partition else disk
    if is_partition:
        device.mkdir()
        (device / "partition").write_text("1\n")
    (tmp_path / f"{os.major(number)}:{os.minor(number)}").symlink_to(device)
    assert readahead_of(tmp_path, devices=tmp_path).found_kb == 128


def test_keeper_puts_the_readahead_back_whatever_cannot_be_undone(tmp_path, monkeypatch):
    def fail():
        raise OSError(16, "busy")

    monkeypatch.setattr(keeper, "Group", lambda *_: SimpleNamespace(remove=fail))
    monkeypatch.setattr(keeper, "swap_off", lambda _: None)
    path, homes = tmp_path / "read_ahead_kb", tmp_path / "homes"
    path.write_text("512")
    homes.mkdir()
    ahead = Readahead(path=path, found_kb=8192)
    assert keeper.undo(None, "name", homes, tmp_path / "swap", ahead) == 1
    assert (path.read_text(), homes.exists()) == ("8192", False)
