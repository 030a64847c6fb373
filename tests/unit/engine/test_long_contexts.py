"""Contexts that do not fit into the budget for KV: the same tokens as with room for all of it."""

import os
import time

import pytest
from tests.support.engine.engine_harness import WHOLE, FakeSupervisor, prompt_tokens, tiny_record

from hotseat.protocol.limits import BLOCK_TOKENS
from hotseat.protocol.link_orders import CancelWork, Resume, Suspend
from hotseat.protocol.link_reports import (
    Broken,
    ContextLost,
    Emitted,
    Finished,
    Prefilled,
    Quarantined,
    Refused,
    Started,
    Suspended,
)
from hotseat.protocol.model import ModelRecord
from hotseat.protocol.residence import Residence
from hotseat.protocol.streamed_contexts import Reading, held_with, streamable_entries
from hotseat.protocol.tokens import block_chain, pack_tokens
from hotseat.worker.model.budget import KvBudget
from hotseat.worker.streaming.layers import SPOIL_VARIABLE

PROMPT, ANSWER, SHORT = 1100, 270, 30
KINDS = ("llama", "gemma3", "falcon_h1")


@pytest.fixture(autouse=True)
def spoilt(monkeypatch):
    monkeypatch.setenv(SPOIL_VARIABLE, "1")


def tight(record: ModelRecord, tokens: int) -> int:
    """A budget that holds a context of so many tokens if all of it that can be is read."""
    return held_with(record, tokens, tuple(streamable_entries(record.layers))).held_bytes


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Tokens of each kind with room for all, by kind."""
    made = {}

    def of(kind):
        if kind not in made:
            home = tmp_path_factory.mktemp(kind)
            record = tiny_record(home, kind)
            roomy = FakeSupervisor(record, home / "kv")
            roomy.seat()
            first = roomy.turn(prompt_tokens(PROMPT), "s", max_tokens=ANSWER)
            second = roomy.turn(prompt_tokens(40, seed=1), "s", max_tokens=8)
            roomy.unseat()
            made[kind] = record, first.tokens, second.tokens
        return made[kind]

    return of


def short_of_memory(record, kv_dir, tokens=PROMPT + ANSWER + 300, **load):
    options = {"contexts": Reading(), "kv_budget_bytes": tight(record, tokens)} | load
    supervisor = FakeSupervisor(record, kv_dir, **options)
    supervisor.seat()
    return supervisor


@pytest.mark.parametrize("kind", KINDS)
def test_context_that_does_not_fit_gives_the_same_tokens_turn_after_turn(tmp_path, expected, kind):
    record, first, second = expected(kind)
    short = short_of_memory(record, tmp_path / "kv")
    assert KvBudget(record, short.load["kv_budget_bytes"]).fit_tokens(8192) < PROMPT
    assert short.turn(prompt_tokens(PROMPT), "s", max_tokens=ANSWER).tokens == first
    assert short.engine.beat().streamed_bytes > 0
    assert short.engine.beat().live_sessions == ()
    # From files, and in another worker.
    short.seat()
    again = short.turn(prompt_tokens(40, seed=1), "s", max_tokens=8)
    assert again.tokens == second
    assert again.started.restored_tokens == PROMPT + ANSWER - 1
    short.unseat()


def test_context_that_outgrows_memory_while_it_decodes_goes_on(tmp_path, expected):
    record, first, _ = expected("llama")
    budget = KvBudget(record, 0)
    live = budget.need_bytes([[PROMPT + 100]], 0)
    short = short_of_memory(record, tmp_path / "kv", kv_budget_bytes=live)
    fit = KvBudget(record, live).fit_tokens(8192)
    assert PROMPT < fit < PROMPT + ANSWER
    outcome = short.turn(prompt_tokens(PROMPT), "s", max_tokens=ANSWER)
    assert outcome.tokens == first
    assert outcome.finished.limit == "max_tokens"
    assert short.engine.beat().streamed_bytes > 0
    short.unseat()


@pytest.mark.parametrize("is_lost", [False, True])
def test_suspended_context_goes_on_here_or_in_another_worker(tmp_path, expected, is_lost):
    record, first, _ = expected("gemma3")
    short = short_of_memory(record, tmp_path / "kv")
    request = short.start(prompt_tokens(PROMPT), "s", max_tokens=SHORT)
    for _ in range(10):
        short.until(Emitted)
    short.engine.handle(Suspend(request=request, hold_as=".run"))
    short.until(Suspended, request)
    told = short.outcome(request)
    if is_lost:
        short.seat()
    resume = Resume(
        prompt=told.started.prompt,
        emitted=pack_tokens(told.tokens),
        held_as=".run",
        restored_tokens=told.started.restored_tokens,
    )
    again = short.turn([], "s", resume=resume, max_tokens=SHORT)
    assert told.tokens + again.tokens == first[:SHORT]
    assert again.started.restored_tokens >= PROMPT
    short.unseat()


def test_suspended_and_cancelled_while_the_prompt_is_fed(tmp_path, expected):
    record, first, _ = expected("llama")
    short = short_of_memory(record, tmp_path / "kv")
    request = short.start(prompt_tokens(PROMPT), "s", max_tokens=SHORT)
    short.until(Prefilled, request)
    short.engine.handle(CancelWork(request=request))
    assert short.until(Finished, request).finish_reason == "cancelled"
    request = short.start(prompt_tokens(PROMPT), "t", max_tokens=SHORT)
    short.until(Started, request)
    short.engine.handle(Suspend(request=request, hold_as=".run"))
    short.until(Suspended, request)
    outcome = short.turn(prompt_tokens(PROMPT), "u", max_tokens=SHORT)
    assert outcome.tokens == first[:SHORT]
    assert outcome.started.restored_tokens > 0
    short.unseat()


def test_others_run_before_after_and_wait_meanwhile(tmp_path, expected):
    record, first, _ = expected("llama")
    short = short_of_memory(record, tmp_path / "kv")
    small = [short.start(prompt_tokens(50, seed=n), f"a{n}", max_tokens=8) for n in range(2)]
    long = short.start(prompt_tokens(PROMPT), "s", max_tokens=SHORT)
    late = short.start(prompt_tokens(50, seed=3), "b", max_tokens=8)
    outcomes = [short.finish(request) for request in (*small, long, late)]
    assert outcomes[2].tokens == first[:SHORT]
    assert all(len(one.tokens) == 8 for one in (*outcomes[:2], outcomes[3]))
    short.unseat()


def test_session_that_grows_out_of_memory_between_two_turns(tmp_path, expected):
    record, _, _ = expected("llama")
    roomy = FakeSupervisor(record, tmp_path / "roomy")
    roomy.seat()
    live = KvBudget(record, 0).need_bytes([[800]], 0)
    short = short_of_memory(record, tmp_path / "kv", kv_budget_bytes=live)
    for supervisor in (roomy, short):
        supervisor.turn(prompt_tokens(600), "s", max_tokens=8)
    turns = [
        supervisor.turn(prompt_tokens(500, seed=2), "s", max_tokens=40)
        for supervisor in (roomy, short)
    ]
    assert turns[0].tokens == turns[1].tokens
    assert turns[1].started.restored_tokens == 607
    assert short.engine.beat().streamed_bytes > 0
    roomy.unseat()
    short.unseat()


def test_longer_than_allowed_is_refused_with_the_speed_or_the_reason(tmp_path, expected):
    record, _, _ = expected("llama")
    slow = Reading(bytes_per_s=0.2 * 500 * record.kv_bytes_per_token)
    for load, options, said in (
        ({"contexts": slow}, {}, "it would give 0.078 tokens a second, 0.2 are the least"),
        ({"contexts": Reading()}, {"persist": False}, "must not reach the disk"),
        ({"contexts": None}, {}, "one of them for the answer; send less"),
    ):
        short = short_of_memory(record, tmp_path / "kv", **load)
        request = short.start(prompt_tokens(PROMPT), "s", **options)
        short.pump()
        refused = short.messages[-1]
        assert isinstance(refused, Refused)
        assert (refused.request, refused.code) == (request, "context_overflow")
        assert said in refused.message
        short.unseat()


def begun_again(told):
    """How the supervisor has a request go on that lost its context."""
    return Resume(
        prompt=told.started.prompt,
        emitted=pack_tokens(told.tokens),
        held_as=None,
        restored_tokens=told.started.restored_tokens,
    )


def flip(file):
    """A bit of the last layer's V is another one."""
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [flip, os.utime, lambda file: os.truncate(file, 5000)])
@pytest.mark.parametrize("is_decoding", [False, True])
def test_block_that_is_damaged_meanwhile_has_the_request_begin_again(
    tmp_path, expected, damage, is_decoding
):
    record, first, _ = expected("llama")
    short = short_of_memory(record, tmp_path / "kv")
    request = short.start(prompt_tokens(PROMPT), "s", max_tokens=SHORT)
    if is_decoding:
        short.until(Emitted, request)
    chain = block_chain(record.tag, prompt_tokens(PROMPT))
    while chain[2] not in short.blocks:
        short.advance()
    name = short.blocks[chain[2]]
    damage(tmp_path / "kv" / name)
    short.until(ContextLost, request)
    assert [m.file for m in short.messages if isinstance(m, Quarantined)] == [name]
    assert not any(isinstance(one, Broken) for one in short.messages)
    assert short.engine.beat().busy is False
    told = short.outcome(request)
    again = short.turn([], "s", resume=begun_again(told), max_tokens=SHORT)
    assert told.tokens + again.tokens == first[:SHORT]
    assert bool(told.tokens) is is_decoding
    assert again.started.restored_tokens == 2 * BLOCK_TOKENS
    assert (short.blocks[chain[2]] == name) is (damage is os.utime), "what verifies is kept"
    short.unseat()


def test_damage_that_is_found_when_a_layer_is_read_first_has_the_request_begin_again(
    tmp_path, expected
):
    """The blocks behind the first that is damaged are verified when they are written anew."""
    record, first, second = expected("llama")
    short = short_of_memory(record, tmp_path / "kv")
    assert short.turn(prompt_tokens(PROMPT), "s", max_tokens=ANSWER).tokens == first
    short.seat()
    chain = block_chain(record.tag, short.contexts["s"])
    damaged = [short.blocks[chain[at]] for at in (1, 3)]
    for name in damaged:
        flip(tmp_path / "kv" / name)
    request = short.start(prompt_tokens(40, seed=1), "s", max_tokens=8)
    short.until(ContextLost, request)
    assert [m.file for m in short.messages if isinstance(m, Quarantined)] == damaged[:1]
    told = short.outcome(request)
    assert told.started.restored_tokens == PROMPT + ANSWER - 1
    again = short.turn([], "s", resume=begun_again(told), max_tokens=8)
    assert told.tokens + again.tokens == second
    assert again.started.restored_tokens == BLOCK_TOKENS
    assert not {short.blocks[chain[at]] for at in (1, 3)} & set(damaged)
    short.unseat()


@pytest.mark.parametrize("kind", ["falcon_h1", "lfm2"])
@pytest.mark.parametrize("is_block", [False, True])
def test_damage_that_is_found_at_the_return_costs_time_and_no_tokens(
    tmp_path, expected, kind, is_block
):
    """States go back to an earlier snapshot, or to nothing; so do the blocks that are read."""
    record, _, second = expected(kind)
    short = short_of_memory(record, tmp_path / "kv")
    short.turn(prompt_tokens(PROMPT), "s", max_tokens=ANSWER)
    short.seat()
    name = short.tails[-1].file
    if is_block:
        name = short.blocks[block_chain(record.tag, short.contexts["s"])[2]]
    file = tmp_path / "kv" / name
    data = bytearray(file.read_bytes())
    data[70 if is_block else -100] ^= 1
    file.write_bytes(data)
    again = short.turn(prompt_tokens(40, seed=1), "s", max_tokens=8)
    assert again.tokens == second
    assert any(isinstance(one, Quarantined) for one in short.messages)
    # What was written anew is right, too.
    short.seat()
    other = short.turn(prompt_tokens(PROMPT), "t", max_tokens=SHORT)
    assert other.tokens == expected(kind)[1][:SHORT]
    short.unseat()


@pytest.mark.parametrize("is_off", [False, True])
def test_context_that_may_not_be_read_from_files_never_goes_over(tmp_path, expected, is_off):
    """One of two lanes has no room beside the other, and would have if it were alone."""
    record, _, _ = expected("llama")
    room = KvBudget(record, 0).need_bytes([[3328], [1536]], 0) + 1000
    contexts = None if is_off else Reading()
    short = short_of_memory(
        record, tmp_path / "kv", kv_budget_bytes=room, contexts=contexts, **WHOLE
    )
    grows = short.start(prompt_tokens(2300), "a", max_tokens=1150, persist=is_off)
    short.until(Emitted, grows)
    other = short.start(prompt_tokens(500, seed=4), "b", max_tokens=1024, persist=False)
    short.until(Emitted, other)
    finished = short.until(Finished, grows)
    assert (finished.finish_reason, finished.limit) == ("length", "kv_budget")
    assert short.engine.beat().streamed_bytes == 0
    assert is_off or not list((tmp_path / "kv").glob("blocks/*/*.kv"))
    short.unseat()


def test_disk_that_is_full_ends_the_request_with_its_code(tmp_path, expected):
    record, _, _ = expected("llama")
    short = short_of_memory(record, tmp_path / "kv", disk_floor_bytes=1 << 60)
    with pytest.raises(AssertionError, match="disk_full"):
        short.turn(prompt_tokens(PROMPT), "s", max_tokens=SHORT)
    assert short.turn(prompt_tokens(50), max_tokens=8).tokens
    short.unseat()


def test_weights_and_context_may_both_be_read_with_every_step(tmp_path, expected):
    record, first, _ = expected("llama")
    residence = Residence(mode="layers", streamed=(0, 1, 2))
    began = time.monotonic()
    short = short_of_memory(record, tmp_path / "kv", residence=residence)
    assert short.turn(prompt_tokens(PROMPT), "s", max_tokens=SHORT).tokens == first[:SHORT]
    beat = short.engine.beat()
    assert beat.streamed_bytes > 0
    # They read at the same time, and that counts once: else the disk would seem half as fast.
    assert 0 < beat.streamed_s < time.monotonic() - began
    weights = short.engine._seat.seated.streaming.readers
    assert weights.figures == short.engine._seat.read_figures
    short.unseat()
