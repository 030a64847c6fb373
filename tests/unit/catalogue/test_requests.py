"""Accepted requests and replies are stored once and end once."""

import asyncio

import pytest
from tests.support.models.records import accept_record, turn_commit

from hotseat.protocol.errors import HotseatError


async def test_resent_id_gets_the_stored_request(catalogue):
    first = await catalogue.accept(accept_record(seed=7))
    again = await catalogue.accept(accept_record(seed=8, created_at=2.0))
    assert (first.is_new, again.is_new) == (True, False)
    assert again.same_body
    assert again.row == first.row
    assert again.row.seed == 7
    assert again.row.body == b"body"


async def test_resent_id_with_another_body_is_visible(catalogue):
    await catalogue.accept(accept_record())
    again = await catalogue.accept(accept_record(body=b"other"))
    assert (again.is_new, again.same_body, again.row.body) == (False, False, b"body")


async def test_body_is_still_compared_after_the_end(catalogue):
    record = accept_record()
    await catalogue.accept(record)
    await catalogue.finish(record.key, "done", b"reply", 2.0)
    same = await catalogue.accept(record)
    other = await catalogue.accept(accept_record(body=b"other"))
    assert (same.row.state, same.row.reply, same.row.body) == ("done", b"reply", b"")
    assert (same.same_body, other.same_body) == (True, False)


async def test_two_accepts_at_once_store_one(catalogue):
    both = await asyncio.gather(*[catalogue.accept(accept_record(seed=n)) for n in range(8)])
    assert [one.is_new for one in both].count(True) == 1
    assert len({one.row.seed for one in both}) == 1


async def test_second_end_changes_nothing(catalogue):
    record = accept_record()
    await catalogue.accept(record)
    assert await catalogue.finish(record.key, "error", b"first", 2.0)
    assert not await catalogue.finish(record.key, "done", b"second", 3.0)
    row = await catalogue.request(record.key)
    assert (row.state, row.reply, row.ended_at) == ("error", b"first", 2.0)


async def test_rejected_request_is_forgotten_and_ended_one_is_not(catalogue):
    kept, refused = accept_record("kept"), accept_record("refused")
    for record in (kept, refused):
        await catalogue.accept(record)
    await catalogue.finish(kept.key, "done", b"", 2.0)
    assert await catalogue.reject(refused.key)
    assert not await catalogue.reject(kept.key)
    assert await catalogue.request(refused.key) is None
    assert await catalogue.request(kept.key) is not None


async def test_unfinished_lists_only_running_oldest_first(catalogue):
    for number, name in enumerate(("b", "a", "done")):
        await catalogue.accept(accept_record(name, created_at=float(number)))
    await catalogue.finish(accept_record("done").key, "done", b"", 9.0)
    await catalogue.note_offset(accept_record("a").key, 12)
    rows = await catalogue.unfinished()
    assert [(row.request_id, row.offset_tokens) for row in rows] == [("b", 0), ("a", 12)]


async def test_prune_drops_old_then_oldest_over_the_bytes(catalogue):
    for number in range(5):
        record = accept_record(f"r{number}")
        await catalogue.accept(record)
        await catalogue.finish(record.key, "done", b"x" * 100, 100.0 + number)
    await catalogue.accept(accept_record("running"))
    removed = await catalogue.prune_replies(now=161.0, keep_s=60.0, keep_bytes=250)
    left = [
        number for number in range(5) if await catalogue.request(accept_record(f"r{number}").key)
    ]
    assert (removed, left) == (3, [3, 4])
    assert await catalogue.request(accept_record("running").key) is not None


async def test_turn_of_an_ended_request_is_not_committed(catalogue):
    record = accept_record()
    await catalogue.accept(record)
    await catalogue.finish(record.key, "error", b"interrupted", 2.0)
    with pytest.raises(HotseatError, match="ended already"):
        await catalogue.commit_turn(turn_commit([1, 2], key=record.key, reply=b"done"))
    assert await catalogue.session("m", "s") is None
    assert (await catalogue.request(record.key)).reply == b"interrupted"


async def test_turn_and_reply_are_stored_together(catalogue):
    record = accept_record()
    await catalogue.accept(record)
    done = await catalogue.commit_turn(turn_commit([1, 2], key=record.key, reply=b"done"))
    row = await catalogue.request(record.key)
    assert (done.turn, row.state, row.reply) == (1, "done", b"done")


async def test_replies_of_a_removed_session_go_and_those_of_others_stay(catalogue):
    for key, session in (("c.1", "s"), ("c.2", "s"), ("c.3", "other")):
        await catalogue.accept(accept_record(key=key, request_id=key, session=session))
    await catalogue.finish("c.3", "done", b"reply", 2.0)
    await catalogue.commit_turn(turn_commit([1, 2], key="c.1", reply=b"reply"))
    await catalogue.delete_session("m", "s")
    assert await catalogue.request("c.1") is None
    assert (await catalogue.request("c.2")).state == "accepted"
    assert (await catalogue.request("c.3")).reply == b"reply"
