"""Restores: the longest verified prefix, with the window parts a boundary needs."""

import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.support.engine.kv_payloads import (
    FULL,
    TAG,
    WINDOW,
    make_chain,
    make_payload,
    make_record,
    same_payload,
)

from hotseat.protocol.ids import BlockId, RequestKey
from hotseat.protocol.link_orders import TailRef
from hotseat.protocol.model import LayerSpec, ModelRecord
from hotseat.worker.store.kv_file import block_file, write_block, write_kv
from hotseat.worker.store.kv_format import KvPayload
from hotseat.worker.store.reader import BlockToRead, Restorer, RestoreResult

KEY = RequestKey("t:r")
LAYERS = (FULL, WINDOW)
WIDE = LayerSpec(kind="window", kv_heads=1, k_dim=4, v_dim=4, window=512)
Chain = list[tuple[BlockId, KvPayload]]


class Reader:
    """A restorer that is waited for."""

    def __init__(self, kv_dir: Path, record: ModelRecord, **limits: int) -> None:
        self._found = threading.Semaphore(0)
        self.restorer = Restorer(self._found.release, **limits)
        self.restorer.bind(kv_dir, record)

    def next_results(self) -> list[RestoreResult]:
        assert self._found.acquire(timeout=10)
        return self.restorer.poll()

    def restore(self, blocks: list[BlockToRead], tail: TailRef | None = None) -> RestoreResult:
        self.restorer.begin(KEY, blocks, tail)
        (result,) = self.next_results()
        return result


@pytest.fixture
def make_reader(tmp_path: Path) -> Iterator[Callable[..., Reader]]:
    made: list[Reader] = []

    def make(layers: tuple[LayerSpec, ...] = LAYERS, **limits: int) -> Reader:
        made.append(Reader(tmp_path, make_record(layers), **limits))
        return made[-1]

    yield make
    for reader in made:
        reader.restorer.close()


def store(kv_dir: Path, count: int, layers: tuple[LayerSpec, ...] = LAYERS) -> Chain:
    chain = make_chain(count, layers=layers)
    for block, payload in chain:
        write_block(kv_dir, block, payload)
    return chain


def store_tail(kv_dir: Path, chain: Chain, layers: tuple[LayerSpec, ...] = LAYERS) -> TailRef:
    parent = chain[-1][0]
    payload = make_payload([7, 8, 9], parent=parent, layers=layers)
    write_kv(kv_dir, "tails/t.kv", payload)
    return TailRef(file="tails/t.kv", parent=parent, tokens=payload.tokens)


def asked(chain: Chain) -> list[BlockToRead]:
    return [(block, payload.parent, payload.tokens) for block, payload in chain]


def damage(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def entries(payload: KvPayload) -> list[int]:
    return [part.entry for part in payload.parts]


def test_whole_chain_and_tail_are_restored(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    chain = store(tmp_path, 3)
    result = make_reader().restore(asked(chain), store_tail(tmp_path, chain))
    assert (result.request, result.miss, result.bad_files) == (KEY, "", ())
    assert len(result.payloads) == 3
    assert same_payload(result.payloads[-1], chain[-1][1])
    assert result.tail is not None and result.tail.parent == chain[-1][0]


def test_nothing_asked_for_is_an_empty_result(make_reader: Callable[..., Reader]) -> None:
    result = make_reader().restore([])
    assert (result.payloads, result.tail, result.miss) == ([], None, "")


def test_tail_on_the_root_is_restored(tmp_path: Path, make_reader: Callable[..., Reader]) -> None:
    payload = make_payload([1, 2], layers=LAYERS)
    write_kv(tmp_path, "tails/t.kv", payload)
    ref = TailRef(file="tails/t.kv", parent=payload.parent, tokens=payload.tokens)
    result = make_reader().restore([], ref)
    assert result.tail is not None and same_payload(result.tail, payload)


def test_damaged_block_cuts_the_chain_there(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    chain = store(tmp_path, 4)
    tail = store_tail(tmp_path, chain)
    damage(tmp_path / block_file(chain[2][0]), position=0)
    result = make_reader().restore(asked(chain), tail)
    assert len(result.payloads) == 2 and result.tail is None
    assert result.miss.startswith("block 2 of 4")
    (bad,) = result.bad_files
    assert (bad.file, bad.block) == (block_file(chain[2][0]), chain[2][0])


def test_missing_block_cuts_the_chain_and_is_named(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    chain = store(tmp_path, 3)
    (tmp_path / block_file(chain[0][0])).unlink()
    result = make_reader().restore(asked(chain))
    assert result.payloads == []
    assert [(bad.reason, bad.block) for bad in result.bad_files] == [("missing", chain[0][0])]


def test_damaged_tail_leaves_the_blocks(tmp_path: Path, make_reader: Callable[..., Reader]) -> None:
    chain = store(tmp_path, 2)
    tail = store_tail(tmp_path, chain)
    damage(tmp_path / tail.file)
    result = make_reader().restore(asked(chain), tail)
    assert len(result.payloads) == 2 and result.tail is None
    assert result.miss.startswith("tail: ")
    assert [(bad.file, bad.block) for bad in result.bad_files] == [(tail.file, None)]


def test_tail_with_other_tokens_is_a_miss(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    chain = store(tmp_path, 1)
    tail = msgspec.structs.replace(store_tail(tmp_path, chain), tokens=b"\1\0\0\0")
    result = make_reader().restore(asked(chain), tail)
    assert result.tail is None and result.miss == "tail: other tokens"


def test_block_of_another_layout_is_a_miss(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    chain = store(tmp_path, 1, layers=(FULL, FULL))
    result = make_reader().restore(asked(chain))
    assert result.payloads == [] and "layout differs" in result.miss


def test_block_without_a_full_layer_is_a_miss(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    chain = store(tmp_path, 1, layers=(FULL,))
    result = make_reader((FULL, FULL)).restore(asked(chain))
    assert result.payloads == [] and "no part for cache entry 1" in result.miss


def test_block_without_window_parts_is_accepted(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    chain = store(tmp_path, 2, layers=(FULL,))
    result = make_reader().restore(asked(chain))
    assert [entries(payload) for payload in result.payloads] == [[0], [0]]
    assert result.miss == ""


def test_window_parts_are_read_for_the_last_blocks_only(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    layers = (FULL, WIDE)
    chain = store(tmp_path, 6, layers)
    result = make_reader(layers).restore(asked(chain))
    assert [entries(payload) for payload in result.payloads] == [[0]] * 3 + [[0, 1]] * 3


def test_cut_moves_the_windows_with_the_boundary(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    layers = (FULL, WIDE)
    chain = store(tmp_path, 8, layers)
    damage(tmp_path / block_file(chain[4][0]), position=0)
    result = make_reader(layers).restore(asked(chain))
    assert [entries(payload) for payload in result.payloads] == [[0]] + [[0, 1]] * 3


def test_window_found_damaged_after_a_cut_moves_the_boundary_again(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    layers = (FULL, WIDE)
    chain = store(tmp_path, 8, layers)
    damage(tmp_path / block_file(chain[4][0]), position=0)
    damage(tmp_path / block_file(chain[3][0]))  # its window part, not read at first
    result = make_reader(layers).restore(asked(chain))
    assert [entries(payload) for payload in result.payloads] == [[0, 1]] * 3
    assert {bad.block for bad in result.bad_files} == {chain[3][0], chain[4][0]}


def test_good_variant_serves_when_the_first_file_is_damaged(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    chain = store(tmp_path, 2)
    block, payload = chain[0]
    damage(tmp_path / block_file(block))
    write_block(tmp_path, block, payload)
    result = make_reader().restore(asked(chain))
    assert len(result.payloads) == 2 and result.miss == ""
    assert [bad.file for bad in result.bad_files] == [block_file(block)]


def test_variant_serves_silently_when_the_first_file_is_gone(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    chain = store(tmp_path, 1)
    block, payload = chain[0]
    damage(tmp_path / block_file(block))
    write_block(tmp_path, block, payload)
    (tmp_path / block_file(block)).unlink()
    result = make_reader().restore(asked(chain))
    assert len(result.payloads) == 1 and result.bad_files == ()


def test_file_that_cannot_be_opened_now_is_a_miss_but_not_condemned(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    chain = store(tmp_path, 1)
    reader = make_reader()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        result = reader.restore(asked(chain))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert result.miss and result.bad_files == ()


def test_results_come_in_the_order_of_begin(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    chain = store(tmp_path, 3)
    reader = make_reader()
    for number in range(5):
        reader.restorer.begin(RequestKey(f"r{number}"), asked(chain[: number % 3 + 1]))
    results: list[RestoreResult] = []
    while len(results) < 5:
        results += reader.next_results()
    assert [result.request for result in results] == [f"r{number}" for number in range(5)]


def test_next_restore_waits_until_a_large_result_was_taken(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    chain = store(tmp_path, 1)
    reader = make_reader(results_limit_bytes=1)
    for number in range(2):
        reader.restorer.begin(RequestKey(f"r{number}"), asked(chain))
    (first,) = reader.next_results()
    (second,) = reader.next_results()
    assert (first.request, second.request) == ("r0", "r1")


def test_cancelled_restore_gives_no_result(
    tmp_path: Path, make_reader: Callable[..., Reader]
) -> None:
    chain = store(tmp_path, 2)
    reader = make_reader()
    reader.restorer.begin(RequestKey("gone"), asked(chain))
    reader.restorer.cancel(RequestKey("gone"))
    reader.restorer.begin(KEY, asked(chain))
    results = reader.next_results()
    while not results:
        results = reader.next_results()
    assert [result.request for result in results] == [KEY]


def test_begin_before_bind_is_a_defect() -> None:
    restorer = Restorer(lambda: None)
    try:
        with pytest.raises(RuntimeError):
            restorer.begin(KEY, [])
    finally:
        restorer.close()


def test_restored_bytes_are_counted(tmp_path: Path, make_reader: Callable[..., Reader]) -> None:
    chain = store(tmp_path, 2, layers=(FULL,))
    result = make_reader((FULL,)).restore(asked(chain))
    assert result.bytes_read == sum(payload.size_bytes for _, payload in chain)
    assert result.payloads[0].tag == TAG
