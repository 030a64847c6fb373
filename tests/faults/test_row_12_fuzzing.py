"""Promise: whatever bytes arrive as a frame, or lie in a KV file or in a model's, only typed errors
come out."""

from pathlib import Path

import pytest
from tests.support.engine.kv_payloads import FULL, TAG, WINDOW, make_payload
from tests.support.faults.coverage_fuzz import Fuzzer
from tests.support.models.found_places import gguf_head, write_shard
from tests.support.models.tiny_gguf import write_tiny_gguf

from hotseat.library.discovery.gguf_head import read_head
from hotseat.library.folder import read_tensors
from hotseat.library.gguf.file import open_gguf
from hotseat.protocol.codec import decode_client, decode_daemon, open_envelope
from hotseat.protocol.errors import HotseatError
from hotseat.worker.store.kv_file import KvDamagedError, read_kv
from hotseat.worker.store.kv_format import encode_file

GOLDEN = Path(__file__).parents[1] / "golden"
PARTS = 6
SLICE_S, PUSH_S, RELEASE_S = 0.8, 60.0 / PARTS, 3600.0 / PARTS


def split(data):
    """Bytes as frames: a length, then so many bytes, and again."""
    frames = []
    while data:
        size = int.from_bytes(data[:2], "little")
        frames.append(data[2 : 2 + size])
        data = data[2 + size :]
    return frames


def join(frames):
    return b"".join(len(frame).to_bytes(2, "little") + frame for frame in frames)


def golden(side):
    """Frames of every kind, as they go over the wire."""
    found = []
    for path in sorted(GOLDEN.glob(f"{side}_*.bin")):
        kind = path.stem.removeprefix(f"{side}_")
        found.append(join([b"1", kind.split("_")[0].encode(), b"r1", path.read_bytes()]))
        found.append(path.read_bytes()[:2000])
    assert len(found) > 10
    return found


def fuzz(row, name, target, seeds, modules, expected):
    seconds = row.runs(push=PUSH_S, slice=SLICE_S, release=RELEASE_S)
    fuzzer = Fuzzer(target, seeds, modules, expected)
    before = fuzzer.lines
    runs = fuzzer.run(seconds)
    assert fuzzer.lines >= before > 10, "nothing was covered"
    row.record("none", 0, 0, "escaped", runs=runs, what=f"{name}, {fuzzer.lines} lines,")


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("side", ["client", "daemon"])
def test_frames_of_any_bytes_raise_typed_errors_only(row, side):
    decode = decode_client if side == "client" else decode_daemon
    modules = ("hotseat.protocol.codec", "hotseat.protocol.errors")
    fuzz(
        row,
        f"frames of the {side}",
        lambda data: decode(open_envelope(split(data))),
        golden(side),
        modules,
        HotseatError,
    )


@pytest.mark.timeout(7200)
def test_kv_files_of_any_bytes_raise_typed_errors_only(row, tmp_path):
    payloads = [
        make_payload([7] * 8, layers=(FULL,)),
        make_payload([7] * 8, layers=(FULL, WINDOW), hint=b"x"),
    ]
    (tmp_path / "tails").mkdir()

    def read(data):
        (tmp_path / "tails/x.kv").write_bytes(data)
        read_kv(tmp_path, "tails/x.kv", tag=TAG, parent=None, tokens=None)

    seeds = [b"".join(bytes(piece) for piece in encode_file(payload)) for payload in payloads]
    modules = ("hotseat.worker.store.kv_format", "hotseat.worker.store.kv_file")
    fuzz(row, "KV files", read, seeds, modules, KvDamagedError)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("reader", [read_tensors, read_head, open_gguf])
def test_headers_of_weights_of_any_bytes_raise_typed_errors_only(row, tmp_path, reader):
    file = tmp_path / "weights"

    def read(data):
        file.write_bytes(data)
        reader(file)

    if reader is read_tensors:
        write_shard(file, 4096)
        seeds = [file.read_bytes()]
    else:
        tiny = write_tiny_gguf(tmp_path / "tiny.gguf", "llama").read_bytes()
        seeds = [gguf_head(words=8), gguf_head(words=2000), tiny[:6000]]
    fuzz(row, f"{reader.__name__}", read, seeds, (reader.__module__,), HotseatError)
