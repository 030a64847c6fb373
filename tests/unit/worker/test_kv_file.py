"""KV files: what is written is read back, and nothing else is believed."""

import errno
import os
import resource
import stat
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.support.engine.kv_payloads import (
    FULL,
    TAG,
    WINDOW,
    make_chain,
    make_part,
    make_payload,
    same_payload,
)

from hotseat.protocol.ids import BlockId, Epoch, Tag
from hotseat.protocol.tokens import pack_tokens, root_id
from hotseat.worker.store import kv_file, kv_format
from hotseat.worker.store.folders import CACHE_TAG_FILE, prepare_kv_dir
from hotseat.worker.store.kv_file import (
    KvWriteError,
    block_file,
    block_names,
    read_header,
    read_kv,
    tail_file,
    write_block,
    write_kv,
)
from hotseat.worker.store.kv_format import KvDamagedError, KvPayload, encode_file

NAME = "tails/1-1-aa.kv"
BLOCK = BlockId("cd" * 16)


@pytest.fixture
def kv_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "kv" / "tag"
    prepare_kv_dir(folder)
    return folder


def read_any(kv_dir: Path, name: str = NAME, tag: Tag = TAG) -> KvPayload:
    return read_kv(kv_dir, name, tag=tag, parent=None, tokens=None)


def damage(kv_dir: Path, name: str = NAME) -> None:
    path = kv_dir / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def no_temporary_files(kv_dir: Path) -> bool:
    return not list(kv_dir.rglob("*.tmp")) and not list(kv_dir.rglob(".*"))


def test_payload_of_two_layer_kinds_round_trips(kv_dir: Path) -> None:
    payload = make_payload(list(range(100)), layers=(FULL, WINDOW, FULL), hint=b"shapes")
    written = write_kv(kv_dir, NAME, payload)
    assert same_payload(read_any(kv_dir), payload)
    assert written.size_bytes == written.bytes_written == (kv_dir / NAME).stat().st_size


def test_matrix_views_are_written_without_a_copy_of_their_shape(kv_dir: Path) -> None:
    keys = np.arange(2 * 5 * 4, dtype=np.uint16).reshape(2, 5, 4)
    part = make_part(0, FULL, 5)
    part = msgspec.structs.replace(part, keys=keys.data, k_shape=keys.shape)
    payload = msgspec.structs.replace(make_payload([1, 2, 3, 4, 5]), parts=(part,))
    write_kv(kv_dir, NAME, payload)
    assert bytes(read_any(kv_dir).parts[0].keys) == keys.tobytes()


def test_file_and_folders_are_private(kv_dir: Path) -> None:
    write_kv(kv_dir, NAME, make_payload([1]))
    assert stat.S_IMODE((kv_dir / NAME).stat().st_mode) == 0o600
    for folder in (kv_dir, kv_dir.parent, kv_dir / "tails"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_parts_start_on_64_bytes(kv_dir: Path) -> None:
    payload = make_payload([1, 2, 3], layers=(FULL, FULL))
    write_kv(kv_dir, NAME, payload)
    data = (kv_dir / NAME).read_bytes()
    for part in payload.parts:
        assert data.index(bytes(part.keys)) % 64 == 0
        assert data.index(bytes(part.values)) % 64 == 0


def test_every_flipped_byte_is_refused(kv_dir: Path) -> None:
    write_kv(kv_dir, NAME, make_payload([1, 2, 3], layers=(FULL, WINDOW), hint=b"h"))
    path = kv_dir / NAME
    good = path.read_bytes()
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << (position % 8)
        path.write_bytes(bad)
        with pytest.raises(KvDamagedError):
            read_any(kv_dir)
    path.write_bytes(good)
    read_any(kv_dir)


def test_every_cut_and_every_longer_file_is_refused(kv_dir: Path) -> None:
    write_kv(kv_dir, NAME, make_payload([1, 2, 3], layers=(FULL, WINDOW)))
    path = kv_dir / NAME
    good = path.read_bytes()
    for size in [*range(len(good)), len(good) + 1]:
        path.write_bytes((good + b"\0")[:size])
        with pytest.raises(KvDamagedError):
            read_any(kv_dir)


def test_foreign_tag_is_refused_and_named(kv_dir: Path) -> None:
    write_kv(kv_dir, NAME, make_payload([1]))
    with pytest.raises(KvDamagedError, match="foreign tag"):
        read_any(kv_dir, tag=Tag("00" * 16))


def test_other_parent_is_refused_and_named(kv_dir: Path) -> None:
    write_kv(kv_dir, NAME, make_payload([1]))
    with pytest.raises(KvDamagedError, match="other parent"):
        read_kv(kv_dir, NAME, tag=TAG, parent=BLOCK, tokens=None)


def test_other_tokens_are_refused_and_named(kv_dir: Path) -> None:
    write_kv(kv_dir, NAME, make_payload([1]))
    with pytest.raises(KvDamagedError, match="other tokens"):
        read_kv(kv_dir, NAME, tag=TAG, parent=root_id(TAG), tokens=pack_tokens([2]))


def test_swapped_files_are_refused(kv_dir: Path) -> None:
    (first, one), (second, other) = make_chain(2)
    write_block(kv_dir, first, one)
    write_block(kv_dir, second, other)
    here, there = kv_dir / block_file(first), kv_dir / block_file(second)
    here.rename(kv_dir / "x")
    there.rename(here)
    with pytest.raises(KvDamagedError, match="other parent"):
        read_kv(kv_dir, block_file(first), tag=TAG, parent=one.parent, tokens=one.tokens)


def test_missing_file_is_lasting_damage(kv_dir: Path) -> None:
    with pytest.raises(KvDamagedError, match="missing") as caught:
        read_any(kv_dir)
    assert caught.value.is_lasting


@pytest.mark.parametrize("name", ["../x.kv", "tails/../../x.kv", "/etc/passwd"])
def test_name_outside_the_folder_is_refused(kv_dir: Path, name: str) -> None:
    with pytest.raises(KvDamagedError, match="leaves the KV folder"):
        read_any(kv_dir, name)


def test_symlink_in_place_of_a_file_is_refused(kv_dir: Path, tmp_path: Path) -> None:
    write_kv(kv_dir, NAME, make_payload([1]))
    (kv_dir / NAME).rename(tmp_path / "elsewhere")
    (kv_dir / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KvDamagedError, match="ELOOP"):
        read_any(kv_dir)


def test_running_out_of_descriptors_does_not_condemn_the_file(kv_dir: Path) -> None:
    write_kv(kv_dir, NAME, make_payload([1]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(KvDamagedError, match="EMFILE") as caught:
            read_any(kv_dir)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not caught.value.is_lasting


def test_skipped_entries_are_not_verified_and_missing(kv_dir: Path) -> None:
    payload = make_payload(list(range(80)), layers=(FULL, WINDOW))
    write_kv(kv_dir, NAME, payload)
    damage(kv_dir)  # the last byte belongs to the window part
    found = read_kv(kv_dir, NAME, tag=TAG, parent=None, tokens=None, skip_entries=(1,))
    assert [part.entry for part in found.parts] == [0]
    assert bytes(found.parts[0].keys) == payload.parts[0].keys


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"k_shape": (2**20, 3, 2**20)}, "do not add up"),
        ({"tokens": 4}, "contradict the number of tokens"),
        ({"entry": 1}, "occurs twice"),
        ({"dtype": "float64"}, "does not decode"),
        ({"k_shape": (-1, 3, 4)}, "does not decode"),
    ],
)
def test_well_signed_header_that_makes_no_sense_is_refused(
    kv_dir: Path, changes: dict[str, object], reason: str
) -> None:
    payload = make_payload([1, 2, 3], layers=(FULL, FULL))
    pieces = encode_file(payload)
    header = read_header_of(pieces)
    first = msgspec.structs.replace(header.parts[0], **changes)
    bad = msgspec.structs.replace(header, parts=(first, *header.parts[1:]))
    (kv_dir / "tails").mkdir(mode=0o700)
    (kv_dir / NAME).write_bytes(signed(bad, b"".join(bytes(piece) for piece in pieces[1:])))
    with pytest.raises(KvDamagedError, match=reason):
        read_any(kv_dir)


def read_header_of(pieces: list[kv_format.Buffer]) -> kv_format.KvHeader:
    front = bytes(pieces[0])
    total = sum(len(piece) for piece in pieces)
    return kv_format.parse_header(kv_format.parse_prefix(front, total), front[64:])


def signed(header: kv_format.KvHeader, parts: bytes) -> bytes:
    """A file with right digests over a header of our choice."""
    body = msgspec.msgpack.encode(header)
    padded = body + bytes(-len(body) % 64)
    size = 64 + len(padded) + len(parts)
    bare = struct.pack("<8sIIQ16s8x", b"HOTSEAT\n", 1, len(body), size, kv_format.digest(padded))
    return bare + kv_format.digest(bare) + padded + parts


def test_header_alone_says_what_a_file_is(kv_dir: Path) -> None:
    payload = make_payload([5, 6], hint=b"h")
    write_kv(kv_dir, NAME, payload)
    header = read_header(kv_dir, NAME)
    assert (header.tag, header.parent, header.tokens, header.hint) == (
        TAG,
        payload.parent,
        payload.tokens,
        b"h",
    )


def test_existing_name_is_never_replaced(kv_dir: Path) -> None:
    write_kv(kv_dir, NAME, make_payload([1]))
    before = (kv_dir / NAME).read_bytes()
    with pytest.raises(KvWriteError):
        write_kv(kv_dir, NAME, make_payload([2]))
    assert (kv_dir / NAME).read_bytes() == before
    assert no_temporary_files(kv_dir)


def test_block_that_exists_and_verifies_is_not_written_again(kv_dir: Path) -> None:
    block, payload = make_chain(1)[0]
    first = write_block(kv_dir, block, payload)
    inode = (kv_dir / first.name).stat().st_ino
    again = write_block(kv_dir, block, payload)
    assert (again.name, again.size_bytes) == (first.name, first.size_bytes)
    assert again.bytes_written == 0
    assert (kv_dir / first.name).stat().st_ino == inode


def test_block_that_exists_damaged_gets_a_new_name(kv_dir: Path) -> None:
    block, payload = make_chain(1)[0]
    first = write_block(kv_dir, block, payload)
    damage(kv_dir, first.name)
    bad = (kv_dir / first.name).read_bytes()
    second = write_block(kv_dir, block, payload)
    assert second.name != first.name and second.name in block_names(block)
    assert (kv_dir / first.name).read_bytes() == bad
    assert same_payload(read_any(kv_dir, second.name), payload)


def test_block_whose_every_name_is_damaged_is_an_error(kv_dir: Path) -> None:
    block, payload = make_chain(1)[0]
    for _ in block_names(block):
        damage(kv_dir, write_block(kv_dir, block, payload).name)
    with pytest.raises(KvWriteError, match="damaged files"):
        write_block(kv_dir, block, payload)


def test_tail_names_never_repeat() -> None:
    assert tail_file("tail", Epoch(1), 1) != tail_file("tail", Epoch(1), 1)


def test_shapes_that_contradict_the_bytes_are_not_written(kv_dir: Path) -> None:
    part = msgspec.structs.replace(make_part(0, FULL, 4), k_shape=(2, 5, 4))
    payload = msgspec.structs.replace(make_payload([1, 2, 3, 4]), parts=(part,))
    with pytest.raises(KvWriteError) as caught:
        write_kv(kv_dir, NAME, payload)
    assert caught.value.code == "internal"
    assert not (kv_dir / NAME).exists()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_write_cut_short_by_the_system_is_disk_full_and_leaves_nothing(kv_dir: Path) -> None:
    payload = make_payload(list(range(256)))
    with largest_file(1000), pytest.raises(KvWriteError) as caught:
        write_kv(kv_dir, NAME, payload)
    assert caught.value.code == "disk_full"
    assert not (kv_dir / NAME).exists() and no_temporary_files(kv_dir)


def test_full_volume_is_disk_full_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        # The promise does not hang on it: row 17 has every call fail with ENOSPC, and the test
        # above has the system cut a real write short.
        pytest.skip("cannot mount a small tmpfs")
    try:
        kept = make_payload([1])
        write_kv(folder, NAME, kept)
        # Filled behind the space check's back, so that the write itself fails.
        (folder / "filler").write_bytes(bytes(os.statvfs(folder).f_bavail * 4096 - 8192))
        with pytest.raises(KvWriteError) as caught:
            write_kv(folder, "tails/2.kv", make_payload(list(range(1000))))
        assert caught.value.code == "disk_full"
        assert not (folder / "tails/2.kv").exists() and no_temporary_files(folder)
        assert same_payload(read_any(folder), kept)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_free_space_floor_refuses_before_writing(kv_dir: Path) -> None:
    volume = os.statvfs(kv_dir)
    with pytest.raises(KvWriteError, match="must stay free") as caught:
        write_kv(kv_dir, NAME, make_payload([1]), floor_bytes=volume.f_blocks * volume.f_frsize)
    assert caught.value.code == "disk_full"


def test_failed_sync_fails_the_write_and_is_not_repeated(
    kv_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail(fd: int) -> None:
        calls.append(fd)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(kv_file, "sync_file", fail)
    with pytest.raises(KvWriteError, match="Input/output error") as caught:
        write_kv(kv_dir, NAME, make_payload([1]))
    assert caught.value.code == "internal" and len(calls) == 1
    assert not (kv_dir / NAME).exists() and no_temporary_files(kv_dir)


def test_root_is_marked_as_a_cache(kv_dir: Path) -> None:
    mark = (kv_dir.parent / CACHE_TAG_FILE).read_bytes()
    assert mark.startswith(b"Signature: 8a477f597d28d172789f06886806bc55")
    prepare_kv_dir(kv_dir)
    assert (kv_dir.parent / CACHE_TAG_FILE).read_bytes() == mark
