"""Sessions use each other's prefixes: from memory, from disk, to the token."""

import pytest
from tests.support.engine.engine_harness import UNFED, prompt_tokens, tiny_record

from hotseat.protocol.link_orders import Rewrite, TailRef
from hotseat.protocol.link_reports import BlockWritten, Diverged, Started
from hotseat.protocol.tokens import pack_tokens
from hotseat.worker.model.budget import KvBudget


@pytest.fixture
def record(home, request):
    kind = getattr(request, "param", "llama")
    return tiny_record(home, kind, kind)


def test_new_session_takes_a_live_prefix_of_another_one(supervisor):
    shared = prompt_tokens(300)
    supervisor.turn([*shared, 7, 8], "one")
    turn = supervisor.turn([*shared, 9, 10], "two")
    assert (turn.started.restored_tokens, turn.started.live_tokens) == (300, 300)
    assert turn.started.own_tokens == 0


@pytest.mark.parametrize("record", ["llama", "gemma3", "lfm2"], indirect=True)
def test_fork_of_a_live_context_gives_the_tokens_its_origin_gives(supervisor):
    supervisor.turn(prompt_tokens(150), "one")
    supervisor.contexts["two"] = list(supervisor.contexts["one"])
    supervisor.hints["two"] = supervisor.hints["one"]
    held = len(supervisor.contexts["one"]) - UNFED
    fork = supervisor.turn([20, 21, 22], "two", max_tokens=24)
    origin = supervisor.turn([20, 21, 22], "one", max_tokens=24)
    assert fork.started.restored_tokens == fork.started.own_tokens == held
    assert fork.started.live_tokens == held
    assert fork.tokens == origin.tokens


@pytest.mark.parametrize("record", ["llama", "gemma3", "lfm2"], indirect=True)
def test_own_tail_on_disk_is_taken_though_another_one_shares_its_beginning_live(supervisor):
    system = prompt_tokens(26)
    for name, told in (("one", [70, 71]), ("two", [80, 81, 82])):
        supervisor.turn([*system, *told], name, max_tokens=16)
    supervisor.checkpoint()
    supervisor.seat()
    for name in ("one", "two"):
        held = len(supervisor.contexts[name]) - UNFED
        turn = supervisor.turn([90, 91], name)
        assert turn.started.restored_tokens == turn.started.own_tokens == held


def test_origin_is_untouched_by_what_its_fork_computes(supervisor):
    supervisor.turn(prompt_tokens(90), "one")
    context = list(supervisor.contexts["one"])
    alone = supervisor.turn([40, 41], "one", max_tokens=16).tokens
    supervisor.contexts |= {"one": context, "two": list(context)}
    for _ in range(3):
        supervisor.contexts["two"] = list(context)
        supervisor.turn([60, 61, 62], "two", max_tokens=16)
    supervisor.contexts["one"] = context
    assert supervisor.turn([40, 41], "one", max_tokens=16).tokens == alone


def test_block_of_another_session_serves_up_to_where_it_differs(supervisor):
    """As after a restart: nothing is in memory, and the second block differs in the middle."""
    whole = prompt_tokens(520)
    supervisor.turn(whole, "one")
    supervisor.seat()
    written = [m for m in supervisor.messages if isinstance(m, BlockWritten)]
    supervisor.tails = [
        TailRef(file=report.file, parent=report.parent, tokens=report.tokens) for report in written
    ]
    turn = supervisor.turn([*whole[:400], 3, 4, 5], "two")
    assert (turn.started.restored_tokens, turn.started.live_tokens) == (400, 0)
    supervisor.blocks.clear()
    supervisor.tails.clear()
    supervisor.seat()
    assert supervisor.turn([*whole[:400], 3, 4, 5]).tokens == turn.tokens


def test_written_block_is_reported_with_its_tokens(supervisor):
    tokens = prompt_tokens(300)
    supervisor.turn(tokens)
    report = next(m for m in supervisor.messages if isinstance(m, BlockWritten))
    assert report.tokens == pack_tokens(tokens[:256])


def test_equal_prefix_of_two_sessions_is_written_once(supervisor):
    shared = prompt_tokens(600)
    supervisor.turn([*shared, 7], "one")
    supervisor.turn([*shared, 8], "two")
    written = [m.block for m in supervisor.messages if isinstance(m, BlockWritten) and m.is_new]
    assert len(written) == len(set(written)) == 2


def test_prompt_that_leaves_what_another_one_holds_is_told(supervisor):
    shared = prompt_tokens(300)
    supervisor.turn([*shared, 70, 71, 72], "one", max_tokens=1)
    supervisor.turn([*shared, 80, 81, 82])
    told = next(m for m in supervisor.messages if isinstance(m, Diverged))
    assert (told.position, told.same_text) == (300, False)
    assert told.held != told.given


def test_block_that_went_from_disk_is_written_again_with_its_tail(supervisor):
    supervisor.turn(prompt_tokens(600), "one")
    supervisor.checkpoint()
    (first, *_), before = list(supervisor.blocks), len(supervisor.tails)
    (supervisor.kv_dir / supervisor.blocks.pop(first)).unlink()
    supervisor.engine.handle(Rewrite(block=first))
    supervisor.checkpoint()
    assert (supervisor.kv_dir / supervisor.blocks[first]).exists()
    assert len(supervisor.tails) == before + 1


def test_short_contexts_that_begin_as_a_long_one_hold_no_more_than_is_counted(supervisor):
    shared = prompt_tokens(60)
    supervisor.turn([*shared, *prompt_tokens(1500, 3)], "long", max_tokens=1)
    for number in range(4):
        supervisor.start([*shared, 7, 8, number + 9], f"short{number}", max_tokens=20)
    seat = supervisor.engine._seat
    rows = 0
    while seat.runner.is_busy or len(seat.entry):
        supervisor.advance()
        held = sum(lane.held_bytes for lane in seat.runner.lanes)
        counted = seat.budget.need_bytes([lane.reservations() for lane in seat.runner.lanes], 0)
        assert held <= counted
        rows = max(rows, *(len(lane.turns) for lane in seat.runner.lanes))
    assert rows == 4


def test_shared_context_that_has_to_make_room_is_read_from_disk_instead(supervisor):
    """Beside a twin there is room for it no more: the source is chosen again without it."""
    budget = KvBudget(supervisor.record, 0).need_bytes([[1024]], 0)
    supervisor.load["kv_budget_bytes"] = budget
    supervisor.seat()
    shared = prompt_tokens(300)
    supervisor.turn([*shared, 7, 8], "one")
    request = supervisor.start([*shared, 9, 10], "two", max_tokens=700)
    started = supervisor.until(Started, request)
    assert (started.restored_tokens, started.live_tokens) == (256, 0)
    assert supervisor.engine._seat.keeper.live.names() == ()
