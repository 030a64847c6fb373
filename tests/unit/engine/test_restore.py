"""What is kept in memory, what goes to disk, and what comes back from there."""

from pathlib import Path

import pytest
from tests.support.engine.beside_others import expect_as_alone
from tests.support.engine.engine_harness import UNFED, WHOLE, prompt_tokens, tiny_record

from hotseat.protocol.link_orders import QUIET_CHECKPOINT, Checkpoint, Shrink
from hotseat.protocol.link_reports import (
    BlockWritten,
    Checkpointed,
    Finished,
    Lookup,
    Prefilled,
    Quarantined,
    TailWritten,
    WriteFailed,
)
from hotseat.protocol.tokens import block_chain, unpack_tokens


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def record(request, home):
    return tiny_record(home, request.param, request.param)


@pytest.fixture(scope="module")
def llama(home):
    return tiny_record(home, "llama", "only-full")


def test_full_blocks_are_reported_written_before_finished(record, supervisors):
    supervisor = supervisors(record)
    outcome = supervisor.turn(prompt_tokens(500), "s", max_tokens=20)
    kinds = [type(m) for m in supervisor.messages if isinstance(m, BlockWritten | Finished)]
    assert kinds == [BlockWritten, BlockWritten, Finished]
    chain = block_chain(record.tag, unpack_tokens(outcome.finished.context))
    assert [m.block for m in supervisor.messages if isinstance(m, BlockWritten)] == chain


def test_block_files_hold_the_numbers_of_the_cache(record, supervisors):
    """Values on disk equal what the live cache holds, bit for bit."""
    import mlx.core as mx

    supervisor = supervisors(record)
    supervisor.turn(prompt_tokens(300), "s", max_tokens=300)
    supervisor.checkpoint()
    live = supervisor.engine._seat.keeper.live.find("s")
    kept = [(mx.array(c.keys), mx.array(c.values), c) for c in live.caches]
    supervisor.seat()
    supervisor.turn([7], "s", max_tokens=1)
    again = supervisor.engine._seat.keeper.live.find("s")
    position = 600 - UNFED
    for (keys, values, old), new in zip(kept, again.caches, strict=True):
        assert type(old) is type(new)
        if hasattr(old, "max_size"):
            # Two tokens on: the last of the answer and the new one. The rest is untouched.
            slots = {(old._idx + step) % old.max_size for step in range(2)}
            same = [slot for slot in range(old.max_size) if slot not in slots]
            assert mx.array_equal(keys[:, :, same], new.keys[:, :, same])
            assert mx.array_equal(values[:, :, same], new.values[:, :, same])
        else:
            assert mx.array_equal(keys[:, :, :position], new.keys[:, :, :position])
            assert mx.array_equal(values[:, :, :position], new.values[:, :, :position])


def test_equal_prefix_of_another_session_is_read_not_computed(record, supervisors):
    supervisor = supervisors(record)
    first = supervisor.turn(prompt_tokens(700), "a")
    supervisor.seat()  # nothing is in memory
    second = supervisor.turn(prompt_tokens(700), "b")
    assert second.started.restored_tokens == 512
    assert second.started.live_tokens == 0
    assert second.tokens == first.tokens
    written = [m for m in supervisor.messages if isinstance(m, BlockWritten)]
    assert len(written) == 2


def test_tail_of_one_session_serves_another(record, supervisors):
    supervisor = supervisors(record)
    first = supervisor.turn(prompt_tokens(300), "a", max_tokens=1)
    supervisor.checkpoint()
    prompt = unpack_tokens(first.finished.context) + prompt_tokens(10, 4)
    second = supervisor.turn(prompt, "b")
    assert second.started.restored_tokens == 301 - UNFED
    assert second.started.computed_tokens == 10 + UNFED


def test_tail_that_matches_in_part_serves_full_attention_only(record, supervisors):
    supervisor = supervisors(record)
    supervisor.turn(prompt_tokens(400), "a", max_tokens=1)
    supervisor.checkpoint()
    second = supervisor.turn(prompt_tokens(350) + prompt_tokens(50, 8), "b")
    has_windows = any(layer.kind == "window" for layer in record.layers)
    assert second.started.restored_tokens == (256 if has_windows else 350)
    cold = supervisors(record).turn(prompt_tokens(350) + prompt_tokens(50, 8), "b")
    assert second.tokens == cold.tokens


def test_prompt_that_diverges_reuses_the_live_cache_up_to_there(llama, supervisors):
    supervisor = supervisors(llama)
    supervisor.turn(prompt_tokens(400), "s", max_tokens=1)
    supervisor.contexts.clear()
    prompt = prompt_tokens(390) + prompt_tokens(50, 8)
    second = supervisor.turn(prompt, "s")
    assert second.started.live_tokens == second.started.restored_tokens == 390
    assert second.tokens == supervisors(llama).turn(prompt).tokens


def test_repeated_prompt_leaves_one_token_to_feed(llama, supervisors):
    supervisor = supervisors(llama)
    first = supervisor.turn(prompt_tokens(100), "s", max_tokens=1)
    supervisor.contexts.clear()
    second = supervisor.turn(prompt_tokens(100), "s", max_tokens=1)
    assert second.started.computed_tokens == 1
    assert second.tokens == first.tokens


def test_unpersisted_session_touches_no_disk_and_stays_live(record, supervisors):
    supervisor = supervisors(record)
    supervisor.turn(prompt_tokens(600), "s", persist=False)
    assert supervisor.checkpoint().sessions == 0
    assert not list(Path(supervisor.kv_dir).rglob("*.kv"))
    assert supervisor.turn([9], "s", persist=False).started.live_tokens == 608 - UNFED


def test_session_that_turns_persistent_is_written_from_memory(llama, supervisors):
    supervisor = supervisors(llama)
    supervisor.turn(prompt_tokens(600), "s", persist=False)
    supervisor.turn([9], "s", persist=True)
    supervisor.checkpoint()
    supervisor.seat()
    assert supervisor.turn([9], "s").started.computed_tokens == 1 + UNFED


def test_damaged_block_is_a_miss_with_a_reason_and_the_same_tokens(record, supervisors):
    supervisor = supervisors(record)
    first = supervisor.turn(prompt_tokens(900), "a")
    victim = supervisor.blocks[block_chain(record.tag, prompt_tokens(900))[1]]
    path = Path(supervisor.kv_dir) / victim
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    supervisor.seat()
    second = supervisor.turn(prompt_tokens(900), "b")
    assert second.started.restored_tokens == 256
    assert second.started.miss
    assert second.tokens == first.tokens
    assert [m.file for m in supervisor.messages if isinstance(m, Quarantined)] == [victim]
    supervisor.seat()
    third = supervisor.turn(prompt_tokens(900), "c")
    assert third.started.restored_tokens == 768


def test_checkpoint_writes_each_tail_once_and_keeps_the_session_live(record, supervisors):
    supervisor = supervisors(record)
    supervisor.turn(prompt_tokens(300), "s")
    assert supervisor.checkpoint().sessions == 1
    again = supervisor.checkpoint()
    assert again.failed == ()
    assert len([m for m in supervisor.messages if isinstance(m, TailWritten)]) == 1
    assert supervisor.turn([9], "s").started.live_tokens == 308 - UNFED


def test_checkpoint_that_cannot_write_names_the_session_and_a_later_one_repairs_it(
    llama, supervisors
):
    supervisor = supervisors(llama)
    supervisor.turn(prompt_tokens(30), "s")
    blocked = Path(supervisor.kv_dir) / "tails"
    blocked.parent.mkdir(parents=True, exist_ok=True)
    if blocked.exists():
        blocked.rmdir()
    blocked.write_text("in the way")
    assert supervisor.checkpoint().failed == ("s",)
    assert [m for m in supervisor.messages if isinstance(m, WriteFailed)]
    blocked.unlink()
    supervisor.engine.step()
    assert supervisor.checkpoint().failed == ()
    supervisor.seat()
    assert supervisor.turn([9], "s").started.computed_tokens == 1 + UNFED


def test_checkpoint_leaves_running_requests_alone(record, supervisors):
    supervisor = supervisors(record)
    supervisor.turn(prompt_tokens(300), "idle")
    request = supervisor.start(prompt_tokens(700, 2), "busy", max_tokens=20)
    supervisor.until(Prefilled, request)
    supervisor.engine.handle(Checkpoint(swap=2))
    assert supervisor.until(Checkpointed).sessions == 1
    assert len(supervisor.finish(request, "busy").tokens) == 20


def test_idle_session_is_given_up_for_room_after_its_tail_was_written(llama, supervisors):
    row = 512 * llama.kv_bytes_per_token
    supervisor = supervisors(llama, kv_budget_bytes=4 * row)
    first = supervisor.turn(prompt_tokens(300), "a", max_tokens=30)
    supervisor.turn(prompt_tokens(300, 2), "b", max_tokens=30)
    supervisor.turn(prompt_tokens(300, 3), "c", max_tokens=30)
    assert "a" not in supervisor.engine.beat().live_sessions
    assert {m.session for m in supervisor.messages if isinstance(m, TailWritten)} >= {"a"}
    again = supervisor.turn([9], "a")
    assert again.started.restored_tokens == len(unpack_tokens(first.finished.context)) - UNFED
    assert again.started.computed_tokens == 1 + UNFED


def test_checkpoint_of_some_sessions_writes_no_other(llama, supervisors):
    supervisor = supervisors(llama)
    for name in ("a", "b"):
        supervisor.turn(prompt_tokens(40, ord(name)), name)
    supervisor.engine.handle(Checkpoint(swap=QUIET_CHECKPOINT, sessions=("b", "gone")))
    assert supervisor.until(Checkpointed).sessions == 1
    assert [m.session for m in supervisor.messages if isinstance(m, TailWritten)] == ["b"]


def test_giving_up_a_durable_session_writes_nothing(record, supervisors):
    supervisor = supervisors(record)
    for number in range(3):
        supervisor.turn(prompt_tokens(300, number), f"s{number}", max_tokens=30)
    supervisor.checkpoint()
    writer = supervisor.engine._seat.keeper._writer
    written = (writer.files_written, writer.bytes_written)
    supervisor.engine.handle(Shrink(keep=0))
    assert supervisor.engine.beat().live_sessions == ()
    assert writer.drain(10)
    assert (writer.files_written, writer.bytes_written) == written


def test_running_session_outlives_those_given_up_for_room(llama, supervisors):
    row = 512 * llama.kv_bytes_per_token
    alone = supervisors(llama).turn(prompt_tokens(300), "running", max_tokens=200).tokens
    supervisor = supervisors(llama, kv_budget_bytes=int(3.5 * row), **WHOLE)
    request = supervisor.start(prompt_tokens(300), "running", max_tokens=200)
    writer = supervisor.engine._seat.keeper._writer
    for number in range(1, 7):
        turn = supervisor.start(prompt_tokens(200, number), f"s{number}", max_tokens=4)
        while not supervisor.outcome(turn).finished:
            # A turn waits for the disk, the other request does not: it is to get no steps by that.
            assert writer.drain(60)
            supervisor.advance()
        assert not supervisor.outcome(request).finished, "it is to run all the while"
    assert "s1" not in supervisor.engine.beat().live_sessions
    expect_as_alone(supervisor.finish(request, "running").tokens, alone)


def test_live_session_needs_no_lookup(record, supervisors):
    supervisor = supervisors(record)
    supervisor.turn(prompt_tokens(300), "s")
    supervisor.messages.clear()
    supervisor.turn([9], "s")
    assert not [m for m in supervisor.messages if isinstance(m, Lookup)]
