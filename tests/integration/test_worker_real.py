"""The real worker process: started, loaded, asked, ended, and continued by the next one."""

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.models.tiny_models import register_tiny
from tests.support.peers.worker_peer import REAL, WorkerPeer, load, start

from hotseat.protocol.link_orders import Checkpoint, Known, Stop, TailRef, Warm
from hotseat.protocol.link_reports import (
    BlockWritten,
    Checkpointed,
    Emitted,
    Finished,
    Loaded,
    Lookup,
    Started,
    Stopped,
    TailWritten,
    Warmed,
    WorkerHello,
)
from hotseat.protocol.model import ModelRecord

TEXT = "the quick brown fox jumps over the lazy dog while seven wizards brew coffee. " * 60
UNFED = 1
"""The last token of a full answer is not in KV yet; the next turn computes it."""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> ModelRecord:
    return register_tiny(tmp_path_factory.mktemp("home"), "tiny", "llama")


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[WorkerPeer]:
    with WorkerPeer(tmp_path, REAL) as started:
        yield started


def seat(peer: WorkerPeer, record: ModelRecord, kv_dir: Path) -> WorkerHello:
    hello = peer.wait_for(WorkerHello, timeout_s=60)
    peer.send(load(record, kv_dir))
    peer.wait_for(Loaded)
    peer.send(Warm())
    peer.wait_for(Warmed)
    return hello


def emitted(peer: WorkerPeer) -> list[int]:
    return [token for m in peer.seen if isinstance(m, Emitted) for token in m.tokens]


def test_next_process_continues_with_the_same_tokens(
    tmp_path: Path, record: ModelRecord, peer: WorkerPeer
) -> None:
    kv_dir = tmp_path / "kv" / record.tag
    hello = seat(peer, record, kv_dir)
    assert hello.token == peer.secret and hello.pid == peer.process.pid
    peer.send(start("r1", TEXT, max_tokens=8))
    lookup = peer.wait_for(Lookup)
    peer.send(Known(request=lookup.request, count=0))
    first = peer.wait_for(Finished)
    blocks = [m for m in peer.seen if isinstance(m, BlockWritten)]
    assert blocks, "the turn was to fill a block"
    peer.send(Checkpoint(swap=1))
    tail = peer.wait_for(TailWritten)
    assert peer.wait_for(Checkpointed).failed == ()
    peer.send(start("r2", " and then", context=first.context, hint=first.hint, max_tokens=8))
    peer.wait_for(Finished)
    expected = emitted(peer)[8:]
    peer.send(Stop())
    peer.wait_for(Stopped)
    assert peer.wait_exit() == 0
    with WorkerPeer(tmp_path, REAL, epoch=2) as second:
        seat(second, record, kv_dir)
        second.send(start("r3", " and then", context=first.context, hint=first.hint, max_tokens=8))
        lookup = second.wait_for(Lookup)
        assert [m.block for m in blocks] == list(lookup.blocks)[: len(blocks)]
        ref = TailRef(file=tail.file, parent=tail.parent, tokens=tail.tokens, hint=tail.hint)
        second.send(Known(request=lookup.request, count=len(blocks), tails=(ref,)))
        begun = second.wait_for(Started)
        second.wait_for(Finished)
        assert begun.miss == ""
        assert begun.restored_tokens == len(first.context) // 4 - UNFED
        assert emitted(second) == expected


def test_sigterm_while_seated_writes_and_exits_zero(
    tmp_path: Path, record: ModelRecord, peer: WorkerPeer
) -> None:
    seat(peer, record, tmp_path / "kv" / record.tag)
    peer.process.send_signal(signal.SIGTERM)
    peer.wait_for(Stopped)
    assert peer.wait_exit() == 0
    assert peer.stderr() == ""


@pytest.mark.needs_linux("pidfd")
def test_supervisor_death_while_decoding_ends_the_worker_in_time(
    tmp_path: Path, record: ModelRecord, peer: WorkerPeer
) -> None:
    seat(peer, record, tmp_path / "kv" / record.tag)
    peer.send(start("r", TEXT))
    lookup = peer.wait_for(Lookup)
    peer.send(Known(request=lookup.request, count=0))
    peer.wait_for(Emitted)
    end = os.pidfd_open(peer.process.pid)
    try:
        peer.close_pipe()
        assert select.select([end], [], [], 2.0)[0]
    finally:
        os.close(end)
