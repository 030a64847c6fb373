"""The writer thread: order, barriers, each block once, bounded backlog."""

import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.support.engine.kv_payloads import TAG, make_chain, make_payload

from hotseat.protocol.ids import BlockId, Epoch, Tag
from hotseat.protocol.link_reports import (
    BlockWritten,
    Checkpointed,
    FromWorker,
    TailWritten,
    WriteFailed,
)
from hotseat.worker.store import writer as writer_module
from hotseat.worker.store.kv_file import KvWritten, read_kv
from hotseat.worker.store.kv_format import KvPayload
from hotseat.worker.store.writer import Failures, WriterThread

DONE = Checkpointed(swap=1, sessions=0, bytes_written=0)


class Gate:
    """A `send` that can hold the writer thread in front of a message."""

    def __init__(self) -> None:
        self.messages: list[FromWorker] = []
        self._open = threading.Event()
        self._open.set()
        self.reached = threading.Event()

    def __call__(self, message: FromWorker) -> None:
        self.reached.set()
        assert self._open.wait(10)
        self.messages.append(message)

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def make_writer(tmp_path: Path, gate: Gate) -> Iterator[Callable[..., WriterThread]]:
    made: list[WriterThread] = []

    def make(**limits: int) -> WriterThread:
        writer = WriterThread(tmp_path / "kv", TAG, Epoch(3), gate, **limits)
        made.append(writer)
        return writer

    yield make
    gate.open()
    for writer in made:
        writer.stop()


def test_files_are_written_and_reported_in_order(
    tmp_path: Path, gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    writer = make_writer()
    chain = make_chain(3)
    for index, (block, payload) in enumerate(chain):
        writer.put_block(payload, block, index)
    tail = make_payload([1, 2], parent=chain[-1][0], hint=b"h")
    writer.put_tail("s", tail)
    writer.after_written(lambda _failures: gate(DONE))
    assert writer.drain(10)
    *blocks, tail_written, done = gate.messages
    assert [(m.block, m.parent, m.index) for m in blocks] == [
        (block, payload.parent, index) for index, (block, payload) in enumerate(chain)
    ]
    assert isinstance(tail_written, TailWritten) and tail_written.hint == b"h"
    assert done is DONE
    for message, payload in zip(
        [*blocks, tail_written], [p for _, p in chain] + [tail], strict=True
    ):
        path = tmp_path / "kv" / message.file
        assert path.stat().st_size == message.size_bytes
        read_kv(
            tmp_path / "kv", message.file, tag=TAG, parent=payload.parent, tokens=payload.tokens
        )


@pytest.fixture
def side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as large."""
    monkeypatch.setattr(writer_module, "LARGE_BYTES", 1)


@pytest.mark.usefixtures("side_by_side")
def test_files_written_side_by_side_are_reported_in_order(
    gate: Gate, make_writer: Callable[..., WriterThread], monkeypatch: pytest.MonkeyPatch
) -> None:
    second_began = threading.Event()
    real = writer_module.write_block
    chain = make_chain(3)

    def write(kv_dir: Path, block: BlockId, payload: KvPayload, **options: int) -> KvWritten:
        if block == chain[0][0]:
            assert second_began.wait(10), "the second file waits for the first"
        else:
            second_began.set()
        return real(kv_dir, block, payload, **options)

    monkeypatch.setattr(writer_module, "write_block", write)
    writer = make_writer()
    for index, (block, payload) in enumerate(chain):
        writer.put_block(payload, block, index)
    writer.after_written(lambda _failures: gate(DONE))
    assert writer.drain(10)
    *blocks, done = gate.messages
    assert [message.block for message in blocks] == [block for block, _ in chain]
    assert done is DONE and writer.backlog_bytes == 0


@pytest.mark.usefixtures("side_by_side")
def test_equal_blocks_are_never_written_side_by_side(
    gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    writer = make_writer()
    ((block, payload),) = make_chain(1)
    for _ in range(4):
        writer.put_block(payload, block, 0)
    assert writer.drain(10)
    assert [message.is_new for message in gate.messages] == [True, False, False, False]


def test_counters_tell_what_reached_the_disk(
    tmp_path: Path, gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    writer = make_writer()
    for index, (block, payload) in enumerate(make_chain(2)):
        writer.put_block(payload, block, index)
    writer.drain(10)
    files = list((tmp_path / "kv").rglob("*.kv"))
    assert writer.files_written == len(files) == 2
    assert writer.bytes_written == sum(path.stat().st_size for path in files)


def test_block_put_twice_is_written_once_and_reported_twice(
    gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    writer = make_writer()
    block, payload = make_chain(1)[0]
    writer.put_block(payload, block, 0)
    writer.put_block(payload, block, 0)
    writer.drain(10)
    first, second = gate.messages
    assert second == msgspec.structs.replace(first, is_new=False)
    assert writer.files_written == 1


def test_block_damaged_since_is_written_under_another_name(
    tmp_path: Path, gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    writer = make_writer()
    block, payload = make_chain(1)[0]
    writer.put_block(payload, block, 0)
    writer.drain(10)
    path = tmp_path / "kv" / gate.messages[0].file
    path.write_bytes(path.read_bytes()[:-1])
    writer.put_block(payload, block, 0)
    writer.drain(10)
    assert gate.messages[1].file != gate.messages[0].file
    assert writer.files_written == 2


def test_block_evicted_since_is_written_again(
    tmp_path: Path, gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    writer = make_writer()
    block, payload = make_chain(1)[0]
    writer.put_block(payload, block, 0)
    writer.drain(10)
    (tmp_path / "kv" / gate.messages[0].file).unlink()
    writer.put_block(payload, block, 0)
    writer.drain(10)
    assert len(gate.messages) == writer.files_written == 2
    assert (tmp_path / "kv" / gate.messages[1].file).exists()


def test_block_of_an_earlier_epoch_is_reported_without_writing(
    tmp_path: Path, gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    block, payload = make_chain(1)[0]
    first = make_writer()
    first.put_block(payload, block, 0)
    first.drain(10)
    second = make_writer()
    second.put_block(payload, block, 0)
    second.drain(10)
    assert gate.messages[1] == msgspec.structs.replace(gate.messages[0], is_new=False)
    assert (second.files_written, second.bytes_written) == (0, 0)


def test_barrier_waits_for_what_was_put_before_it(
    gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    writer = make_writer()
    block, payload = make_chain(1)[0]
    called = threading.Event()
    gate.shut()
    writer.put_block(payload, block, 0)
    writer.after_written(lambda _failures: called.set())
    assert gate.reached.wait(10)
    assert not called.is_set()
    gate.open()
    assert called.wait(10)


def test_barrier_gets_the_failures_since_the_one_before(
    gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    writer = make_writer(floor_bytes=2**62)
    seen: list[Failures] = []
    writer.put_tail("s", make_payload([1]))
    writer.after_written(seen.append)
    writer.after_written(seen.append)
    assert writer.drain(10)
    (failure,), empty = seen
    assert isinstance(failure, WriteFailed)
    assert (failure.code, failure.session) == ("disk_full", "s")
    assert empty == ()
    assert gate.messages == [failure]


def test_failed_write_leaves_the_next_one_alone(
    gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    writer = make_writer()
    block, payload = make_chain(1)[0]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        writer.put_block(payload, block, 0)
        writer.drain(10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.put_block(payload, block, 0)
    writer.drain(10)
    failed, written = gate.messages
    assert isinstance(failed, WriteFailed) and failed.code == "disk_full"
    assert isinstance(written, BlockWritten) and written.block == block


def test_payload_of_a_foreign_tag_is_never_written(
    tmp_path: Path, gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    writer = make_writer()
    payload = msgspec.structs.replace(make_payload([1]), tag=Tag("00" * 16))
    writer.put_tail("s", payload)
    writer.drain(10)
    assert isinstance(gate.messages[0], WriteFailed)
    assert not list((tmp_path / "kv").rglob("*.kv"))


def test_full_backlog_makes_the_caller_wait(
    gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    chain = make_chain(3)
    size = chain[0][1].size_bytes
    writer = make_writer(backlog_limit_bytes=2 * size)
    gate.shut()
    for index, (block, payload) in enumerate(chain[:2]):
        writer.put_block(payload, block, index)
    assert writer.backlog_bytes == 2 * size
    returned = threading.Event()

    def put_third() -> None:
        writer.put_block(chain[2][1], chain[2][0], 2)
        returned.set()

    caller = threading.Thread(target=put_third)
    caller.start()
    assert not returned.wait(0.1)
    gate.open()
    assert returned.wait(10)
    caller.join()
    assert writer.drain(10)
    assert writer.backlog_bytes == 0 and len(gate.messages) == 3


def test_payload_above_the_backlog_limit_is_written_all_the_same(
    gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    writer = make_writer(backlog_limit_bytes=1)
    block, payload = make_chain(1)[0]
    writer.put_block(payload, block, 0)
    assert writer.drain(10)
    assert len(gate.messages) == 1


def test_stop_writes_what_is_queued_and_refuses_more(
    gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    writer = make_writer()
    chain = make_chain(4)
    for index, (block, payload) in enumerate(chain):
        writer.put_block(payload, block, index)
    writer.stop()
    assert len(gate.messages) == 4
    with pytest.raises(RuntimeError):
        writer.put_tail("s", make_payload([1]))


def test_drain_gives_up_at_its_timeout(
    gate: Gate, make_writer: Callable[..., WriterThread]
) -> None:
    writer = make_writer()
    gate.shut()
    writer.put_tail("s", make_payload([1]))
    began = time.monotonic()
    assert not writer.drain(0.05)
    assert time.monotonic() - began < 5
