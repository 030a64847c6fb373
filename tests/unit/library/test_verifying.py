"""Verifying reads every byte: what the registry cannot see from size and time is found."""

import hashlib

import msgspec
import pytest
from tests.support.models.records import model_record

from hotseat.library.verifying import verify_files
from hotseat.protocol.errors import HotseatError
from hotseat.protocol.model import FileDigest


def quiet(_phase, _percent):
    """Progress that nobody watches."""


def describe(folder, file, data=b"weights"):
    digest = FileDigest(
        name=file.name,
        size_bytes=len(data),
        mtime_ns=file.stat().st_mtime_ns,
        blake2b=hashlib.blake2b(data, digest_size=16).hexdigest(),
    )
    record = folder / "model.json"
    record.write_bytes(msgspec.json.encode(model_record(path=str(file.parent), files=(digest,))))
    return record


@pytest.mark.parametrize(
    ("harm", "state", "words"),
    [
        (lambda file: file.exists(), "sound", ""),
        (lambda file: file.unlink(), "missing", "no such file"),
        (lambda file: file.write_bytes(b"w"), "damaged", "1 bytes, 7 when registered"),
        (lambda file: file.write_bytes(b"WEIGHTS"), "damaged", "than registered"),
        (lambda file: (file.unlink(), file.write_bytes(b"weights")), "touched", "same bytes"),
        (lambda file: (file.unlink(), file.mkdir()), "damaged", ""),
    ],
)
def test_each_file_is_told_apart(tmp_path, harm, state, words):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    record = describe(tmp_path, file)
    harm(file)
    (checked,) = verify_files(record, quiet)
    assert checked.state == state
    assert words in checked.reason


@pytest.mark.parametrize("published", [b"weights", b"others!"])
def test_blob_of_the_hub_is_compared_with_its_name(tmp_path, published):
    blob = tmp_path / hashlib.sha256(published).hexdigest()
    blob.write_bytes(b"weights")
    file = tmp_path / "model.safetensors"
    file.symlink_to(blob)
    (checked,) = verify_files(describe(tmp_path, file), quiet)
    assert checked.state == ("sound" if published == b"weights" else "damaged")


def test_record_that_is_gone_is_a_typed_error(tmp_path):
    with pytest.raises(HotseatError, match="record is not readable"):
        verify_files(tmp_path / "model.json", quiet)
