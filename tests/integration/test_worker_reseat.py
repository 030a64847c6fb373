"""One real worker process as the standby, then as the worker of two models in turn."""

from pathlib import Path

from msgspec import structs
from tests.support.models.tiny_models import register_tiny
from tests.support.peers.worker_peer import REAL, WorkerPeer, load, start

from hotseat.protocol.limits import GIB
from hotseat.protocol.link_orders import Known, Prepare, Resume, Suspend, Unload, Warm
from hotseat.protocol.link_reports import (
    BlockWritten,
    Emitted,
    Finished,
    KernelsWarmed,
    Loaded,
    Lookup,
    Prepared,
    Suspended,
    TailWritten,
    Unloaded,
    Warmed,
    WorkerHello,
)
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.tokens import pack_tokens

TEXT = "the quick brown fox jumps over the lazy dog while seven wizards brew coffee. " * 8

MANY = 8_000
"""More than a worker gets to in the time in which it is told to stop."""


def seat(peer: WorkerPeer, record: ModelRecord, home: Path, epoch: int) -> None:
    peer.reseat(epoch)
    peer.send(load(record, home / "kv" / record.tag))
    peer.wait_for(Loaded)
    peer.send(Warm())
    peer.wait_for(Warmed)


def wait_for_both(peer: WorkerPeer) -> tuple[Prepared, KernelsWarmed]:
    """Two threads say them, so either may be the first."""
    found: list[Prepared | KernelsWarmed] = []
    while len(found) < 2:
        message = peer.receive(timeout_s=20)
        if isinstance(message, Prepared | KernelsWarmed):
            found.append(message)
    prepared, kernels = sorted(found, key=lambda one: isinstance(one, KernelsWarmed))
    assert isinstance(prepared, Prepared)
    assert isinstance(kernels, KernelsWarmed)
    return prepared, kernels


def test_standby_is_seated_twice_and_a_suspended_request_goes_on_in_it(tmp_path: Path) -> None:
    first = register_tiny(tmp_path, "first", "llama")
    second = register_tiny(tmp_path, "second", "gemma3")
    with WorkerPeer(tmp_path, REAL) as peer:
        peer.wait_for(WorkerHello, timeout_s=60)
        peer.send(Prepare(record=first, warm_pages=True, kernels_limit_bytes=GIB))
        prepared, kernels = wait_for_both(peer)
        assert prepared.warmed_bytes >= first.weights_bytes
        assert kernels.left_out == ""
        seat(peer, first, tmp_path, 2)
        work = start("r1", TEXT, session=None, max_tokens=MANY)
        peer.send(work)
        peer.send(Known(request=peer.wait_for(Lookup).request, count=0))
        peer.wait_for(Emitted)
        peer.send(Suspend(request=work.request, hold_as="held"))
        suspended = peer.wait_for(Suspended)
        emitted = [token for m in peer.seen if isinstance(m, Emitted) for token in m.tokens]
        assert len(emitted) == suspended.completion_tokens < MANY
        peer.send(Unload())
        unloaded = peer.wait_for(Unloaded)
        assert unloaded.leaked == ()
        assert not any(isinstance(m, TailWritten) for m in peer.seen), "nobody asked for it"
        seat(peer, second, tmp_path, 3)
        peer.send(start("r2", TEXT, session=None, max_tokens=4))
        peer.send(Known(request=peer.wait_for(Lookup).request, count=0))
        assert peer.wait_for(Finished).completion_tokens == 4
        peer.send(Unload())
        peer.wait_for(Unloaded)
        seat(peer, first, tmp_path, 4)
        ids = suspended.context[: len(suspended.context) - 4 * (len(emitted) - 1)]
        resume = Resume(prompt=ids, emitted=pack_tokens(emitted))
        again = start("r3", TEXT, session=None, max_tokens=len(emitted) + 40)
        peer.send(structs.replace(again, resume=resume))
        lookup = peer.wait_for(Lookup)
        blocks = [m.block for m in peer.seen if isinstance(m, BlockWritten)]
        count = sum(block in blocks for block in lookup.blocks)
        peer.send(Known(request=lookup.request, count=count))
        finished = peer.wait_for(Finished)
        assert finished.completion_tokens == len(emitted) + 40
