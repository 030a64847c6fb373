"""Snapshots of recurrent state: where they are made, who uses them, what happens without one."""

from pathlib import Path

import pytest
from tests.support.engine.engine_harness import UNFED, FakeSupervisor, prompt_tokens, tiny_record

from hotseat.protocol.link_orders import AppendInput, WholeInput
from hotseat.protocol.link_reports import TailWritten
from hotseat.protocol.messages import Message
from hotseat.protocol.tokens import root_id, unpack_tokens
from hotseat.worker.context import snapshots
from hotseat.worker.store.kv_file import read_header

SYSTEM = Message(role="system", content="You keep the log of a lighthouse. " * 12)


@pytest.fixture(scope="module", params=["falcon_h1", "mamba2"])
def record(request, home):
    return tiny_record(home, request.param, request.param.replace("_", "-"))


@pytest.fixture(scope="module")
def hybrid(home):
    return tiny_record(home, "falcon_h1", "hybrid")


def positions(supervisor) -> list[int]:
    """After how many tokens snapshots were written, in order."""
    starts = {root_id(supervisor.record.tag): 0}
    found = []
    for message in supervisor.messages:
        if hasattr(message, "block") and hasattr(message, "index"):
            starts[message.block] = 256 * (message.index + 1)
        if isinstance(message, TailWritten):
            assert message.kind == "snapshot"
            found.append(starts[message.parent] + len(message.tokens) // 4)
    return found


def ask(text, *before):
    return WholeInput(messages=(SYSTEM, *before, Message(role="user", content=text)))


def test_snapshots_stand_behind_the_system_prompt_before_the_generation_prompt_and_at_the_end(
    record, supervisors
):
    supervisor = supervisors(record)
    outcome = supervisor.turn(ask("What did you see?"), "s", max_tokens=5)
    prompt = unpack_tokens(outcome.started.prompt)
    renderer = supervisor.engine._seat.seated.kit.renderer
    messages = ask("What did you see?").messages
    bare = renderer.render(messages, 0.0, generation_prompt=False)
    alone = renderer.render([SYSTEM], 0.0, generation_prompt=False)
    system, generation, end = positions(supervisor)
    assert prompt[:generation] == bare
    assert prompt[: len(alone)] == alone
    assert len(alone) <= system < len(alone) + 6, "the header of the user's turn is shared too"
    assert end == len(unpack_tokens(outcome.finished.context)) - UNFED


def test_other_session_of_the_same_system_prompt_starts_from_its_snapshot(record, supervisors):
    supervisor = supervisors(record)
    supervisor.turn(ask("What did you see?"), "a", max_tokens=5)
    shared = positions(supervisor)[0]
    other = supervisor.turn(ask("Who came by?"), "b", max_tokens=5)
    assert other.started.restored_tokens == shared
    assert positions(supervisor).count(shared) == 1, "it was written twice"
    alone = supervisors(record).turn(ask("Who came by?"), "b", max_tokens=5)
    assert alone.started.restored_tokens == 0
    assert other.tokens == alone.tokens


def test_live_context_that_diverges_in_the_reply_goes_back_before_the_generation_prompt(
    record, supervisors
):
    supervisor = supervisors(record)
    first = supervisor.turn(ask("What did you see?"), "s", max_tokens=40)
    generation = positions(supervisor)[1]
    supervisor.contexts.clear()
    reply = Message(role="assistant", content="I saw nothing at all.")
    question = Message(role="user", content="What did you see?")
    again = supervisor.turn(ask("And then?", question, reply), "s", max_tokens=10)
    assert again.started.live_tokens == generation
    alone = supervisors(record).turn(ask("And then?", question, reply), max_tokens=10)
    assert again.tokens == alone.tokens
    assert first.finished is not None


def test_decoded_tokens_give_a_snapshot_now_and_then(record, supervisors, monkeypatch):
    assert snapshots.DECODED_TOKENS == 1024
    monkeypatch.setattr(snapshots, "DECODED_TOKENS", 32)
    supervisor = supervisors(record)
    supervisor.turn(prompt_tokens(10), "s", max_tokens=70)
    assert positions(supervisor) == [9, 10 + 32, 10 + 64, 10 + 70 - UNFED]


def test_death_costs_what_followed_the_newest_snapshot(hybrid, supervisors, monkeypatch):
    monkeypatch.setattr(snapshots, "DECODED_TOKENS", 32)
    supervisor = supervisors(hybrid)
    request = supervisor.start(prompt_tokens(10), "s", max_tokens=60)
    while len(supervisor.outcome(request).tokens) < 50:
        supervisor.advance()
    supervisor.seat()
    again = supervisor.turn(prompt_tokens(10) + supervisor.outcome(request).tokens)
    assert again.started.restored_tokens == 10 + 32


def test_damaged_snapshot_is_passed_over_for_the_one_before(hybrid, supervisors):
    supervisor = supervisors(hybrid)
    supervisor.turn(ask("What did you see?"), "s", max_tokens=5)
    reference = supervisor.turn(AppendInput(messages=(Message(role="user", content="?"),)), "s")
    files = [m.file for m in supervisor.messages if isinstance(m, TailWritten)]
    path = Path(supervisor.kv_dir) / files[2]
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    fresh = FakeSupervisor(hybrid, supervisor.kv_dir)
    fresh.blocks, fresh.tails = supervisor.blocks, supervisor.tails[:3]
    fresh.seat()
    try:
        again = fresh.turn(unpack_tokens(reference.started.prompt))
        assert "digest" in again.started.miss
        assert again.started.restored_tokens == positions(supervisor)[1]
        assert again.tokens == reference.tokens
        assert len(fresh.tails) == 2 + len([m for m in fresh.messages if is_tail(m)])
    finally:
        fresh.unseat()


def is_tail(message) -> bool:
    return isinstance(message, TailWritten)


def test_session_that_must_not_persist_writes_no_snapshot(record, supervisors):
    supervisor = supervisors(record)
    supervisor.turn(ask("What did you see?"), "s", max_tokens=5, persist=False)
    assert supervisor.checkpoint().failed == ()
    assert positions(supervisor) == []


def test_checkpoint_after_a_turn_has_nothing_left_to_write(record, supervisors):
    supervisor = supervisors(record)
    supervisor.turn(prompt_tokens(40), "s", max_tokens=5)
    before = positions(supervisor)
    assert supervisor.checkpoint().bytes_written == 0
    assert positions(supervisor) == before


def test_snapshot_of_a_running_turn_that_failed_is_written_by_the_next_checkpoint(
    record, supervisors, monkeypatch
):
    """The turn ends where the snapshot was made: it must not count as stored."""
    monkeypatch.setattr(snapshots, "DECODED_TOKENS", 32)
    supervisor = supervisors(record)
    folder = Path(supervisor.kv_dir) / "snapshots"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_bytes(b"in the way")
    supervisor.turn(prompt_tokens(10), "s", max_tokens=32 + UNFED)
    assert positions(supervisor) == []
    folder.unlink()
    assert supervisor.checkpoint().failed == ()
    assert positions(supervisor) == [10 + 32]


def test_blocks_of_a_purely_recurrent_model_hold_no_numbers(home, supervisors):
    record = tiny_record(home, "mamba2", "pure")
    supervisor = supervisors(record)
    supervisor.turn(prompt_tokens(300), "s", max_tokens=2)
    (file,) = supervisor.blocks.values()
    header = read_header(Path(supervisor.kv_dir), file)
    assert (header.parts, header.states) == ((), ())


def test_snapshot_file_holds_the_state_and_what_follows_the_last_block(hybrid, supervisors):
    supervisor = supervisors(hybrid)
    supervisor.turn(prompt_tokens(300), "s", max_tokens=2)
    last = supervisor.tails[-1]
    header = read_header(Path(supervisor.kv_dir), last.file)
    assert {(state.entry, state.slot) for state in header.states} == {
        (entry, slot) for entry in (0, 2) for slot in (0, 1)
    }
    assert {(part.entry, part.tokens) for part in header.parts} == {
        (1, 46 - UNFED),
        (3, 46 - UNFED),
    }


def test_accounted_bytes_cover_recurrent_state_of_rows_and_idle_sessions(record, supervisors):
    supervisor = supervisors(record)
    for number in range(3):
        supervisor.start(prompt_tokens(40 + number, number), f"s{number}", max_tokens=30)
    seat = supervisor.engine._seat
    seen = 0
    while supervisor.engine.beat().busy:
        supervisor.advance()
        lanes = sum(lane.held_bytes for lane in seat.runner.lanes)
        idle = list(seat.keeper.live.sessions())
        held = sum(cache.nbytes for one in idle for cache in one.caches)
        kept = [one.trace.snapshot for one in idle] + [
            turn.trace.snapshot for turn in seat.runner.turns() if turn.trace is not None
        ]
        held += sum(one.size_bytes for one in kept if one is not None)
        assert supervisor.engine.beat().live_kv_bytes >= 0.9 * (lanes + held)
        seen = max(seen, lanes)
    assert seen > 0
