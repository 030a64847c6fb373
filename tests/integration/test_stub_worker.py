"""The stub worker keeps the contract of the real one, and its faults do what they say."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.peers.worker_peer import WorkerPeer, fake_record, load, start
from tests.support.stub_worker.text import encode_text, expected_tokens

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_orders import CancelWork, Checkpoint, Known, Stop, TailRef, Warm
from hotseat.protocol.link_reports import (
    BlockWritten,
    Broken,
    Checkpointed,
    Emitted,
    Failed,
    Finished,
    Loaded,
    Lookup,
    Quarantined,
    Refused,
    Started,
    Stopped,
    TailWritten,
    Warmed,
    WorkerHello,
    WriteFailed,
)
from hotseat.protocol.tokens import unpack_tokens

KEY = RequestKey("r")


def seat(peer: WorkerPeer, kv_dir: Path) -> None:
    peer.wait_for(WorkerHello)
    peer.send(load(fake_record(), kv_dir))
    peer.wait_for(Loaded)
    peer.send(Warm())
    peer.wait_for(Warmed)


def answer_lookup(peer: WorkerPeer, count: int = 0, tails: tuple[TailRef, ...] = ()) -> Lookup:
    lookup = peer.wait_for(Lookup)
    peer.send(Known(request=lookup.request, count=count, tails=tails))
    return lookup


def faults(**switches: object) -> dict[str, str]:
    return {"HOTSEAT_STUB": json.dumps(switches)}


def emitted(peer: WorkerPeer, request: str) -> list[int]:
    return [
        token
        for message in peer.seen
        if isinstance(message, Emitted) and message.request == request
        for token in message.tokens
    ]


def test_stub_turn_emits_reproducible_tokens_and_finishes(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path) as peer:
        seat(peer, tmp_path / "kv")
        peer.send(start("r", "hello", max_tokens=5))
        answer_lookup(peer)
        done = peer.wait_for(Finished)
    assert done.finish_reason == "length" and done.limit == "max_tokens"
    prompt = encode_text("hello")
    expected = expected_tokens("aa" * 16, prompt, 5, 32_000)
    assert emitted(peer, "r") == expected
    assert unpack_tokens(done.context) == prompt + expected


@pytest.mark.alone
def test_stub_hello_carries_the_secret_within_a_second(tmp_path: Path) -> None:
    """A second more than an interpreter needs that imports what the stub does."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import tests.support.stub_worker.engine"], check=True)
    bare_s = time.monotonic() - began
    began = time.monotonic()
    with WorkerPeer(tmp_path) as peer:
        assert peer.wait_for(WorkerHello).token == peer.secret
        assert time.monotonic() - began < 1.0 + bare_s


def test_stub_next_process_restores_blocks_and_tail(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path) as peer:
        seat(peer, tmp_path / "kv")
        peer.send(start("r", "x" * 600, max_tokens=5))
        answer_lookup(peer)
        first = peer.wait_for(Finished)
        peer.send(Checkpoint(swap=1))
        tail = peer.wait_for(TailWritten)
        assert peer.wait_for(Checkpointed).failed == ()
        blocks = [message for message in peer.seen if isinstance(message, BlockWritten)]
        peer.send(Stop())
        peer.wait_for(Stopped)
        assert peer.wait_exit() == 0
    assert len(blocks) == 2
    with WorkerPeer(tmp_path, epoch=2) as peer:
        seat(peer, tmp_path / "kv")
        peer.send(start("r2", "more", context=first.context, max_tokens=3))
        ref = TailRef(file=tail.file, parent=tail.parent, tokens=tail.tokens)
        lookup = answer_lookup(peer, 2, (ref,))
        assert list(lookup.blocks) == [block.block for block in blocks]
        begun = peer.wait_for(Started)
        done = peer.wait_for(Finished)
    assert begun.restored_tokens == 605 and begun.computed_tokens == 4
    context = unpack_tokens(done.context)
    assert context[609:] == expected_tokens("aa" * 16, context[:609], 3, 32_000)


def test_stub_live_session_needs_no_lookup(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path) as peer:
        seat(peer, tmp_path / "kv")
        peer.send(start("r", "hello", max_tokens=5))
        answer_lookup(peer)
        first = peer.wait_for(Finished)
        peer.send(start("r2", " again", context=first.context, max_tokens=1))
        begun = peer.wait_for(Started)
    assert (begun.live_tokens, begun.computed_tokens) == (10, 6)


def test_stub_damaged_block_is_quarantined_and_cuts_the_prefix(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path) as peer:
        seat(peer, tmp_path / "kv")
        peer.send(start("r", "x" * 600, session=None, max_tokens=1))
        answer_lookup(peer)
        peer.wait_for(Finished)
        second = [message for message in peer.seen if isinstance(message, BlockWritten)][1]
        (tmp_path / "kv" / second.file).write_bytes(b"{}")
        peer.send(start("r2", "x" * 600, session=None, max_tokens=1))
        answer_lookup(peer, 2)
        assert peer.wait_for(Quarantined).block == second.block
        begun = peer.wait_for(Started)
    assert begun.restored_tokens == BLOCK_TOKENS and begun.miss


def test_stub_cancel_finishes_with_what_was_emitted(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path, env=faults(slow_token_s=0.02, reply_tokens=1000)) as peer:
        seat(peer, tmp_path / "kv")
        peer.send(start("r", "hello"))
        answer_lookup(peer)
        peer.wait_for(Emitted)
        peer.send(CancelWork(request=KEY))
        done = peer.wait_for(Finished)
    assert done.finish_reason == "cancelled"
    assert unpack_tokens(done.context)[5:] == emitted(peer, "r")


def test_stub_cancel_before_the_first_token_keeps_the_prompt(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path) as peer:
        seat(peer, tmp_path / "kv")
        peer.send(start("r", "hello"))
        peer.wait_for(Lookup)
        peer.send(CancelWork(request=KEY))
        done = peer.wait_for(Finished)
    assert done.finish_reason == "cancelled" and done.completion_tokens == 0
    assert unpack_tokens(done.context) == encode_text("hello")


def test_stub_own_end_of_turn_closes_the_context(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path, env=faults(reply_tokens=3)) as peer:
        seat(peer, tmp_path / "kv")
        peer.send(start("r", "hello"))
        answer_lookup(peer)
        done = peer.wait_for(Finished)
    assert (done.finish_reason, done.closed, done.completion_tokens) == ("stop", True, 3)


def test_stub_prompt_over_the_context_is_refused(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path) as peer:
        seat(peer, tmp_path / "kv")
        peer.send(start("r", "x" * 5000))
        refused = peer.wait_for(Refused)
    assert refused.code == "context_overflow" and refused.facts["prompt_tokens"] == 5000


@pytest.mark.parametrize("point", ["hello", "load", "warm", "first_token", "token_n", "stop"])
def test_stub_die_at_ends_the_process_there(tmp_path: Path, point: str) -> None:
    with WorkerPeer(tmp_path, env=faults(die_at=point, exit_code=7, stderr="bye\n")) as peer:
        if point != "hello":
            drive(peer, tmp_path / "kv", point)
        assert peer.wait_exit() == 7
        assert peer.stderr() == "bye\n"


def drive(peer: WorkerPeer, kv_dir: Path, point: str) -> None:
    """Sends everything up to `point` without waiting for what will not come."""
    peer.wait_for(WorkerHello)
    peer.send(load(fake_record(), kv_dir))
    if point == "load":
        return
    peer.send(Warm())
    if point == "warm":
        return
    peer.wait_for(Warmed)
    peer.send(Stop() if point == "stop" else start("r", "hello"))
    if point != "stop":
        answer_lookup(peer)


def test_stub_die_by_signal_is_seen_as_that_signal(tmp_path: Path) -> None:
    env = faults(die_at="load", signal=int(signal.SIGABRT))
    with WorkerPeer(tmp_path, env=env) as peer:
        drive(peer, tmp_path / "kv", "load")
        assert peer.wait_exit() == -signal.SIGABRT


def test_stub_once_file_lets_the_second_process_live(tmp_path: Path) -> None:
    env = faults(die_at="load", once_file=str(tmp_path / "once"))
    with WorkerPeer(tmp_path, env=env) as peer:
        drive(peer, tmp_path / "kv", "load")
        assert peer.wait_exit() == -signal.SIGKILL
    with WorkerPeer(tmp_path, env=env, epoch=2) as peer:
        seat(peer, tmp_path / "kv")


def test_stub_model_override_applies_to_that_model_only(tmp_path: Path) -> None:
    env = faults(models={"b": {"fail_load": {"code": "model_unfit", "permanent": True}}})
    with WorkerPeer(tmp_path, env=env) as peer:
        seat(peer, tmp_path / "kv")
        peer.send(load(fake_record("b"), tmp_path / "kv"))
        failed = peer.wait_for(Failed)
    assert (failed.during, failed.code, failed.permanent) == ("load", "model_unfit", True)


def test_stub_failed_checkpoint_names_its_sessions(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path, env=faults(checkpoint_fail=True)) as peer:
        seat(peer, tmp_path / "kv")
        peer.send(start("r", "hello", max_tokens=1))
        answer_lookup(peer)
        peer.wait_for(Finished)
        peer.send(Checkpoint(swap=9))
        assert peer.wait_for(WriteFailed).code == "disk_full"
        done = peer.wait_for(Checkpointed)
    assert (done.swap, done.failed, done.bytes_written) == (9, ("s",), 0)


def test_stub_broken_request_leaves_the_next_one_alone(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path, env=faults(break_request=True)) as peer:
        seat(peer, tmp_path / "kv")
        peer.send(start("r", "hello"))
        answer_lookup(peer)
        assert peer.wait_for(Broken).code == "internal"
        peer.send(Stop())
        peer.wait_for(Stopped)
        assert peer.wait_exit() == 0


def test_stub_ignoring_sigterm_survives_it(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path, env=faults(ignore_sigterm=True)) as peer:
        peer.wait_for(WorkerHello)
        peer.process.send_signal(signal.SIGTERM)
        seat_after_hello(peer, tmp_path / "kv")
        assert peer.process.poll() is None


def seat_after_hello(peer: WorkerPeer, kv_dir: Path) -> None:
    peer.send(load(fake_record(), kv_dir))
    peer.wait_for(Loaded)


def test_stub_ignoring_stop_answers_nothing(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path, env=faults(ignore_stop=True)) as peer:
        seat(peer, tmp_path / "kv")
        peer.send(Stop())
        peer.send(Checkpoint(swap=1))
        peer.wait_for(Checkpointed)
        assert "Stopped" not in peer.kinds()


def test_stub_wrong_secret_does_not_match(tmp_path: Path) -> None:
    with WorkerPeer(tmp_path, env=faults(wrong_secret=True)) as peer:
        assert peer.wait_for(WorkerHello).token != peer.secret
